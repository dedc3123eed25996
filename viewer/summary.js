// The answer, the facts around it, the budget, and the glossary.

function fact(value, text, ns) {
  const attributes = ns === undefined ? {} : { 'data-ns': ns, title: exact(ns) };
  return el('li', {}, el('b', attributes, value), ' ', el('span', {}, text));
}

function exitText(exit) {
  if (!exit) return ['still running', 'when the recording ended'];
  if (exit.signal !== undefined) return [`signal ${exit.signal}`, 'ended it'];
  return [`exit ${exit.code}`, exit.code === 0 ? 'success' : 'failure'];
}

function drawHeader() {
  $('#command').textContent = REPORT.command.join(' ');
  const facts = $('#facts');
  const host = REPORT.host;
  const limit = host.cpu_quota === null ? host.cpus_allowed : Math.min(host.cpus_allowed, host.cpu_quota);
  facts.append(
    fact(time(REPORT.wall_ns), 'wall time', REPORT.wall_ns),
    fact(...exitText(REPORT.exit)),
    fact(`${REPORT.utilisation.mean_cpus.toFixed(2)} of ${limit}`, 'CPUs used on average'),
    fact(count(REPORT.threads.length), `threads in ${plural(REPORT.processes.length, 'process', 'processes')}`),
    fact(REPORT.tier, 'tier of recording'),
    fact(REPORT.verdict.confidence.level, 'confidence'),
  );
  const unknown = REPORT.health.unknown_ns;
  if (unknown > 0) facts.append(fact(percent(unknown, REPORT.budget.thread_ns), 'of thread time: reason not seen'));
  if (REPORT.health.lost_records > 0) facts.append(fact(count(REPORT.health.lost_records), 'records lost'));
  for (const section of document.querySelectorAll('main > section:not([hidden])')) {
    $('#nav').append(el('a', { href: `#${section.id}` }, section.dataset.short));
  }
}

function drawFindings() {
  if (!REPORT.findings.length) return;
  const section = $('#findings');
  section.hidden = false;
  const body = $('.body', section);
  body.append(...REPORT.findings.slice(0, MOST_FINDINGS).map(drawFinding));
  const rest = REPORT.findings.slice(MOST_FINDINGS);
  if (rest.length) {
    body.append(el('details', {}, el('summary', {}, `${rest.length} more`), rest.map(drawFinding)));
  }
}

const MOST_FINDINGS = 6;

/** `1.41x [1.38-1.43]`, and by which change. */
function gainText({ change, speedup, low, high }) {
  const [middle, from, to] = [speedup, low, high].map((value) => value.toFixed(2));
  return [el('b', {}, `${middle}x`), ` faster [${from}-${to}] with `, el('code', {}, change)];
}

/** A number of a finding, in its unit. */
function proofText({ value, unit }) {
  if (unit === 'ns') return timeElement('span', value);
  if (unit === 'share') return percent(value, 1);
  if (unit === 'bytes') return bytes(value);
  return Number.isInteger(value) ? count(value) : value.toFixed(2);
}

function drawFinding(finding) {
  const note = finding.severity === 'note';
  return el('article', { class: `finding ${finding.severity}`, 'data-rule': finding.rule },
    el('h3', {}, el('span', { class: 'severity' }, finding.severity), ' ', finding.title),
    finding.gain ? el('p', { class: 'gain' }, gainText(finding.gain)) : null,
    el('p', {}, finding.text),
    finding.advice && !note ? el('p', { class: 'advice' }, el('b', {}, 'Try: '), finding.advice) : null,
    el('p', { class: 'muted proof' },
      finding.evidence.flatMap((proof, i) => [i ? '; ' : '', `${proof.what} `, proofText(proof)]),
      finding.evidence.length ? '; ' : '', `rule ${finding.rule}`));
}

function stateRow(i, ns, whole, longest) {
  const meter = el('span', { class: 'meter' });
  meter.style.width = longest ? `${(100 * ns) / longest}%` : '0';
  meter.style.backgroundColor = STATES[i].color;
  return el('tr', { 'data-state': STATES[i].name },
    el('td', {}, dot(i), el('b', {}, STATES[i].name)),
    el('td', { class: 'muted' }, STATES[i].meaning),
    timeElement('td', ns, { class: 'n' }),
    el('td', { class: 'n' }, percent(ns, whole)),
    el('td', { class: 'meterbox' }, ns ? meter : ''));
}

const stateHead = () => el('thead', {}, el('tr', {},
  el('th', { scope: 'col' }, 'State'), el('th', { scope: 'col' }, 'Threads were'),
  el('th', { scope: 'col', class: 'n' }, 'Time'), el('th', { scope: 'col', class: 'n' }, 'Share'),
  el('th', {}, '')));

function drawBudget() {
  const section = $('#budget');
  const { thread_ns: whole, states, detail } = REPORT.budget;
  const threads = REPORT.threads.length;
  $('.lead', section).append(
    threads === 1 ? 'The one thread lived ' : `All ${count(threads)} threads together lived `,
    timeElement('b', whole, { id: 'thread-time' }),
    threads === 1 ? '; it was in exactly one of these states at any time.' : '; each was in exactly one of these states at any time.');
  const used = nonZero(states);
  const bar = $('.bar', section);
  bar.setAttribute('aria-label', used.map(([i, ns]) => `${STATES[i].name} ${percent(ns, whole)}`).join(', '));
  fillBar(bar, used, whole, true);
  const [table, rest] = section.querySelectorAll('table');
  table.append(stateHead(), el('tbody', {},
    used.map(([i, ns]) => stateRow(i, ns, whole, used[0][1])),
    el('tr', {}, el('td', {}, el('b', {}, 'sum')), el('td', { class: 'muted' }, 'all thread time'),
      timeElement('td', whole, { class: 'n' }), el('td', { class: 'n' }, percent(whole, whole)), el('td', {}, ''))));
  const unused = STATES.map((_, i) => i).filter((i) => !states[STATES[i].name]);
  $('summary', section).textContent = `${unused.length} states with no time`;
  rest.append(stateHead(), el('tbody', {}, unused.map((i) => stateRow(i, 0, whole, 0))));
  $('details', section).hidden = unused.length === 0;
  if (detail.length) {
    section.append(el('div', { class: 'detail' }, 'Of this, counted besides: ',
      detail.flatMap((cut, i) => [i ? '; ' : '', `${cut.name} `, timeElement('span', cut.ns), ` (${cut.quality})`])));
  }
}

function drawGlossary() {
  const list = $('#glossary dl');
  STATES.forEach((state, i) => {
    list.append(el('dt', {}, dot(i), el('b', {}, state.name)), el('dd', {}, state.meaning));
  });
}
