// Drives report.html in Chromium and prints, as JSON, what a reader would see and do.
// usage: node viewer.cjs PLAYWRIGHT_CORE CHROMIUM PAGE.html [FILE.svg ...]
const [, , playwright, executablePath, file, ...svgs] = process.argv;
const { chromium } = require(playwright);

const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Everything that must not happen, on any page. */
function watch(page, problems) {
  page.on('console', (message) => { if (message.type() !== 'log') problems.push(`console ${message.type()}: ${message.text()}`); });
  page.on('pageerror', (error) => problems.push(`error: ${error.message}`));
  page.on('dialog', async (dialog) => { problems.push(`dialog: ${dialog.message()}`); await dialog.dismiss(); });
  page.on('request', (request) => { if (!request.url().startsWith('file://')) problems.push(`request: ${request.url()}`); });
}

const range = (page) => page.locator('#timeline .range').evaluate((node) => [Number(node.dataset.from), Number(node.dataset.to)]);

/** Numbers as the page shows them. */
function readPage() {
  const nsOf = (node) => Number(node.dataset.ns);
  const map = (selector, key) => Object.fromEntries([...document.querySelectorAll(selector)].map((node) => [node.dataset[key], nsOf(node)]));
  const states = {};
  for (const row of document.querySelectorAll('#budget tr[data-state]')) states[row.dataset.state] = nsOf(row.querySelector('[data-ns]'));
  const bar = {};
  for (const part of document.querySelectorAll('#budget > .bar > div')) bar[part.dataset.state] = nsOf(part);
  const data = JSON.parse(document.getElementById('data').textContent);
  const lanes = {};
  for (const { id, items } of data.lanes.threads) {
    const sums = new Array(data.states.length).fill(0);
    for (let i = 0; i < items.length;) {
      if (items[i] >= 0) { sums[items[i]] += items[i + 1]; i += 3; continue; }
      for (let k = 0; k < -items[i]; k += 1) sums[items[i + 1 + 2 * k]] += items[i + 2 + 2 * k];
      i += 1 - 2 * items[i];
    }
    lanes[id] = sums;
  }
  return {
    headline: document.querySelector('#headline').textContent,
    command: document.querySelector('#command').textContent,
    findings: [...document.querySelectorAll('#findings article')].map((one) => one.textContent),
    wall: nsOf(document.querySelector('#facts [data-ns]')),
    threadTime: nsOf(document.querySelector('#thread-time')),
    unknown: nsOf(document.querySelector('#unknown')),
    states, bar, lanes,
    lanesThinned: data.lanes.shortest_ns,
    lanesHidden: data.lanes.hidden.threads,
    note: document.querySelector('#timeline .thinned').textContent,
    lives: map('[data-life]', 'life'),
    totals: map('[data-total]', 'total'),
    running: data.cpus.running_ns.reduce((sum, ns) => sum + ns, 0),
    names: [...document.querySelectorAll('#threads tbody tr')].map((row) => row.cells[0].firstChild.data),
    shown: [...document.querySelectorAll('td[data-ns], b[data-ns], span[data-ns]')].map((node) => [nsOf(node), node.textContent]),
    elements: [...new Set([...document.querySelectorAll('body *')].map((node) => node.localName))].sort(),
    scripts: document.scripts.length,
  };
}

/** The colour in the middle of the first lane. */
function pixel(canvas) {
  return canvas.evaluate((node) => {
    const scale = node.width / node.clientWidth;
    const x = Math.round(((node.clientWidth + 190) / 2 + 4) * scale); // beside the pointer's line
    // From a copy: reading the canvas itself twice would make Chromium warn about our reading.
    const copy = document.createElement('canvas').getContext('2d');
    copy.drawImage(node, x, Math.round(29 * scale), 1, 1, 0, 0, 1, 1);
    return [...copy.getImageData(0, 0, 1, 1).data];
  });
}

async function timeline(page) {
  const steps = {};
  const canvas = page.locator('#lanes canvas');
  await page.locator('#timeline').scrollIntoViewIfNeeded();
  steps.whole = await range(page);
  for (const [name, act] of [
    ['button', () => page.click('[data-do=in]')],
    ['keyW', async () => { await page.locator('#lanes').focus(); await page.keyboard.press('w'); }],
    ['keyD', () => page.keyboard.press('d')],
    ['keyA', () => page.keyboard.press('a')],
    ['keyS', () => page.keyboard.press('s')],
    ['all', () => page.click('[data-do=all]')],
  ]) { await act(); steps[name] = await range(page); }
  const box = await canvas.boundingBox();
  const y = box.y + 32; // the first lane under its process
  await page.mouse.move(box.x + 400, y);
  await page.keyboard.down('Control');
  await page.mouse.wheel(0, -60);
  await page.keyboard.up('Control');
  await page.waitForTimeout(60);
  steps.wheel = await range(page);
  await page.click('[data-do=all]');
  await page.mouse.move(box.x + 400, y);
  await page.mouse.down();
  await page.mouse.move(box.x + 700, y, { steps: 5 });
  await page.mouse.up();
  steps.drag = await range(page);
  await page.waitForTimeout(60);
  steps.pixelZoomed = await pixel(canvas);
  await page.keyboard.down('Shift');
  await page.mouse.down();
  await page.mouse.move(box.x + 600, y, { steps: 5 });
  await page.mouse.up();
  await page.keyboard.up('Shift');
  steps.pan = await range(page);
  await page.click('[data-do=all]');
  await page.mouse.move(box.x + (box.width + 190) / 2, y);
  steps.tip = await page.locator('#tip').textContent();
  steps.tipNs = await page.locator('#tip [data-ns]').evaluate((node) => Number(node.dataset.ns));
  await page.waitForTimeout(60);
  steps.pixel = await pixel(canvas);
  return steps;
}

/** The line of the critical path: its switch, what it covers, and whether it is in the middle of a lane. */
async function path(page) {
  const button = page.locator('#path button');
  const lanes = page.locator('#lanes');
  const found = { shown: await button.isVisible() };
  if (!found.shown) return found;
  await page.click('[data-do=all]');
  const look = async () => {
    await page.mouse.move(2, 2); // away from the lanes
    await page.waitForTimeout(60);
    return lanes.evaluate((box) => {
      const node = box.querySelector('canvas');
      const scale = node.width / node.clientWidth;
      const copy = document.createElement('canvas').getContext('2d');
      [copy.canvas.width, copy.canvas.height] = [node.width, node.height];
      copy.drawImage(node, 0, 0);
      const { data } = copy.getImageData(190 * scale, 0, node.width - 190 * scale, node.height);
      const ink = getComputedStyle(document.documentElement).getPropertyValue('--path').trim();
      const [r, g, b] = [1, 3, 5].map((at) => parseInt(ink.slice(at, at + 2), 16));
      let pixels = 0;
      for (let i = 0; i < data.length; i += 4) if (data[i] === r && data[i + 1] === g && data[i + 2] === b) pixels += 1;
      return { ...box.dataset, pixels };
    });
  };
  found.on = await look();
  await button.click();
  found.off = await look();
  await button.click();
  found.again = await look();
  found.says = await page.locator('#path').textContent();
  const step = await page.evaluate(() => JSON.parse(document.getElementById('data').textContent).report.critical_path
    .reduce((a, b) => (b.ns > a.ns ? b : a)));
  const place = await page.evaluate((longest) => {
    const data = JSON.parse(document.getElementById('data').textContent);
    const row = data.lanes.threads.findIndex((lane) => lane.id === longest.thread); // one process: its row is above
    const box = document.querySelector('#lanes canvas').getBoundingClientRect();
    const share = (longest.start_ns + longest.ns / 2) / data.report.wall_ns;
    return [box.left + 190 + share * (box.width - 190), box.top + (row + 1) * 20 + 9];
  }, step);
  await page.mouse.move(...place);
  found.tip = await page.locator('#tip').textContent();
  return found;
}

async function flames(page) {
  const found = {};
  for (const kind of ['on-cpu', 'off-cpu', 'wall']) {
    await page.click(`#flames [data-kind="${kind}"]`);
    found[kind] = await page.locator('#flames [data-node="0"]').evaluate((node) => Number(node.dataset.ns));
  }
  await page.click('#flames [data-kind="wall"]');
  const boxes = page.locator('#flames [data-node]');
  found.boxes = await boxes.count();
  found.leaves = await page.locator('#flames .flame').evaluate((node) => {
    const sums = {};
    for (const box of node.children) if (/^\[\w+\],/.test(box.getAttribute('aria-label'))) {
      const name = box.getAttribute('aria-label').split(',')[0];
      sums[name] = (sums[name] ?? 0) + Number(box.dataset.ns);
    }
    return sums;
  });
  const third = page.locator('#flames [data-node="3"]');
  await third.click();
  found.zoomed = await page.locator('#flames [data-node="3"]').evaluate((node) => node.style.width);
  await page.keyboard.press('Escape');
  found.back = await page.locator('#flames [data-node="0"]').evaluate((node) => node.style.width);
  await page.locator('#flames [data-node="1"]').hover({ position: { x: 5, y: 5 } });
  found.tip = await page.locator('#tip').textContent();
  await page.fill('#flames input', '[LOCK]');
  found.search = await page.locator('#flames .found').evaluate((node) => Number(node.dataset.ns));
  found.hits = await page.locator('#flames .hit').count();
  return found;
}

async function tables(page) {
  const first = () => page.locator('#threads tbody tr td').first().textContent();
  await page.click('#threads th:has-text("Began at") button');
  const sorted = [await first()];
  await page.click('#threads th:has-text("Began at") button');
  sorted.push(await first());
  await page.locator('#objects tbody tr').first().focus();
  await page.keyboard.press('Enter');
  const sites = await page.locator('#objects tr.sites').first().textContent();
  return { sorted, sites };
}

(async () => {
  const browser = await chromium.launch({ executablePath, args });
  const problems = [];
  const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
  watch(page, problems);
  await page.addInitScript(() => addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`)));
  await page.goto(`file://${file}`);
  await page.waitForSelector('html[data-ready]', { timeout: 60000 });
  const result = { page: await page.evaluate(readPage) };
  if (Object.keys(result.page.lanes).length) {
    result.timeline = await timeline(page);
    result.path = await path(page);
    result.flames = await flames(page);
    result.tables = await tables(page);
  }
  result.wide = {};
  for (const width of [1000, 1280, 1600]) {
    await page.setViewportSize({ width, height: 700 });
    await page.waitForTimeout(50);
    result.wide[width] = await page.evaluate(() => document.documentElement.scrollWidth);
  }
  // What the policy is for: a script that got in all the same must not run, nor load anything.
  const before = problems.length;
  result.blocked = await page.evaluate(async () => {
    const script = document.createElement('script');
    script.textContent = 'window.injected = true';
    document.body.append(script);
    const image = document.createElement('img');
    image.src = 'http://127.0.0.1:9/x.png';
    document.body.append(image);
    let fetched = true;
    try { await fetch('http://127.0.0.1:9/'); } catch { fetched = false; }
    return window.injected === undefined && !fetched;
  });
  await page.waitForTimeout(100);
  result.violations = problems.splice(before).filter((text) => text.includes('policy: ')).length;
  result.svgs = {};
  for (const svg of svgs) {
    const view = await browser.newPage();
    watch(view, problems);
    await view.goto(`file://${svg}`);
    result.svgs[svg] = await view.evaluate(() => ({
      root: document.documentElement.localName,
      broken: document.getElementsByTagName('parsererror').length,
      titles: [...document.querySelectorAll('#frames title')].map((node) => node.textContent),
      text: document.documentElement.textContent.slice(-400),
    }));
    await view.close();
  }
  await browser.close();
  process.stdout.write(JSON.stringify({ ...result, problems }));
})().catch((error) => { process.stderr.write(`${error.stack}\n`); process.exit(1); });
