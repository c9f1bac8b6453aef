// Embedding in Chromium: this project beside onnxruntime-web, same weights, same page, equal threads, in turn.
// Run by `cargo xtask bench browser-embed`, which builds the wasm package, writes the models and installs the peer.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { BROWSER_FLAGS, serveFolders } from '../browser/static-server.mjs';
import { show, spread } from './spread.mjs';

const { CHROMIUM, HUATUO_BENCH, HUATUO_PEERS, HUATUO_WASM = path.resolve('sdk/wasm') } = process.env;
const require = createRequire(path.resolve('package.json'));
const { chromium } = require('playwright-core');

/** Largest allowed difference of any hidden state between the two sides in single precision. */
const TOLERANCE = 1e-3;
/** Least cosine of an 8-bit side's hidden states to single precision: ours, and the peer's, whose scales are coarser. */
const LEAST_COSINE = { ours: 0.99, peer: 0.9 };
/** Milliseconds that a side is measured for in a round, within a least and a greatest number of runs. */
const ROUND_MS = 150;
const RUNS = { least: 2, most: 40 };
/** Lets a side's threads go to sleep before the other's turn. */
const PAUSE_MS = 80;
const ROUNDS = 7;
const MODELS = {
  small: { label: '4 × 256', vocabulary: 16000, batches: [[1, 16], [1, 32], [1, 128], [8, 16], [8, 32], [8, 128]] },
  base: { label: '12 × 768', vocabulary: 2000, batches: [[1, 16], [1, 32], [1, 128], [8, 16], [8, 32]] },
};
/** Onnxruntime is measured with the form of its graph that is the fastest here. */
const PEER_FORMS = {
  f32: ['f32-plain', 'f32-fused'],
  int8: ['int8-plain-s8', 'int8-plain-u8', 'int8-fused-s8', 'int8-fused-u8'],
};
/** Our build for so many threads, and what browsers without relaxed SIMD get. */
const SETUPS = [
  { threads: 1, build: 'relaxed' },
  { threads: 2, build: 'threads' },
  { threads: 1, build: 'simd' },
];

const server = await serveFolders({
  '/ours/': HUATUO_WASM,
  '/browser/': path.resolve('../tests/browser'),
  '/ort/': path.join(HUATUO_PEERS, 'node_modules/onnxruntime-web/dist'),
  '/bench/': HUATUO_BENCH,
});
const browser = await chromium.launch({ executablePath: CHROMIUM, args: BROWSER_FLAGS });
const page = await browser.newPage();
page.on('console', (message) => message.type() === 'error' && console.log(`   page: ${message.text()}`));
await page.goto(server.origin);
await page.evaluate(() => {
  globalThis.sides = {};
  globalThis.ask = (side, message) =>
    new Promise((resolve, reject) => {
      const worker = globalThis.sides[side];
      worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.value));
      worker.postMessage(message);
    });
  globalThis.open = (side, script, start) => {
    globalThis.sides[side] = new Worker(script, { type: 'module' });
    return globalThis.ask(side, { start });
  };
  globalThis.close = (side) => globalThis.sides[side].terminate();
});

const median = (values) => spread(values).median;
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
const made = (vocabulary, count) => Array.from({ length: count }, (_, i) => (i * 7919 + 106) % vocabulary);

const open = {
  ours: (name, precision, { threads, build }) =>
    page.evaluate(([start]) => globalThis.open('ours', '/browser/encoder-worker.mjs', start), [{
      threads, build, int8: precision === 'int8',
      config: `/bench/encoder-${name}/config.json`, weights: `/bench/encoder-${name}/model.safetensors`,
    }]),
  peer: (name, form, { threads }) =>
    page.evaluate(([start]) => globalThis.open('peer', '/browser/onnx-worker.mjs', start), [{
      threads, model: `/bench/encoder-${name}/${form}.onnx`,
    }]),
};
const close = (side) => page.evaluate((side) => globalThis.close(side), side);
/** Milliseconds of each run; with `output`, also the hidden states. */
const run = (side, measure, output = false) =>
  page.evaluate(async ([side, measure, output]) => {
    const result = await globalThis.ask(side, { measure });
    return { times: result.times, output: output ? Array.from(result.output) : undefined };
  }, [side, measure, output]);

/** The fastest of the peer's forms of a model, left open. */
async function openFastestPeer(name, precision, setup) {
  const { vocabulary } = MODELS[name];
  const times = {};
  for (const form of PEER_FORMS[precision]) {
    await open.peer(name, form, setup);
    const measure = { ids: made(vocabulary, 32), length: 32, runs: 6 };
    await run('peer', measure);
    times[form] = median((await run('peer', measure)).times);
    await close('peer');
  }
  const fastest = Object.keys(times).reduce((a, b) => (times[b] < times[a] ? b : a));
  await open.peer(name, fastest, setup);
  return { form: fastest, times };
}

function compare(a, b) {
  let [worst, dot, aa, bb] = [0, 0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    worst = Math.max(worst, Math.abs(a[i] - b[i]));
    dot += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
  }
  return { worst, cosine: dot / Math.sqrt(aa * bb) };
}

/** Both sides in turn on one shape; the median run of each round. */
async function inTurn(measure) {
  const runs = {};
  for (const side of ['ours', 'peer']) {
    const { times } = await run(side, { ...measure, runs: 3 }); // warms up
    runs[side] = Math.min(RUNS.most, Math.max(RUNS.least, Math.round(ROUND_MS / median(times))));
  }
  const rounds = [];
  for (let round = 0; round < ROUNDS; round++) {
    const times = {};
    for (const side of ['ours', 'peer']) {
      await pause();
      times[side] = median((await run(side, { ...measure, runs: runs[side] })).times);
    }
    rounds.push(times);
  }
  return rounds;
}

const wanted = new RegExp(process.env.HUATUO_CASES ?? '');
const table = [];
const exact = {}; // single-precision hidden states by shape, which the others are compared with
for (const [name, { label, vocabulary, batches }] of Object.entries(MODELS)) {
  for (const precision of ['f32', 'int8']) {
    for (const setup of SETUPS) {
      const cases = batches.filter(([batch, tokens]) => wanted.test(`${name} ${precision} ${setup.build} ${batch}x${tokens}`));
      if (cases.length === 0) continue;
      const { instructions } = await open.ours(name, precision, setup);
      const peer = await openFastestPeer(name, precision, setup);
      const forms = Object.entries(peer.times).map(([form, ms]) => `${form} ${ms.toFixed(1)}`).join(', ');
      console.log(`${label} ${precision}, ${setup.threads} threads, ${instructions}; onnxruntime-web: ${forms} ms at 32 tokens`);
      for (const [batch, tokens] of cases) {
        const measure = { ids: made(vocabulary, batch * tokens), length: tokens };
        const outputs = {};
        for (const side of ['ours', 'peer']) outputs[side] = (await run(side, { ...measure, runs: 1 }, true)).output;
        const agreement = {};
        if (precision === 'f32') {
          exact[`${name} ${batch}x${tokens}`] ??= outputs.peer;
          agreement.worst = compare(outputs.ours, outputs.peer).worst;
          if (!(agreement.worst <= TOLERANCE)) throw new Error(`${label}: the sides differ by ${agreement.worst}`);
        }
        for (const side of ['ours', 'peer']) {
          const reference = exact[`${name} ${batch}x${tokens}`];
          agreement[side] = reference && compare(outputs[side], reference).cosine;
          if (agreement[side] < LEAST_COSINE[side]) throw new Error(`${label} ${side}: cosine ${agreement[side]}`);
        }
        const rounds = await inTurn(measure);
        const [ours, theirs] = ['ours', 'peer'].map((side) => spread(rounds.map((round) => round[side])));
        const ratio = spread(rounds.map((round) => round.peer / round.ours));
        console.log(`  ${batch} × ${String(tokens).padEnd(4)} ours ${show(ours, 2)} ms  onnxruntime-web ${show(theirs, 2)} ms  ratio ${show(ratio, 2)}  cosine ${agreement.ours?.toFixed(5)} / ${agreement.peer?.toFixed(5)}`);
        table.push({ name, label, precision, ...setup, batch, tokens, form: peer.form, ours, peer: theirs, ratio, agreement });
      }
      await close('ours');
      await close('peer');
    }
  }
}
await browser.close();
server.close();

console.log('each side at its best precision, milliseconds (both medians) and ratio:');
const best = [];
for (const row of table.filter(({ precision }) => precision === 'f32')) {
  const same = (other) => ['name', 'build', 'threads', 'batch', 'tokens'].every((key) => other[key] === row[key]);
  const all = table.filter(same);
  const fastest = (side) => all.reduce((a, b) => (b[side].median < a[side].median ? b : a));
  const [ours, peer] = [fastest('ours'), fastest('peer')];
  const ratio = peer.peer.median / ours.ours.median;
  best.push({ name: row.name, build: row.build, threads: row.threads, batch: row.batch, tokens: row.tokens, ours: ours.precision, peer: peer.precision, ratio });
  console.log(`  ${row.label} ${row.build} ${row.threads} threads ${row.batch} × ${row.tokens}: ours ${ours.precision} ${ours.ours.median.toFixed(2)}, onnxruntime-web ${peer.precision} ${peer.peer.median.toFixed(2)}, ratio ${ratio.toFixed(2)}`);
}
const machine = { cpu: os.cpus()[0]?.model, cores: os.cpus().length, node: process.version };
fs.writeFileSync(path.join(HUATUO_BENCH, 'browser-embed.json'), JSON.stringify({ machine, table, best }, null, 2));
