// Prefill and decode on WebGPU in Chromium: this project beside onnxruntime-web, same weights, same page, in turn.
// Run by `cargo xtask bench browser-gpu`, which builds the wasm package, writes the models and installs the peer.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { GPU_FLAGS, serveFolders } from '../browser/static-server.mjs';
import { show, spread } from './spread.mjs';

const { CHROMIUM, HUATUO_BENCH, HUATUO_PEERS, HUATUO_WASM = path.resolve('sdk/wasm') } = process.env;
const require = createRequire(path.resolve('package.json'));
const { chromium } = require('playwright-core');

const TOKENS = { prefill: 64, decode: 8 };
const ROUNDS = 3;
/** Tokens that the peer's implementations are tried with; with fewer than 16 the one that is slower at 64 can win. */
const TRIAL = { prefill: 16, decode: 2 };
const PROMPT = [300, 7000, 21000];
/** Least cosine of any side's scores after that prompt to the first side's. */
const LEAST_COSINE = 0.99;

const OURS = {
  script: '/browser/counted-decoder-worker.mjs',
  start: { build: 'relaxed', threads: 1, model: '/bench/synthetic-Q4_0.gguf', device: 'gpu' },
};
/** Onnxruntime is measured with the one of its two implementations of WebGPU that is the faster here in a phase. */
const PEERS = ['native', 'jsep'];
const peer = (backend) => ({
  script: '/browser/onnx-decoder-worker.mjs',
  start: { backend, model: `/bench/decoder-${backend}.onnx` },
});

const server = await serveFolders({
  '/ours/': HUATUO_WASM,
  '/browser/': path.resolve('../tests/browser'),
  '/ort/': path.join(HUATUO_PEERS, 'node_modules/onnxruntime-web/dist'),
  '/bench/': HUATUO_BENCH,
});
const browser = await chromium.launch({ executablePath: CHROMIUM, args: GPU_FLAGS });
const page = await browser.newPage();
await page.goto(server.origin);
const adapter = await page.evaluate(async () => {
  globalThis.workers = {};
  globalThis.ask = (name, message) =>
    new Promise((resolve, reject) => {
      const worker = globalThis.workers[name];
      worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.value));
      worker.onerror = ({ message }) => reject(new Error(`${name} could not start: ${message}`));
      worker.postMessage(message);
    });
  const { vendor, architecture, description } = (await navigator.gpu.requestAdapter()).info;
  return [vendor, architecture, description].filter(Boolean).join(' ');
});

const ask = (name, message) => page.evaluate(([name, message]) => globalThis.ask(name, message), [name, message]);
const call = (name, method, ...given) => ask(name, { call: method, arguments: given });
const close = (name) => page.evaluate((name) => globalThis.workers[name].terminate(), name);
const scores = (name) =>
  page.evaluate(async ([name, message]) => Array.from(await globalThis.ask(name, message)), [
    name, { call: 'scores', arguments: [PROMPT] },
  ]);
async function open(name, { script, start }) {
  await page.evaluate(([name, script]) => {
    globalThis.workers[name] = new Worker(script, { type: 'module' });
  }, [name, script]);
  await ask(name, { start });
}

function cosine(a, b) {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) (dot += a[i] * b[i]), (aa += a[i] * a[i]), (bb += b[i] * b[i]);
  return dot / Math.sqrt(aa * bb);
}

/** Tokens a second of a phase, and what it asked of WebGPU. */
async function measure(name, phase, tokens) {
  await ask(name, { counts: true });
  // The peer's cache may be that of an implementation that hasn't read the prompt.
  if (phase === 'decode' && name !== 'ours') await call(name, 'place', TOKENS.prefill);
  const speed = (tokens / (await call(name, phase, tokens))) * 1000;
  return { speed, ...(await ask(name, { counts: true })) };
}

const trials = {};
/** The peer's faster implementation of each phase; both stay open. */
async function fasterPeers() {
  for (const name of PEERS) {
    await open(name, peer(name));
    trials[name] = {};
    for (const [phase, tokens] of Object.entries(TRIAL)) {
      await measure(name, phase, 2); // compiles
      trials[name][phase] = (await measure(name, phase, tokens)).speed;
    }
    const tried = Object.entries(trials[name]).map(([phase, speed]) => `${phase} ${speed.toFixed(2)}`);
    console.log(`onnxruntime-web ${name}: ${tried.join(', ')} tokens/s in a trial`);
  }
  const faster = (phase) => PEERS.reduce((a, b) => (trials[b][phase] > trials[a][phase] ? b : a));
  return { prefill: faster('prefill'), decode: faster('decode') };
}

/** For work on one side by hand: `ours` or `peer`. */
const wanted = new RegExp(process.env.HUATUO_SIDES ?? '');
const sides = {};
if (wanted.test('ours')) {
  await open('ours', OURS);
  sides.ours = { prefill: 'ours', decode: 'ours' };
}
if (wanted.test('peer')) sides.peer = await fasterPeers();

const names = [...(sides.ours ? ['ours'] : []), ...(sides.peer ? PEERS : [])];
const expected = await scores(names[0]);
for (const name of names.slice(1)) {
  const agreement = cosine(expected, await scores(name));
  if (!(agreement >= LEAST_COSINE)) throw new Error(`${name} and ${names[0]} disagree: cosine ${agreement}`);
}
for (const name of names) {
  if (!Object.values(sides).some((side) => Object.values(side).includes(name))) await close(name);
}

const rounds = [];
for (let round = 0; round <= ROUNDS; round++) {
  const measured = {};
  for (const phase of Object.keys(TOKENS)) {
    measured[phase] = {};
    for (const [side, names] of Object.entries(sides)) {
      measured[phase][side] = await measure(names[phase], phase, TOKENS[phase]);
    }
  }
  if (round > 0) rounds.push(measured); // the first round warms up
}
await browser.close();
server.close();

console.log(`0.5B Q4_0 on ${adapter}: ${TOKENS.prefill} tokens prefill, ${TOKENS.decode} decode, ${ROUNDS} rounds in turn; tokens/s, median (min–max)`);
const table = [];
for (const [phase, tokens] of Object.entries(TOKENS)) {
  const row = { phase };
  for (const [side, names] of Object.entries(sides)) {
    const speed = spread(rounds.map((round) => round[phase][side].speed));
    const runs = phase === 'decode' ? tokens : 1; // of the network
    const [dispatches, submits] = ['dispatches', 'submits'].map((what) => rounds.at(-1)[phase][side][what] / runs);
    console.log(`  ${phase.padEnd(8)} ${names[phase].padEnd(6)} ${show(speed, 2)}  ${dispatches} dispatches, ${submits} submits a run`);
    row[side] = { name: names[phase], speed, dispatches, submits };
  }
  if (sides.ours && sides.peer) {
    row.ratio = spread(rounds.map((round) => round[phase].ours.speed / round[phase].peer.speed));
    console.log(`  ${phase.padEnd(8)} ratio  ${show(row.ratio, 2)}`);
  }
  table.push(row);
}
const machine = { cpu: os.cpus()[0]?.model, cores: os.cpus().length, node: process.version, adapter };
fs.writeFileSync(path.join(HUATUO_BENCH, 'browser-gpu.json'), JSON.stringify({ machine, trials, table }, null, 2));
