// Flame graphs, outermost function at the top. A node is {name, color, value, depth, start, parent}.

const FLAMES = DATA.flames; // {kind: {title, about, names, colors, nodes: [depth, name, ns, ...], pruned}}
const FRAME = 20; // px
const graphs = new Map();
const flame = { kind: null, focus: 0, query: '' };

/** Nodes in preorder with their start (ns from the graph's left edge). */
function graphOf(kind) {
  if (graphs.has(kind)) return graphs.get(kind);
  const { names, colors, nodes: flat } = FLAMES[kind];
  const nodes = [];
  const open = []; // the path down to the last node
  for (let i = 0; i < flat.length; i += 3) {
    const [depth, name, value] = [flat[i], names[flat[i + 1]], flat[i + 2]];
    // The root, processes and threads are no functions: they take the theme's grey.
    const color = depth < 3 ? '' : colors[flat[i + 1]];
    open.length = depth;
    const parent = depth ? open[depth - 1] : null;
    const start = parent === null ? 0 : nodes[parent].next;
    if (parent !== null) nodes[parent].next = start + value;
    open.push(nodes.length);
    nodes.push({ name, color, value, depth, start, parent, next: start });
  }
  graphs.set(kind, nodes);
  return nodes;
}

function frameElement(node, index, left, width, whole) {
  const label = `${node.name}, ${time(node.value)}, ${percent(node.value, whole)}`;
  const box = el('div', { tabindex: '-1', role: 'treeitem', 'aria-label': label, 'data-ns': node.value, 'data-node': index }, width > 0.02 ? node.name : '');
  box.style.left = `${100 * left}%`;
  box.style.width = `${100 * width}%`;
  box.style.top = `${node.depth * FRAME}px`;
  if (node.color) {
    box.style.backgroundColor = node.color;
    box.style.color = inkOn(node.color);
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
    const box = frameElement(node, i, left, width, nodes[0].value);
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
