// CPUs in use over time: the mean number of running threads in each bin.

const CPUS = DATA.cpus; // {start_ns, width_ns, running_ns: []}

/** Mean running threads between two instants. */
function cpusBetween(from, to) {
  const { start_ns: start, width_ns: width, running_ns: bins } = CPUS;
  const first = Math.max(0, Math.floor((from - start) / width));
  const last = Math.min(bins.length - 1, Math.floor((to - start) / width));
  let sum = 0;
  for (let i = first; i <= last; i += 1) {
    const a = start + i * width;
    const b = Math.min(a + width, Math.max(WALL, a + 1));
    const part = Math.max(0, Math.min(to, b) - Math.max(from, a)) / Math.max(1, b - a);
    sum += bins[i] * Math.min(1, part);
  }
  return to > from ? sum / (to - from) : 0;
}

function drawCpus() {
  const canvas = $('#cpus');
  const [width, height] = [canvas.parentElement.clientWidth, 110];
  const context = prepare(canvas, width, height);
  const [top, bottom] = [8, height - 20];
  const allowed = REPORT.host.cpus_allowed;
  const columns = Math.max(1, Math.floor(width - GUTTER));
  const means = [];
  for (let x = 0; x < columns; x += 1) {
    means.push(cpusBetween(timeAt(GUTTER + x, width), timeAt(GUTTER + x + 1, width)));
  }
  const most = Math.max(allowed, ...means) * 1.08 || 1;
  const y = (cpus) => bottom - ((bottom - top) * cpus) / most;

  context.fillStyle = theme('--lane');
  context.fillRect(GUTTER, top, width - GUTTER, bottom - top);
  context.fillStyle = theme('--area');
  means.forEach((mean, x) => { if (mean > 0) context.fillRect(GUTTER + x, y(mean), 1, bottom - y(mean)); });

  context.strokeStyle = theme('--ink');
  context.setLineDash([5, 4]);
  context.beginPath();
  context.moveTo(GUTTER, Math.round(y(allowed)) + 0.5);
  context.lineTo(width, Math.round(y(allowed)) + 0.5);
  context.stroke();
  context.setLineDash([]);
  context.fillStyle = theme('--soft');
  context.textAlign = 'right';
  context.fillText(`${allowed} allowed`, GUTTER - 8, Math.max(top + 5, y(allowed)));
  if (y(allowed) < bottom - 18) context.fillText('0', GUTTER - 8, bottom - 4);
  const highest = Math.floor(most);
  if (y(highest) < y(allowed) - 14) context.fillText(String(highest), GUTTER - 8, Math.max(top + 5, y(highest)));
  context.textAlign = 'center';
  const { list, step } = ticks(width);
  for (const t of list) {
    const x = xOf(t, width);
    context.fillRect(Math.round(x), bottom, 1, 4);
    if (x < width - 24) context.fillText(tickText(t, step), Math.max(GUTTER + 14, x), height - 8);
  }
  drawCursor(context, width, bottom);
}

function cpusTip(event, x) {
  const canvas = $('#cpus');
  if (x < GUTTER) return hideTip();
  const at = timeAt(x, canvas.clientWidth);
  const half = (view.to - view.from) / Math.max(1, canvas.clientWidth - GUTTER) / 2;
  const mean = cpusBetween(Math.max(0, at - half), Math.min(WALL, at + half));
  showTip(event.clientX, event.clientY, [
    el('b', {}, `${mean.toFixed(2)} CPUs in use`),
    el('div', {}, `of ${REPORT.host.cpus_allowed} allowed, at ${instant(at)}`)]);
}

function startCpus() {
  timeGestures($('#cpus'), cpusTip);
  view.listeners.push(drawCpus);
}
