// What everything else uses: the data, elements, numbers, the tooltip.
// Text from outside only ever becomes a text node: nothing here builds markup from strings.

const DATA = JSON.parse(document.getElementById('data').textContent);
const REPORT = DATA.report;
const STATES = DATA.states; // {name, meaning, color}, in the order of the budget
const UNKNOWN = STATES.length - 1;
const STATE_INDEX = new Map(STATES.map((state, i) => [state.name, i]));

const $ = (selector, from = document) => from.querySelector(selector);

/** An element with attributes and children; strings become text. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** What to call a thread: its name, and what it runs where that does not tell. */
const called = (thread) => (thread.role ? `${thread.name} (${thread.role})` : thread.name);

/** `value` with `digits` decimals; exact halves go to the even digit, as in the text report. */
function fixed(value, digits) {
  const eighths = value * 2 ** (digits + 1);
  if (Number.isInteger(eighths) && Math.abs(eighths % 2) === 1) {
    const scaled = value * 10 ** digits;
    const floor = Math.floor(scaled);
    return ((floor % 2 === 0 ? floor : floor + 1) / 10 ** digits).toFixed(digits);
  }
  return value.toFixed(digits);
}

/** Three digits and a unit a person would choose: `1.23 ms`. */
function time(ns) {
  if (ns < 1e3) return `${ns} ns`;
  const [value, unit] = ns < 1e6 ? [ns / 1e3, 'us'] : ns < 1e9 ? [ns / 1e6, 'ms'] : [ns / 1e9, 's'];
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${fixed(value, digits)} ${unit}`;
}

/** An instant of the run, to the microsecond where that says something. */
function instant(ns) {
  if (ns >= 1e9) return `${(ns / 1e9).toFixed(6)} s`;
  return ns >= 1e6 ? `${(ns / 1e6).toFixed(3)} ms` : `${(ns / 1e3).toFixed(3)} us`;
}

/** Every nanosecond, in groups of three. */
const exact = (ns) => `${String(ns).replace(/\B(?=(\d{3})+$)/g, ',')} ns`;

const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ',');

function percent(part, whole) {
  if (!whole) return '0 %';
  const share = (100 * part) / whole;
  if (part === 0) return '0 %';
  if (share > 0 && share < 0.05) return '<0.1 %';
  return `${share.toFixed(share < 9.95 ? 1 : 0)} %`;
}

/** A bytes count a person can read. */
function bytes(n) {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) { n /= 1000; i += 1; }
  return `${i ? n.toFixed(n < 10 ? 1 : 0) : n} ${units[i]}`;
}

const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** A span of time with its exact value behind it. */
function timeElement(tag, ns, attributes = {}) {
  return el(tag, { ...attributes, 'data-ns': ns, title: exact(ns) }, time(ns));
}

/** A swatch of a state's colour. */
function dot(index) {
  const node = el('span', { class: index === UNKNOWN ? 'dot hatch' : 'dot', 'aria-hidden': 'true' });
  node.style.backgroundColor = STATES[index].color;
  return node;
}

/** Black or white, whichever can be read on a colour `#rrggbb`. */
function inkOn(color) {
  const channel = (at) => {
    const c = parseInt(color.slice(at, at + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  };
  const light = 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
  return light > 0.2 ? '#101214' : '#ffffff';
}

/** States of a `{name: ns}` map as [index, ns], longest first, without empty ones. */
function nonZero(states) {
  return STATES.map((state, i) => [i, states[state.name] ?? 0])
    .filter(([, ns]) => ns > 0)
    .sort((a, b) => b[1] - a[1]);
}

/** A bar of states; `big` ones carry their names. */
function stateBar(states, whole, big) {
  const bar = el('div', { class: big ? 'bar' : 'bar small' });
  fillBar(bar, STATES.map((state, i) => [i, states[state.name] ?? 0]), whole, big);
  return bar;
}

function fillBar(bar, parts, whole, big) {
  for (const [i, ns] of parts) {
    if (!ns || !whole) continue;
    const share = ns / whole;
    const label = share > 0.16 ? `${STATES[i].name} ${percent(ns, whole)}` : share > 0.08 ? STATES[i].name : '';
    const part = el('div', { class: i === UNKNOWN ? 'hatch' : null, 'data-state': STATES[i].name, 'data-ns': ns }, big ? label : '');
    part.style.flex = `${share} ${share} 0`;
    part.style.backgroundColor = STATES[i].color;
    part.style.color = inkOn(STATES[i].color);
    tipOn(part, () => [stateLine(i), el('div', {}, `${time(ns)} (${percent(ns, whole)})`), el('div', { class: 'exact' }, exact(ns))]);
    bar.append(part);
  }
}

/** A state's swatch, name and meaning, for tooltips. */
function stateLine(i) {
  return el('div', {}, dot(i), el('b', {}, STATES[i].name), ` ${STATES[i].meaning}`);
}

const TIP = $('#tip');

/** Shows `children` beside the pointer. */
function showTip(x, y, children) {
  TIP.replaceChildren(...children);
  TIP.hidden = false;
  const { width, height } = TIP.getBoundingClientRect();
  const left = x + 16 + width > innerWidth ? x - width - 12 : x + 16;
  const top = y + 16 + height > innerHeight ? y - height - 12 : y + 16;
  TIP.style.left = `${Math.max(4, left)}px`;
  TIP.style.top = `${Math.max(4, top)}px`;
}

function hideTip() {
  TIP.hidden = true;
}

/** A tooltip for an element, by pointer. */
function tipOn(node, children) {
  node.addEventListener('pointermove', (event) => showTip(event.clientX, event.clientY, children()));
  node.addEventListener('pointerleave', hideTip);
}

addEventListener('scroll', hideTip, { passive: true });
addEventListener('keydown', (event) => { if (event.key === 'Escape') hideTip(); });

/** A colour of the page's theme. */
const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
