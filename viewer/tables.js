// Tables of threads, objects and functions; health and cost.

const SHOWN = 100; // rows before "show all"

/**
 * A table whose columns sort. A column is {title, of(row), cell(row), n}: `of` is what it
 * sorts by, `n` marks numbers, which sort largest first.
 */
function sortable(columns, all, rowOf, sortedBy) {
  const state = { by: sortedBy, up: false, full: all.length <= SHOWN + 10 };
  const body = el('tbody');
  const more = el('button', { type: 'button' }, `Show all ${count(all.length)}`);
  const heads = columns.map((column, i) => {
    if (!column.of) return el('th', { scope: 'col' }, column.title);
    const button = el('button', { type: 'button' }, column.title);
    button.addEventListener('click', () => {
      state.up = state.by === i ? !state.up : !column.n;
      state.by = i;
      draw();
    });
    return el('th', { scope: 'col', class: column.n ? 'n' : null }, button);
  });
  function draw() {
    const { of } = columns[state.by];
    const order = [...all].sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      return x < y ? -1 : x > y ? 1 : 0;
    });
    if (!state.up) order.reverse();
    heads.forEach((head, i) => {
      if (i === state.by) head.setAttribute('aria-sort', state.up ? 'ascending' : 'descending');
      else head.removeAttribute('aria-sort');
    });
    body.replaceChildren(...(state.full ? order : order.slice(0, SHOWN)).flatMap((row) => rowOf(row, columns)));
    more.hidden = state.full;
  }
  more.addEventListener('click', () => { state.full = true; draw(); });
  draw();
  return [el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, el('tr', {}, heads)), body)), more];
}

const plainRow = (row, columns) => [el('tr', {}, columns.map((column) => column.cell(row)))];

const numberCell = (n) => el('td', { class: 'n' }, count(n));
const timeCell = (ns) => timeElement('td', ns, { class: 'n' });

function drawThreads() {
  const processes = new Map(REPORT.processes.map((process) => [process.id, process]));
  const life = (thread) => thread.end_ns - thread.start_ns;
  const waited = (thread) => life(thread) - thread.states.running - thread.states.runnable;
  const main = (thread) => STATES.map((state, i) => [thread.states[state.name], i]).sort((a, b) => b[0] - a[0])[0];
  const columns = [
    { title: 'Thread', of: (t) => called(t), cell: (t) => el('td', { class: 'name' }, called(t) || '(no name)', ' ', el('span', { class: 'sub' }, t.tid)) },
    { title: 'Process', of: (t) => t.process, cell: (t) => el('td', { class: 'name' }, processes.get(t.process)?.name ?? '', ' ', el('span', { class: 'sub' }, t.pid)) },
    { title: 'Began at', n: true, of: (t) => -t.start_ns, cell: (t) => timeCell(t.start_ns) },
    { title: 'Lived', n: true, of: life, cell: (t) => timeElement('td', life(t), { class: 'n', 'data-life': t.id }) },
    { title: 'States', cell: (t) => el('td', {}, stateBar(t.states, life(t), false)) },
    { title: 'Mostly', of: (t) => STATES[main(t)[1]].name, cell: (t) => el('td', {}, STATES[main(t)[1]].name, el('span', { class: 'sub' }, ` ${percent(main(t)[0], life(t))}`)) },
    { title: 'Running', n: true, of: (t) => t.states.running, cell: (t) => timeCell(t.states.running) },
    { title: 'Runnable', n: true, of: (t) => t.states.runnable, cell: (t) => timeCell(t.states.runnable) },
    { title: 'Waiting', n: true, of: waited, cell: (t) => timeCell(waited(t)) },
    { title: 'Blocked', n: true, of: (t) => t.switches.voluntary, cell: (t) => numberCell(t.switches.voluntary) },
    { title: 'Preempted', n: true, of: (t) => t.switches.involuntary, cell: (t) => numberCell(t.switches.involuntary) },
    { title: 'Moved CPU', n: true, of: (t) => t.migrations, cell: (t) => numberCell(t.migrations) },
  ];
  $('#threads .body').append(...sortable(columns, REPORT.threads, plainRow, 3));
}

function stackList(stack) {
  if (!stack.length) return el('p', { class: 'muted' }, 'no stack was taken');
  return el('ol', { class: 'stack' }, [...stack].reverse().map((frame) => el('li', {}, frame.name,
    frame.file ? el('span', { class: 'where' }, ` ${frame.file}${frame.line ? `:${frame.line}` : ''}`)
      : frame.module ? el('span', { class: 'where' }, ` ${frame.module}`) : null)));
}

function siteRows(object, columns) {
  const whole = object.sites.reduce((sum, site) => sum + site.wait_ns, 0);
  const shown = object.sites.slice(0, 5);
  return el('tr', { class: 'sites' }, el('td', { colspan: columns },
    object.sites.length ? null : el('p', { class: 'muted' }, 'No stack was taken at these waits.'),
    shown.map((site) => el('div', { class: 'site' },
      timeElement('b', site.wait_ns), `, ${percent(site.wait_ns, whole)} of the waiting whose stack was taken, innermost function first`,
      stackList(site.stack))),
    object.sites.length > shown.length ? el('p', { class: 'muted' }, `and ${plural(object.sites.length - shown.length, 'more call site')}`) : null,
    object.holders.map((holder) => el('div', { class: 'site' }, `held by ${holder.name} for `, timeElement('b', holder.blamed_ns), stackList(holder.stack)))));
}

const openObjects = new Set(); // ids, so that sorting keeps them open

function objectRow(object, columns) {
  const open = openObjects.has(object.id);
  const row = el('tr', { tabindex: '0', 'aria-expanded': String(open), 'data-object': object.id, class: open ? 'open' : null },
    columns.map((column) => column.cell(object)));
  const toggle = () => {
    const now = !openObjects.has(object.id);
    if (now) { openObjects.add(object.id); row.after(siteRows(object, columns.length)); }
    else { openObjects.delete(object.id); row.nextElementSibling?.remove(); }
    row.setAttribute('aria-expanded', String(now));
    row.classList.toggle('open', now);
  };
  row.addEventListener('click', toggle);
  row.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    toggle();
  });
  return open ? [row, siteRows(object, columns.length)] : [row];
}

function drawObjects() {
  const body = $('#objects .body');
  if (!REPORT.objects.length) {
    body.append(el('p', { class: 'muted' }, 'No wait had an object that was seen.'));
    return;
  }
  // The innermost function alone is a library's; its callers say whose wait it is.
  const site = (object) => (object.sites[0]?.stack ?? []).slice(-3).map((frame) => frame.name).join(' › ');
  const columns = [
    { title: 'State', of: (o) => o.state, cell: (o) => el('td', {}, dot(STATE_INDEX.get(o.state) ?? UNKNOWN), o.state) },
    { title: 'Kind', of: (o) => o.kind, cell: (o) => el('td', {}, o.kind) },
    { title: 'What', of: (o) => o.label, cell: (o) => el('td', { class: 'name' }, o.label) },
    { title: 'Waited at', of: site, cell: (o) => el('td', { class: 'code name' }, site(o)) },
    { title: 'Waits', n: true, of: (o) => o.waits, cell: (o) => numberCell(o.waits) },
    { title: 'Total', n: true, of: (o) => o.wait_ns, cell: (o) => timeElement('td', o.wait_ns, { class: 'n', 'data-total': o.id }) },
    { title: 'Of all thread time', n: true, of: (o) => o.wait_ns, cell: (o) => el('td', { class: 'n' }, percent(o.wait_ns, REPORT.budget.thread_ns)) },
    { title: 'Longest', n: true, of: (o) => o.max_wait_ns, cell: (o) => timeCell(o.max_wait_ns) },
    { title: 'Threads', n: true, of: (o) => o.waiters, cell: (o) => numberCell(o.waiters) },
  ];
  body.append(...sortable(columns, REPORT.objects, objectRow, 5));
}

function drawFunctions() {
  const rows = REPORT.functions;
  const running = REPORT.budget.states.running;
  const lead = $('#functions .lead');
  if (!rows.length) {
    lead.textContent = `No CPU sample hit: the threads ran for ${time(running)} in all.`;
    return;
  }
  lead.textContent = 'From CPU samples. Self: in the function itself. Total: with what it called.';
  const columns = [
    { title: 'Function', of: (f) => f.frame.name, cell: (f) => el('td', { class: 'code name' }, f.frame.name) },
    { title: 'Where', of: (f) => f.frame.file ?? f.frame.module ?? '', cell: (f) => el('td', { class: 'name muted' }, f.frame.file ? `${f.frame.file}${f.frame.line ? `:${f.frame.line}` : ''}` : f.frame.module ?? '') },
    { title: 'Self', n: true, of: (f) => f.self_ns, cell: (f) => timeCell(f.self_ns) },
    { title: 'Total', n: true, of: (f) => f.total_ns, cell: (f) => timeCell(f.total_ns) },
  ];
  $('#functions .body').append(...sortable(columns, rows, plainRow, 2));
}

function drawHealth() {
  const { health, cost, host, budget } = REPORT;
  const body = $('#health .body');
  for (const warning of health.warnings) body.append(el('p', { class: 'warn' }, warning));
  const pairs = el('dl', { class: 'pairs' });
  const pair = (name, ...value) => pairs.append(el('dt', {}, name), el('dd', {}, value));
  pair('Reason of a wait not seen', timeElement('span', health.unknown_ns, { id: 'unknown' }), ` of thread time (${percent(health.unknown_ns, budget.thread_ns)})`);
  pair('Records', `${count(health.records)} analysed, ${count(health.lost_records)} lost, ${count(health.recovered_records)} with a reconstructed end`);
  pair('Stacks', `${count(health.stacks.taken)} taken: ${count(health.stacks.complete)} complete, ${count(health.stacks.truncated)} cut short, ${count(health.stacks.failed)} failed`);
  if (health.run_counts.checked) {
    pair('Runs counted by the kernel', `${count(health.run_counts.kernel)}; seen here ${count(health.run_counts.seen)}; ${plural(health.run_counts.differing, 'thread')} of ${count(health.run_counts.checked)} differ`);
  }
  pair('Recorder', timeElement('span', cost.collector_cpu_ns), ` of CPU time, ${bytes(cost.collector_memory_bytes)} of memory`);
  if (cost.target_overhead_estimate_ns !== null) pair('Added to the command', 'about ', timeElement('span', cost.target_overhead_estimate_ns), cost.method ? ` (${cost.method})` : '');
  if (cost.trace_bytes !== null) pair('Trace file', bytes(cost.trace_bytes));
  pair('Machine', `Linux ${host.kernel}, ${plural(host.cpus_online, 'CPU')} online, ${host.cpus_allowed} allowed${host.cpu_quota === null ? '' : `, quota ${host.cpu_quota}`}`);
  pair('Recorded at', new Date(REPORT.started / 1e6).toISOString());
  pair('timesink', `${REPORT.version}, tier ${REPORT.tier}`);
  body.append(pairs);
}
