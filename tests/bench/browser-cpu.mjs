// Prefill and decode in Chromium: this project beside wllama, same GGUF, same page, equal threads, in turn.
// Run by `cargo xtask bench browser-cpu`, which builds the site, writes the models and installs the peer.
import fs from 'node:fs';
import { execFile } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { BROWSER_FLAGS, serveFolders } from '../browser/static-server.mjs';
import { show, spread } from './spread.mjs';

const { CHROMIUM, HUATUO_MODELS, HUATUO_BENCH, HUATUO_PEERS, HUATUO_PYTHON } = process.env;
const require = createRequire(path.resolve('package.json'));
const { chromium } = require('playwright-core');

const DEFAULT = '/models/generator/model.gguf';
const synthetic = (name) => `/synthetic/synthetic-${name}.gguf`;
// The default model's citation marks, and the synthetic models' made-up marks, are single tokens: a prompt of marks has
// exactly as many tokens as marks.
const marks = (mark, n) => Array.from({ length: n }, (_, i) => mark(i)).join('');
const CASES = [];
for (const threads of [1, 2]) {
  CASES.push({ model: DEFAULT, threads, prefill: 256, decode: 64, rounds: 5, mark: 'citation' });
  for (const name of ['Q4_0', 'Q8_0']) {
    CASES.push({ model: synthetic(name), threads, prefill: 64, decode: 16, rounds: 3, mark: 'made-up' });
  }
}
/** A file of a gigabyte, for the heap while it loads. */
const LARGE = { model: synthetic('Q8_0-large'), threads: 1, prefill: 64, decode: 4, rounds: 0, mark: 'made-up' };
CASES.push(LARGE);
const promptOf = ({ prefill, mark }) =>
  mark === 'citation' ? marks((i) => `[${((i * 7) % 9) + 1}]`, prefill) : marks((i) => `<t${i * 37 + 5}>`, prefill);

const server = await serveFolders({
  '/ours/': path.resolve('sdk/wasm'),
  '/browser/': path.resolve('../tests/browser'),
  '/wllama/': path.join(HUATUO_PEERS, 'node_modules/@wllama/wllama/esm'),
  '/models/': HUATUO_MODELS,
  '/synthetic/': HUATUO_BENCH,
});
const { origin } = server;
const browser = await chromium.launch({ executablePath: CHROMIUM, args: BROWSER_FLAGS });

/** llama.cpp on this machine, the same file and threads; nothing where there is no Python that has it. */
function native({ model, threads, prefill, decode }) {
  const file = path.join(HUATUO_BENCH, path.basename(model));
  if (!HUATUO_PYTHON || !model.startsWith('/synthetic/')) return null;
  const call = ['../tests/bench/llama_cpp_speed.py', file, threads, prefill, decode].map(String);
  return new Promise((resolve, reject) => {
    execFile(HUATUO_PYTHON, call, (error, out) => (error ? reject(error) : resolve(JSON.parse(out))));
  });
}

async function measure(test) {
  const page = await browser.newPage();
  await page.exposeFunction('native', () => native(test));
  await page.goto(origin);
  const result = await page.evaluate(async ({ origin, model, threads, prefill, decode, rounds, prompt }) => {
    const build = threads > 1 ? 'threads' : 'relaxed';
    const worker = new Worker('/browser/decoder-worker.mjs', { type: 'module' });
    const ask = (message) =>
      new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.value));
        worker.postMessage(message);
      });
    const started = await ask({ start: { build, threads, model } });
    if (rounds === 0) return worker.terminate(), { ...started, rows: [] };
    const { Wllama } = await import('/wllama/index.js');
    const wllama = new Wllama({ default: '/wllama/wasm/wllama.wasm' });
    wllama.setCompat?.(null); // the compatibility build would come from a CDN
    await wllama.loadModelFromUrl(`${origin}${model}`, {
      n_threads: threads, n_ctx: 512, n_gpu_layers: 0, useCache: false, n_batch: 256,
    });
    const rows = [];
    for (let round = 0; round <= rounds; round++) {
      const ours = { prefill: (prefill / (await ask({ call: 'prefill', arguments: [prefill] }))) * 1000, decode: 0 };
      ours.decode = (decode / (await ask({ call: 'decode', arguments: [decode] }))) * 1000;
      const { timings } = await wllama.createCompletion({
        prompt, max_tokens: decode, temperature: 0, stream: false, cache_prompt: false, ignore_eos: true,
      });
      const peer = { prefill: timings.prompt_per_second, decode: timings.predicted_per_second, tokens: timings.prompt_n };
      if (round > 0) rows.push({ ours, peer, native: await globalThis.native() }); // the first round warms up
    }
    await wllama.exit();
    worker.terminate();
    return { ...started, rows };
  }, { origin, ...test, prompt: promptOf(test) });
  await page.close();
  return result;
}

const wanted = process.env.HUATUO_CASES?.split(',').map(Number);
const table = [];
for (const [index, test] of CASES.entries()) {
  if (wanted && !wanted.includes(index)) continue;
  const { rows, load, bytes, heap, instructions } = await measure(test);
  const name = path.basename(test.model, '.gguf').replace('synthetic-', '0.5B ').replace('model', 'default Q8_0');
  console.log(`${name}, ${test.threads} threads, ${instructions}: ${test.prefill} tokens prefill, ${test.decode} decode, ${test.rounds} rounds in turn; tokens/s, median (min–max); ${(bytes / 1e6).toFixed(0)} MB loaded in ${load.toFixed(0)} ms, peak heap ${(heap / 1e6).toFixed(0)} MB`);
  for (const what of test.rounds ? ['prefill', 'decode'] : []) {
    const [ours, peer] = ['ours', 'peer'].map((side) => spread(rows.map((row) => row[side][what])));
    const ratio = spread(rows.map((row) => row.ours[what] / row.peer[what]));
    const ofNative = rows[0].native && spread(rows.map((row) => row.ours[what] / row.native[what]));
    const beside = ofNative ? `  of native llama.cpp ${show(ofNative, 2)}` : '';
    console.log(`  ${what.padEnd(8)} ours ${show(ours, 1)}  wllama ${show(peer, 1)}  ratio ${show(ratio, 2)}${beside}`);
    table.push({ name, threads: test.threads, what, ours, wllama: peer, ratio, ofNative });
  }
  table.push({ name, threads: test.threads, prompt: rows[0]?.peer.tokens, instructions, load, bytes, heap });
}
await browser.close();
server.close();
const machine = { cpu: os.cpus()[0]?.model, cores: os.cpus().length, node: process.version };
fs.writeFileSync(path.join(HUATUO_BENCH, 'browser-cpu.json'), JSON.stringify({ machine, table }, null, 2));
