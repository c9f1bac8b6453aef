// Prefill and decode in Chromium, one thread: this project beside wllama, same GGUF, same page, in turn.
// Run by `cargo xtask bench browser-cpu`, which builds the site and installs the peer.
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';

const { CHROMIUM, HUATUO_MODELS, HUATUO_PEERS, HUATUO_BENCH_OUT } = process.env;
const require = createRequire(path.resolve('package.json'));
const { chromium } = require('playwright-core');

const PREFILL = 256;
const DECODE = 64;
const ROUNDS = 5;

const roots = {
  '/ours/': path.resolve('sdk/wasm'),
  '/wllama/': path.join(HUATUO_PEERS, 'node_modules/@wllama/wllama/esm'),
  '/models/': HUATUO_MODELS,
};
const types = { '.js': 'text/javascript', '.wasm': 'application/wasm' };
const server = http.createServer((request, response) => {
  response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
  response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
  const name = request.url.split('?')[0];
  if (name === '/') return response.setHeader('content-type', 'text/html'), response.end('<!doctype html>');
  const [prefix, root] = Object.entries(roots).find(([prefix]) => name.startsWith(prefix)) ?? [];
  const file = root && path.join(root, name.slice(prefix.length));
  if (!file || !fs.existsSync(file)) return (response.statusCode = 404), response.end();
  response.setHeader('content-type', types[path.extname(file)] ?? 'application/octet-stream');
  response.setHeader('content-length', fs.statSync(file).size);
  fs.createReadStream(file).pipe(response);
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const origin = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

const page = await browser.newPage();
await page.goto(origin);
const rows = await page.evaluate(async ({ origin, PREFILL, DECODE, ROUNDS }) => {
  const ours = await import('/ours/huatuo_wasm.js');
  await ours.default({ module_or_path: '/ours/huatuo_wasm_bg.wasm' });
  const model = new Uint8Array(await (await fetch('/models/generator/model.gguf')).arrayBuffer());
  const test = new ours.SpeedTest(model);
  const { Wllama } = await import('/wllama/index.js');
  const wllama = new Wllama({ default: '/wllama/wasm/wllama.wasm' });
  wllama.setCompat?.(null); // the compatibility build would come from a CDN
  await wllama.loadModelFromUrl(`${origin}/models/generator/model.gguf`, {
    n_threads: 1, n_ctx: 512, n_gpu_layers: 0, useCache: false, n_batch: 256,
  });
  // Citation marks are whole tokens of this model, so the prompt has exactly as many tokens as marks.
  const prompt = Array.from({ length: PREFILL }, (_, i) => `[${(i * 7) % 9 + 1}]`).join('');
  const rows = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const prefill = (PREFILL / test.prefill(PREFILL)) * 1000;
    const decode = (DECODE / test.decode(DECODE)) * 1000;
    const { timings } = await wllama.createCompletion({
      prompt, max_tokens: DECODE, temperature: 0, stream: false, cache_prompt: false, ignore_eos: true,
    });
    const peer = { prefill: timings.prompt_per_second, decode: timings.predicted_per_second, tokens: timings.prompt_n };
    if (round > 0) rows.push({ prefill, decode, peer }); // the first round warms up
  }
  await wllama.exit();
  return rows;
}, { origin, PREFILL, DECODE, ROUNDS });
await browser.close();
server.close();

const spread = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return { min: sorted[0], median: sorted[sorted.length >> 1], max: sorted.at(-1) };
};
const table = {};
for (const what of ['prefill', 'decode']) {
  table[what] = {
    ours: spread(rows.map((row) => row[what])),
    wllama: spread(rows.map((row) => row.peer[what])),
    ratio: spread(rows.map((row) => row[what] / row.peer[what])),
  };
}
const show = ({ min, median, max }) => `${median.toFixed(1)} (${min.toFixed(1)}–${max.toFixed(1)})`;
console.log(`${PREFILL} tokens prefill, ${DECODE} decode, 1 thread, ${ROUNDS} rounds in turn; tokens/s, median (min–max)`);
for (const [what, { ours, wllama, ratio }] of Object.entries(table)) {
  console.log(`${what.padEnd(8)} ours ${show(ours)}  wllama ${show(wllama)}  ratio ${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)})`);
}
const machine = { cpu: os.cpus()[0]?.model, cores: os.cpus().length, node: process.version };
fs.writeFileSync(HUATUO_BENCH_OUT, JSON.stringify({ machine, prefill_tokens: rows[0].peer.tokens, rows, table }, null, 2));
