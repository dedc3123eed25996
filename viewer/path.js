// The critical path, drawn over the lanes: a line through the thread that the run waited for,
// and an arrow where the path passes on to the next one. Where that is too fast to be drawn, each
// of the threads gets a thin line, the fainter the smaller its share.

const PATH = REPORT.critical_path; // {thread, state, object, under, start_ns, ns}, in order of time
const NARROW = 6; // px
const FEW = 3; // so many stretches within that are still drawn one by one
let pathShown = false;

/** Whether the path says more than the lanes: it needs two threads, and a tier that sees who wakes whom. */
const hasPath = () => PATH.length > 0 && REPORT.threads.length > 1
  && (REPORT.focus !== null || !['perf', 'proc'].includes(REPORT.tier));

const endOf = (step) => step.start_ns + step.ns;

/** The index of the first step that ends after an instant. */
function firstStep(t) {
  let [low, high] = [0, PATH.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (endOf(PATH[middle]) <= t) low = middle + 1; else high = middle;
  }
  return low;
}

/** The path in view, as stretches of one thread each. */
function pathStretches() {
  const stretches = [];
  for (let i = firstStep(view.from); i < PATH.length && PATH[i].start_ns < view.to; i += 1) {
    const step = PATH[i];
    const [from, to] = [Math.max(view.from, step.start_ns), Math.min(view.to, endOf(step))];
    const last = stretches[stretches.length - 1];
    if (last?.thread === step.thread && last.to === from) last.to = to;
    else stretches.push({ from, to, thread: step.thread });
  }
  return stretches;
}

/** What to draw: lists of stretches, each alone but for those of which too many lie within a few px. */
function pathPieces(width) {
  const pieces = [];
  let narrow = [];
  const flush = () => {
    if (narrow.length > FEW) pieces.push(narrow); else pieces.push(...narrow.map((stretch) => [stretch]));
    narrow = [];
  };
  for (const stretch of pathStretches()) {
    const wide = xOf(stretch.to, width) - xOf(stretch.from, width) >= NARROW;
    if (wide || (narrow.length && xOf(stretch.to, width) - xOf(narrow[0].from, width) > NARROW)) flush();
    if (wide) pieces.push([stretch]); else narrow.push(stretch);
  }
  flush();
  return pieces;
}

/** The middle of each thread's lane, in px; a thread whose process is folded away goes by that. */
function laneMiddles(scrolled) {
  const middles = new Map();
  rows.forEach(({ process, thread }, i) => {
    const middle = i * ROW - scrolled + (ROW - PAD) / 2;
    if (thread) return middles.set(thread.id, middle);
    if (!closed.has(process.id)) return undefined;
    for (const of of REPORT.threads) if (of.process === process.id && LANE_BY_ID.has(of.id)) middles.set(of.id, middle);
    return undefined;
  });
  return middles;
}

function drawPath(context, width, scrolled) {
  if (!pathShown) return;
  const middles = laneMiddles(scrolled);
  const pieces = pathPieces(width);
  const lines = []; // whole ones: [x0, y0, x1, y1]
  const shared = []; // [x0, x1, y, share]
  const heads = []; // [x, y, direction]
  let [before, ns] = [null, 0];
  for (const piece of pieces) {
    const [from, to] = [piece[0].from, piece[piece.length - 1].to];
    const [x0, x1] = [xOf(from, width), Math.max(xOf(to, width), xOf(from, width) + 1)];
    const byThread = new Map();
    for (const stretch of piece) {
      byThread.set(stretch.thread, (byThread.get(stretch.thread) ?? 0) + stretch.to - stretch.from);
      ns += stretch.to - stretch.from;
    }
    const y = piece.length === 1 ? middles.get(piece[0].thread) : undefined;
    if (y !== undefined) lines.push([x0, y, x1, y]);
    else for (const [id, part] of byThread) if (middles.has(id)) shared.push([x0, x1, middles.get(id), part / (to - from)]);
    if (before?.to === from && y !== undefined && before.y !== undefined && y !== before.y) {
      lines.push([x0, before.y, x0, y]);
      heads.push([x0, y, Math.sign(y - before.y)]);
    }
    before = { to, y };
  }
  strokePath(context, lines, shared, heads);
  Object.assign($('#lanes').dataset, { pathNs: Math.round(ns), pathPieces: pieces.length, handOvers: heads.length });
}

function strokePath(context, lines, shared, heads) {
  context.lineCap = 'round';
  for (const [x0, x1, y, share] of shared) {
    context.globalAlpha = 0.3 + 0.7 * share;
    context.fillStyle = theme('--bg');
    context.fillRect(x0, y - 2, x1 - x0, 4);
    context.fillStyle = theme('--path');
    context.fillRect(x0, y - 1, x1 - x0, 2);
  }
  context.globalAlpha = 1;
  for (const [color, thick] of [[theme('--bg'), 5], [theme('--path'), 2.5]]) {
    context.strokeStyle = context.fillStyle = color;
    context.lineWidth = thick;
    context.beginPath();
    for (const [x0, y0, x1, y1] of lines) { context.moveTo(x0, y0); context.lineTo(x1, y1); }
    context.stroke();
    for (const [x, y, down] of heads) {
      context.beginPath();
      context.moveTo(x, y + down);
      for (const side of [-1, 1]) context.lineTo(x + side * (thick + 1), y - down * (thick + 4));
      context.fill();
    }
  }
}

/** What the tooltip of a lane says of the path at an instant: nothing where it goes through another thread. */
function pathTip(thread, t) {
  const step = PATH[firstStep(t)];
  if (!pathShown || !step || step.thread !== thread.id || step.start_ns > t) return null;
  const lock = REPORT.objects[step.under]?.label;
  return el('div', {}, el('b', {}, 'on the critical path'), ` for ${time(step.ns)}`,
    lock ? `, while others waited for ${lock}` : '');
}

/** The switch that shows the line, with what the line means. */
function startPath() {
  const box = $('#path');
  box.hidden = !hasPath();
  if (box.hidden) return;
  const button = $('button', box);
  const toggle = (on) => {
    pathShown = on;
    button.setAttribute('aria-pressed', String(on));
    redrawSoon();
  };
  button.addEventListener('click', () => toggle(!pathShown));
  toggle(true);
  const folded = Object.values(REPORT.path.folded).reduce((sum, ns) => sum + ns, 0);
  const whole = REPORT.focus ? 'what was asked for' : 'the run';
  const ofOne = REPORT.focus !== null && REPORT.focus.thread !== null; // that path comes back from whom it waited for
  const arrows = ofOne ? 'An arrow leads to whoever was waited for, and back.' : 'An arrow is a wake-up, or the start of a thread, that passes it on.';
  $('span', box).textContent = `The line is the one chain of causes that is as long as ${whole}: whoever it runs through was waited for, and only what lies on it `
    + `can make ${whole} shorter. ${arrows} Where that happens too fast to be drawn, the threads share a thin line.`
    + (folded > 0 ? ` ${percent(folded, REPORT.path.ns)} of it are steps too short to be kept one by one, and not drawn.` : '');
}
