// The stretch of time that is shown: shared by the CPU chart and the lanes.

const GUTTER = 190; // px, for names left of the time axis
const WALL = Math.max(1, REPORT.wall_ns);
const SHORTEST_VIEW = Math.min(WALL, 200); // ns

/** From .. to in ns of the run, the state shown alone, and who redraws. */
const view = { from: 0, to: WALL, only: null, hover: null, listeners: [] };

function redraw() {
  for (const listener of view.listeners) listener();
}

let drawing = 0;
function redrawSoon() {
  if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; redraw(); });
}

function show(from, to) {
  const length = Math.min(WALL, Math.max(SHORTEST_VIEW, to - from));
  const start = Math.min(Math.max(0, from), WALL - length);
  view.from = start;
  view.to = start + length;
  $('#timeline .range').textContent = view.from === 0 && view.to === WALL
    ? `whole run, ${time(WALL)}`
    : `${time(Math.round(view.to - view.from))} from ${time(Math.round(view.from))}`;
  $('#timeline .range').dataset.from = Math.round(view.from);
  $('#timeline .range').dataset.to = Math.round(view.to);
  redrawSoon();
}

/** Zooms by `factor`, keeping the instant `at` in its place. */
function zoom(factor, at = (view.from + view.to) / 2) {
  show(at - (at - view.from) * factor, at + (view.to - at) * factor);
}

function pan(share) {
  const by = (view.to - view.from) * share;
  show(view.from + by, view.to + by);
}

const ACTIONS = {
  in: () => zoom(0.6), out: () => zoom(1 / 0.6), left: () => pan(-0.25), right: () => pan(0.25), all: () => show(0, WALL),
};
const KEYS = { w: 'in', s: 'out', a: 'left', d: 'right', '+': 'in', '-': 'out', 0: 'all', ArrowLeft: 'left', ArrowRight: 'right' };

/** px on a canvas of this width from an instant. */
const xOf = (t, width) => GUTTER + ((t - view.from) / (view.to - view.from)) * (width - GUTTER);
const timeAt = (x, width) => view.from + ((x - GUTTER) / (width - GUTTER)) * (view.to - view.from);

/** Fits a canvas to its box and the screen; gives its context, in CSS px. */
function prepare(canvas, width, height) {
  const scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext('2d');
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = '12px system-ui, "DejaVu Sans", sans-serif';
  context.textBaseline = 'middle';
  return context;
}

/** Round instants, some 110 px apart. */
function ticks(width) {
  const wanted = ((view.to - view.from) * 110) / Math.max(110, width - GUTTER);
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= wanted));
  const list = [];
  for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) list.push(t);
  return { list, step };
}

/** An instant with as many digits as the step between ticks needs. */
function tickText(t, step) {
  const [divisor, unit] = t >= 1e9 || step >= 1e8 ? [1e9, 's'] : t >= 1e6 || step >= 1e5 ? [1e6, 'ms'] : t >= 1e3 ? [1e3, 'us'] : [1, 'ns'];
  const digits = Math.min(9, Math.max(0, -Math.floor(Math.log10(step / divisor) + 1e-9)));
  return `${(t / divisor).toFixed(digits)} ${unit}`;
}

/** Drag to zoom, shift+drag to pan, ctrl+wheel to zoom at the pointer. */
function timeGestures(canvas, move) {
  let start = null;
  const at = (event) => event.clientX - canvas.getBoundingClientRect().left;
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button > 1 || at(event) < GUTTER) return;
    start = { x: at(event), from: view.from, to: view.to, pan: event.shiftKey || event.button === 1 };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', (event) => {
    const x = at(event);
    view.hover = x >= GUTTER ? timeAt(x, canvas.clientWidth) : null;
    if (start?.pan) {
      const by = ((start.x - x) / (canvas.clientWidth - GUTTER)) * (start.to - start.from);
      show(start.from + by, start.to + by);
    } else if (start && Math.abs(x - start.x) > 3) {
      view.selection = [start.x, x].map((px) => timeAt(Math.max(GUTTER, px), canvas.clientWidth)).sort((a, b) => a - b);
    }
    move(event, x);
    redrawSoon();
  });
  const end = () => {
    if (start && !start.pan && view.selection) show(...view.selection);
    start = null;
    view.selection = null;
    redrawSoon();
  };
  canvas.addEventListener('pointerup', end);
  canvas.addEventListener('pointercancel', () => { view.selection = null; end(); });
  canvas.addEventListener('pointerleave', () => { view.hover = null; hideTip(); redrawSoon(); });
  canvas.addEventListener('dblclick', () => show(0, WALL));
  canvas.addEventListener('wheel', (event) => {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.006), timeAt(Math.max(GUTTER, at(event)), canvas.clientWidth));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan((event.deltaX || event.deltaY) / 600);
    }
  }, { passive: false });
}

/** The pointer's instant and the stretch being selected. */
function drawCursor(context, width, height) {
  if (view.selection) {
    const [a, b] = view.selection.map((t) => xOf(t, width));
    context.fillStyle = theme('--accent');
    context.globalAlpha = 0.25;
    context.fillRect(a, 0, b - a, height);
    context.globalAlpha = 1;
  } else if (view.hover !== null) {
    context.fillStyle = theme('--soft');
    context.fillRect(Math.round(xOf(view.hover, width)), 0, 1, height);
  }
}

function wireTimeline() {
  const section = $('#timeline');
  let inside = false;
  section.addEventListener('pointerenter', () => { inside = true; });
  section.addEventListener('pointerleave', () => { inside = false; });
  for (const button of section.querySelectorAll('[data-do]')) {
    button.addEventListener('click', ACTIONS[button.dataset.do]);
  }
  addEventListener('keydown', (event) => {
    const busy = event.ctrlKey || event.metaKey || event.altKey || event.target.matches('input, textarea');
    const action = KEYS[event.key];
    if (busy || !action || !(inside || section.contains(document.activeElement))) return;
    ACTIONS[action]();
    event.preventDefault();
  });
  const legend = $('.legend', section);
  for (const [i] of nonZero(REPORT.budget.states)) {
    const button = el('button', { type: 'button', 'aria-pressed': 'false', title: STATES[i].meaning }, dot(i), STATES[i].name);
    button.addEventListener('click', () => {
      view.only = view.only === i ? null : i;
      for (const other of legend.children) other.setAttribute('aria-pressed', String(other === button && view.only === i));
      redrawSoon();
    });
    legend.append(button);
  }
  addEventListener('resize', redrawSoon);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { hatch = null; redrawSoon(); });
}
