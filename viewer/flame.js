// Flame graphs, outermost function at the top. A node is {name, value, depth, start, parent}.

const FLAMES = DATA.flames; // {kind: {title, about, names, nodes: [depth, name, ns, ...], pruned}}
const FRAME = 20; // px
const graphs = new Map();
const flame = { kind: null, focus: 0, query: '' };

/** Nodes in preorder with their start (ns from the graph's left edge). */
function graphOf(kind) {
  if (graphs.has(kind)) return graphs.get(kind);
  const { names, nodes: flat } = FLAMES[kind];
  const nodes = [];
  const open = []; // the path down to the last node
  for (let i = 0; i < flat.length; i += 3) {
    const [depth, name, value] = [flat[i], names[flat[i + 1]], flat[i + 2]];
    open.length = depth;
    const parent = depth ? open[depth - 1] : null;
    const start = parent === null ? 0 : nodes[parent].next;
    if (parent !== null) nodes[parent].next = start + value;
    open.push(nodes.length);
    nodes.push({ name, value, depth, start, parent, next: start });
  }
  graphs.set(kind, nodes);
  return nodes;
}

/** A colour that a name always has. */
function colorOf(node, kind) {
  const state = node.name.startsWith('[') ? STATE_INDEX.get(node.name.slice(1, -1)) : undefined;
  if (state !== undefined && kind !== 'on-cpu') return STATES[state].color;
  if (node.depth < 3 || node.name === '[no stack]') return null; // all, process, thread: the theme's grey
  let hash = 2166136261;
  for (const c of node.name) hash = Math.imul(hash ^ c.codePointAt(0), 16777619) >>> 0;
  const shade = (hash % 1000) / 1000;
  if (kind !== 'on-cpu') return hsl(212 + 14 * shade, 28, 66 + 12 * shade);
  return node.name.endsWith('_[k]') ? hsl(6 + 8 * shade, 55, 62 + 8 * shade) : hsl(26 + 26 * shade, 78, 62 + 8 * shade);
}

/** As `#rrggbb`, so that the ink on it can be chosen. */
function hsl(h, s, l) {
  const a = (s / 100) * Math.min(l / 100, 1 - l / 100);
  const channel = (n) => {
    const k = (n + h / 30) % 12;
    const c = l / 100 - a * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * c).toString(16).padStart(2, '0');
  };
  return `#${channel(0)}${channel(8)}${channel(4)}`;
}

function frameElement(node, index, kind, left, width, whole) {
  const label = `${node.name}, ${time(node.value)}, ${percent(node.value, whole)}`;
  const box = el('div', { tabindex: '-1', role: 'treeitem', 'aria-label': label, 'data-ns': node.value, 'data-node': index }, width > 0.02 ? node.name : '');
  box.style.left = `${100 * left}%`;
  box.style.width = `${100 * width}%`;
  box.style.top = `${node.depth * FRAME}px`;
  const color = colorOf(node, kind);
  if (color) {
    box.style.backgroundColor = color;
    box.style.color = inkOn(color);
  }
  if (flame.query && node.name.toLowerCase().includes(flame.query)) box.classList.add('hit');
  return box;
}

function drawFlame() {
  const target = $('#flames .flame');
  const { kind } = flame;
  const nodes = graphOf(kind);
  $('#flames .lead').textContent = FLAMES[kind].about;
  $('#flames .note').textContent = FLAMES[kind].pruned;
  if (!nodes.length || !nodes[0].value) {
    target.replaceChildren(el('div', { class: 'empty' }, FLAMES[kind].about));
    target.style.height = 'auto';
    return;
  }
  const focus = nodes[flame.focus] ?? nodes[0];
  const above = new Set();
  for (let i = focus.parent; i !== null; i = nodes[i].parent) above.add(i);
  const narrowest = 0.6 / Math.max(300, target.clientWidth);
  const boxes = [];
  let deepest = 0;
  nodes.forEach((node, i) => {
    const over = above.has(i);
    const left = over ? 0 : (node.start - focus.start) / focus.value;
    const width = over ? 1 : node.value / focus.value;
    const outside = !over && (node.depth < focus.depth || left < -1e-9 || left + width > 1 + 1e-9);
    if (outside || width < narrowest) return;
    const box = frameElement(node, i, kind, left, width, nodes[0].value);
    if (over) box.classList.add('over');
    deepest = Math.max(deepest, node.depth);
    boxes.push(box);
  });
  boxes[above.size]?.setAttribute('tabindex', '0');
  target.replaceChildren(...boxes);
  target.style.height = `${(deepest + 1) * FRAME}px`;
  drawFound(nodes);
}

/** Time in functions that match, each nanosecond once. */
function drawFound(nodes) {
  const output = $('#flames .found');
  if (!flame.query) { output.textContent = ''; return; }
  let [sum, covered] = [0, -1];
  for (const node of nodes) {
    if (covered >= 0 && node.depth > covered) continue;
    covered = node.name.toLowerCase().includes(flame.query) ? node.depth : -1;
    if (covered >= 0) sum += node.value;
  }
  output.dataset.ns = sum;
  output.textContent = sum ? `found in ${time(sum)}, ${percent(sum, nodes[0].value)}` : 'not found';
}

function focusOn(index) {
  flame.focus = index;
  drawFlame();
  $(`#flames [data-node="${index}"]`)?.focus({ preventScroll: true });
}

/** The drawn frame in a direction: down into the widest callee, up to the caller, to a sibling. */
function neighbour(index, key) {
  const nodes = graphOf(flame.kind);
  const node = nodes[index];
  const drawn = [...document.querySelectorAll('#flames [data-node]')].map((box) => Number(box.dataset.node));
  const near = {
    ArrowUp: () => node.parent,
    ArrowDown: () => drawn.find((i) => nodes[i].parent === index),
    ArrowRight: () => drawn.find((i) => i > index && nodes[i].depth === node.depth),
    ArrowLeft: () => drawn.filter((i) => i < index && nodes[i].depth === node.depth).pop(),
  };
  return near[key]?.();
}

function selectKind(kind) {
  flame.kind = kind;
  flame.focus = 0;
  for (const tab of $('#flames .tabs').children) tab.setAttribute('aria-selected', String(tab.dataset.kind === kind));
  drawFlame();
}

function startFlames() {
  const section = $('#flames');
  for (const [kind, { title }] of Object.entries(FLAMES)) {
    const tab = el('button', { type: 'button', role: 'tab', 'data-kind': kind }, title);
    tab.addEventListener('click', () => selectKind(kind));
    $('.tabs', section).append(tab);
  }
  const target = $('.flame', section);
  const indexOf = (event) => {
    const box = event.target.closest('[data-node]');
    return box ? Number(box.dataset.node) : null;
  };
  target.addEventListener('click', (event) => { if (indexOf(event) !== null) focusOn(indexOf(event)); });
  target.addEventListener('keydown', (event) => {
    const index = indexOf(event);
    if (index === null) return;
    if (event.key === 'Enter' || event.key === ' ') focusOn(index);
    else if (event.key === 'Escape') focusOn(0);
    else {
      const next = neighbour(index, event.key);
      if (next === undefined || next === null) return;
      $(`[data-node="${next}"]`, target)?.focus();
    }
    event.preventDefault();
  });
  target.addEventListener('pointermove', (event) => {
    const index = indexOf(event);
    if (index === null) return hideTip();
    const nodes = graphOf(flame.kind);
    const node = nodes[index];
    return showTip(event.clientX, event.clientY, [el('b', {}, node.name),
      el('div', {}, `${time(node.value)}, ${percent(node.value, nodes[0].value)} of the graph`),
      el('div', { class: 'exact' }, exact(node.value))]);
  });
  target.addEventListener('pointerleave', hideTip);
  $('input', section).addEventListener('input', (event) => { flame.query = event.target.value.toLowerCase(); drawFlame(); });
  $('.reset', section).addEventListener('click', () => { flame.focus = 0; drawFlame(); });
  addEventListener('resize', drawFlame);
  // The graph that most time is in: on-CPU for a busy program, off-CPU for one that waits.
  const waits = REPORT.budget.thread_ns > 2 * (REPORT.budget.states.running ?? 0);
  selectKind(waits ? 'off-cpu' : 'on-cpu');
}
