// One lane per thread. A stretch too short for a pixel column, or that the file only holds
// as a mixture, is drawn as bands: each state's height is its share of that time.

const LANES = DATA.lanes; // {threads: [{id, items}], shortest_ns, details, hidden}
const ROW = 20; // px
const PAD = 2; // px between lanes
const LANE_BY_ID = new Map(LANES.threads.map((lane) => [lane.id, lane]));
const closed = new Set(); // ids of processes whose lanes are folded away
let rows = []; // {process} or {thread, lane}
let hatch = null;

/** The items of a lane as arrays: bounds in ns of the run, and where each item begins in `items`. */
function decode(lane, start) {
  if (lane.bounds) return lane;
  const { items } = lane;
  const bounds = [start];
  const offsets = [];
  for (let i = 0; i < items.length;) {
    offsets.push(i);
    let length = 0;
    if (items[i] >= 0) {
      length = items[i + 1];
      i += 3;
    } else {
      const parts = -items[i];
      for (let k = 0; k < parts; k += 1) length += items[i + 2 + 2 * k];
      i += 1 + 2 * parts;
    }
    bounds.push(bounds[bounds.length - 1] + length);
  }
  lane.bounds = Float64Array.from(bounds);
  lane.offsets = offsets;
  return lane;
}

/** The item of a lane at an instant, or -1. */
function itemAt(lane, t) {
  const { bounds } = lane;
  if (!lane.offsets.length || t < bounds[0] || t >= bounds[bounds.length - 1]) return -1;
  let [low, high] = [0, lane.offsets.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (bounds[middle] <= t) low = middle; else high = middle - 1;
  }
  return low;
}

/** Calls `visit(state, share)` for an item; shares sum to 1. */
function shares(lane, index, visit) {
  const { items } = lane;
  const i = lane.offsets[index];
  if (items[i] >= 0) return visit(items[i], 1);
  const whole = lane.bounds[index + 1] - lane.bounds[index];
  for (let k = 0; k < -items[i]; k += 1) visit(items[i + 1 + 2 * k], items[i + 2 + 2 * k] / whole);
  return undefined;
}

function layoutRows() {
  rows = [];
  const byProcess = new Map(REPORT.processes.map((process) => [process.id, []]));
  for (const thread of REPORT.threads) {
    const lane = LANE_BY_ID.get(thread.id);
    if (lane) byProcess.get(thread.process)?.push({ thread, lane: decode(lane, thread.start_ns) });
  }
  for (const process of REPORT.processes) {
    const own = byProcess.get(process.id);
    if (!own.length) continue;
    rows.push({ process, threads: own.length });
    if (!closed.has(process.id)) rows.push(...own);
  }
}

function fillOf(context, state) {
  if (state !== UNKNOWN) return STATES[state].color;
  if (!hatch) {
    const tile = document.createElement('canvas');
    tile.width = tile.height = 6;
    const pen = tile.getContext('2d');
    pen.fillStyle = STATES[UNKNOWN].color;
    pen.fillRect(0, 0, 6, 6);
    pen.strokeStyle = theme('--bg');
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (const k of [-6, 0, 6]) { pen.moveTo(k, 6); pen.lineTo(k + 6, 0); }
    pen.stroke();
    hatch = context.createPattern(tile, 'repeat');
  }
  return hatch;
}

/** Bands of states one above the other; `parts` by state, summing to `whole`. */
function drawBands(context, x, width, top, height, parts, whole) {
  let y = top + height;
  for (let state = 0; state < parts.length; state += 1) {
    if (!parts[state]) continue;
    const band = (height * parts[state]) / whole;
    context.globalAlpha = view.only === null || view.only === state ? 1 : 0.1;
    context.fillStyle = fillOf(context, state);
    context.fillRect(x, y - band, width, band);
    y -= band;
  }
  context.globalAlpha = 1;
}

function drawLane(context, lane, width, top) {
  const height = ROW - PAD;
  const { bounds } = lane;
  const end = bounds[bounds.length - 1];
  if (end <= view.from || bounds[0] >= view.to) return;
  const column = new Float64Array(STATES.length); // what falls into the pixel column `at`
  let [at, inColumn] = [-1, 0];
  const flush = () => {
    if (inColumn > 0) drawBands(context, at, 1, top, height, column, inColumn);
    column.fill(0);
    inColumn = 0;
  };
  const gather = (index, x, part) => {
    if (part <= 0) return;
    if (x !== at) { flush(); at = x; }
    shares(lane, index, (state, share) => { column[state] += share * part; });
    inColumn += part;
  };
  const first = Math.max(0, itemAt(lane, Math.max(view.from, bounds[0])));
  for (let i = first; i < lane.offsets.length && bounds[i] < view.to; i += 1) {
    const x0 = Math.max(GUTTER, xOf(bounds[i], width));
    const x1 = Math.min(width, xOf(bounds[i + 1], width));
    const [p0, p1] = [Math.floor(x0), Math.floor(x1)];
    if (p0 === p1) { gather(i, p0, x1 - x0); continue; }
    gather(i, p0, p0 + 1 - x0);
    if (p1 > p0 + 1) {
      flush();
      const whole = new Float64Array(STATES.length);
      shares(lane, i, (state, share) => { whole[state] = share; });
      drawBands(context, p0 + 1, p1 - p0 - 1, top, height, whole, 1);
    }
    gather(i, p1, x1 - p1);
  }
  flush();
}

/** `text` cut to fit, with an ellipsis. */
function fit(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let cut = text.slice(0, 60);
  while (cut && context.measureText(`${cut}…`).width > width) cut = cut.slice(0, -1);
  return `${cut}…`;
}

function drawLanes() {
  const box = $('#lanes');
  const canvas = $('canvas', box);
  const height = Math.min(rows.length * ROW, Math.max(160, Math.round(innerHeight * 0.62)));
  box.style.height = `${height + 2}px`;
  $('.spacer', box).style.height = `${rows.length * ROW}px`;
  const width = box.clientWidth;
  const context = prepare(canvas, width, height);
  const scrolled = box.scrollTop;
  for (let i = Math.floor(scrolled / ROW); i < rows.length && i * ROW < scrolled + height; i += 1) {
    const top = i * ROW - scrolled;
    const { process, thread, lane } = rows[i];
    context.textAlign = 'left';
    if (process) {
      context.fillStyle = theme('--ink');
      context.font = '600 12px system-ui, "DejaVu Sans", sans-serif';
      const mark = closed.has(process.id) ? '▸' : '▾';
      context.fillText(fit(context, `${mark} ${process.name} (${process.pid}), ${plural(rows[i].threads, 'thread')}`, width - 10), 2, top + ROW / 2);
      context.font = '12px system-ui, "DejaVu Sans", sans-serif';
      continue;
    }
    context.fillStyle = theme('--soft');
    context.fillText(fit(context, called(thread) || String(thread.tid), GUTTER - 78), 14, top + ROW / 2);
    context.textAlign = 'right';
    context.fillText(String(thread.tid), GUTTER - 8, top + ROW / 2);
    context.fillStyle = theme('--lane');
    context.fillRect(GUTTER, top, width - GUTTER, ROW - PAD);
    drawLane(context, lane, width, top);
  }
  drawPath(context, width, scrolled);
  drawCursor(context, width, height);
}

/** What a lane shows at an instant, for the tooltip. */
function describe(thread, lane, index) {
  const { items } = lane;
  const i = lane.offsets[index];
  const [from, to] = [lane.bounds[index], lane.bounds[index + 1]];
  const head = el('div', {}, el('b', {}, called(thread) || 'thread'), ` ${thread.tid}`);
  const when = el('div', { class: 'exact' }, `from ${instant(from)} to ${instant(to)} of the run`);
  const lasted = (ns) => el('div', { 'data-ns': ns }, `for ${time(ns)} `, el('span', { class: 'exact' }, `(${exact(ns)})`));
  if (items[i] >= 0) {
    const what = LANES.details[items[i + 2]];
    // Ready again, it no longer waits for that.
    const detail = what && STATES[items[i]].name === 'runnable' ? `after ${what}` : what;
    return [head, stateLine(items[i]), detail ? el('div', {}, detail) : null, lasted(to - from), when].filter(Boolean);
  }
  const parts = [];
  shares(lane, index, (state, share) => parts.push([state, Math.round(share * (to - from))]));
  parts.sort((a, b) => b[1] - a[1]);
  return [head, el('div', {}, `several stretches shorter than ${time(LANES.shortest_ns)}, together:`),
    ...parts.map(([state, ns]) => el('div', {}, dot(state), el('b', {}, STATES[state].name), ` ${time(ns)}, ${percent(ns, to - from)}`)),
    lasted(to - from), when];
}

function lanesTip(event, x) {
  const box = $('#lanes');
  const row = rows[Math.floor((event.clientY - $('canvas', box).getBoundingClientRect().top + box.scrollTop) / ROW)];
  if (!row) return hideTip();
  if (row.process) {
    return showTip(event.clientX, event.clientY, [el('b', {}, `${row.process.name} (${row.process.pid})`),
      el('div', {}, row.process.argv.join(' ').slice(0, 400)), el('div', { class: 'exact' }, 'press to fold its threads')]);
  }
  const index = x < GUTTER ? -1 : itemAt(row.lane, timeAt(x, box.clientWidth));
  if (index >= 0) {
    const onPath = pathTip(row.thread, timeAt(x, box.clientWidth));
    return showTip(event.clientX, event.clientY, [...describe(row.thread, row.lane, index), onPath].filter(Boolean));
  }
  const life = row.thread.end_ns - row.thread.start_ns;
  return showTip(event.clientX, event.clientY, [el('b', {}, `${called(row.thread)} ${row.thread.tid}`),
    el('div', {}, `lived ${time(life)}, from ${instant(row.thread.start_ns)} of the run`), stateBar(row.thread.states, life, false)]);
}

function startLanes() {
  const box = $('#lanes');
  const canvas = $('canvas', box);
  layoutRows();
  timeGestures(canvas, lanesTip);
  canvas.addEventListener('click', (event) => {
    const row = rows[Math.floor((event.clientY - canvas.getBoundingClientRect().top + box.scrollTop) / ROW)];
    if (!row?.process) return;
    if (!closed.delete(row.process.id)) closed.add(row.process.id);
    layoutRows();
    redrawSoon();
  });
  box.addEventListener('scroll', () => { hideTip(); redrawSoon(); });
  view.listeners.push(drawLanes);

  $('#timeline .lead').textContent = 'Time runs from left to right. Above, how many threads were on a CPU; below, what each thread did.';
  const notes = ['Where stretches are too short to draw apart, a column is split by their share of its time.'];
  if (LANES.shortest_ns > 0) {
    notes.push(`To keep this page small, stretches under ${time(LANES.shortest_ns)} are stored as shares, not one by one; the trace file and trace.pftrace hold every one. All totals are exact.`);
  }
  if (LANES.hidden.threads > 0) {
    const states = nonZero(LANES.hidden.states).slice(0, 4).map(([i, ns]) => `${STATES[i].name} ${time(ns)}`).join(', ');
    notes.push(`Lanes are drawn for the ${count(LANES.threads.length)} longest-lived threads; the ${count(LANES.hidden.threads)} others lived ${time(LANES.hidden.thread_ns)} together (${states}) and stand in the table below.`);
  }
  $('#timeline .thinned').textContent = notes.join(' ');
}
