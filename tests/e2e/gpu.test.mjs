/** The decoder on WebGPU in a real browser: the golden tokens of transformers, what it asks of the device, and memory. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GPU_FLAGS, serveFolders } from '../browser/static-server.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');
const { chromium } = createRequire(new URL('../../web/package.json', import.meta.url))('playwright-core');
const GOLDEN = JSON.parse(readFileSync(join(ROOT, 'tests/golden/decoder.json'), 'utf8'));
/** Activations aren't rounded, so what is left is keys and values in half precision, K-quants' scales, and orders of sums. */
const TOLERANCE = 5e-3;
const SMALL = 'tests/golden/families/qwen2-q4_k_m.gguf';

let browser, server;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: GPU_FLAGS });
  server = await serveFolders({
    '/ours/': join(ROOT, 'web/sdk/wasm'),
    '/browser/': join(ROOT, 'tests/browser'),
    '/repository/': ROOT,
  });
});
after(async () => {
  await browser?.close();
  server?.close();
});

/** Runs the requests in a worker of a fresh page, one after the other; gives their replies. */
async function ask(script, requests) {
  const page = await browser.newPage();
  try {
    await page.goto(server.origin);
    return await page.evaluate(
      async ([script, requests]) => {
        const worker = new Worker(script, { type: 'module' });
        const replies = [];
        for (const message of requests) {
          replies.push(
            await new Promise((resolve, reject) => {
              worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.value));
              worker.onerror = ({ message }) => reject(new Error(message));
              worker.postMessage(message);
            }),
          );
        }
        worker.terminate();
        return replies.map((reply) => (ArrayBuffer.isView(reply) ? Array.from(reply) : reply));
      },
      [script, requests],
    );
  } finally {
    await page.close();
  }
}

const start = (model, subgroups) => ({
  start: { build: 'relaxed', threads: 1, model: `/repository/${model}`, device: 'gpu', subgroups },
});
const call = (call, ...given) => ({ call, arguments: given });

/** Most of a small model's time is waiting for the device, which several may do at once. */
const TOGETHER = 4;

for (const subgroups of [true, false]) {
  test(`${subgroups ? 'with' : 'without'} subgroups: scores and greedy tokens equal those of transformers`, async (t) => {
    const left = GOLDEN.values();
    const check = async () => {
      for (const golden of left) await agrees(golden, subgroups, t);
    };
    await Promise.all(Array.from({ length: TOGETHER }, check));
  });
}

/** The largest difference of a score, relative to the largest score. */
function difference({ logits }, scores) {
  const scale = Math.max(...logits.map(Math.abs));
  return Math.max(...logits.map((wanted, i) => Math.abs(scores[i] - wanted))) / scale;
}

async function agrees(golden, subgroups, t) {
  const [started, scores, tokens] = await ask('/browser/decoder-worker.mjs', [
    start(golden.model, subgroups),
    call('scores', golden.prompt),
    call('greedy', golden.prompt, golden.tokens.length),
  ]);
  assert.match(started.instructions, subgroups ? /, subgroups/ : /no subgroups/);
  const worst = difference(golden, scores);
  assert.ok(worst <= TOLERANCE, `${golden.model}: scores differ by ${worst} (relative)`);
  assert.deepEqual(tokens, golden.tokens, golden.model);
  t.diagnostic(`${golden.model}: ${started.instructions}, worst ${worst.toExponential(1)}`);
}

test('layouts of kernels are tried in the browser, and the fastest computes the same', async (t) => {
  for (const model of ['tests/golden/families/llama-f32.gguf', 'tests/golden/families/llama-q4_0.gguf']) {
    const golden = GOLDEN.find((golden) => golden.model === model);
    const [, found, scores, tokens] = await ask('/browser/decoder-worker.mjs', [
      start(model, true),
      call('tune'),
      call('scores', golden.prompt),
      call('greedy', golden.prompt, golden.tokens.length),
    ]);
    t.diagnostic(found);
    const [, plan] = found.split('\n');
    assert.match(plan, /^(F32|Q4_0) (plain|bytes) \d+ 1 \d+ (tiles|plain|bytes|halves) \d+ \d+$/);
    const worst = difference(golden, scores);
    assert.ok(worst <= golden.tolerance, `${model}: scores differ by ${worst} (relative)`);
    if (plan.startsWith('F32')) assert.deepEqual(tokens, golden.tokens);
  }
});

test('a token takes at most eight runs of kernels a layer, one submit and four bytes read back', async (t) => {
  for (const [model, layers] of [
    [SMALL, 1],
    ['models/generator/model.gguf', 6],
  ]) {
    const replies = await ask('/browser/decoder-worker.mjs', [
      start(model, true),
      call('prefill', 300),
      call('counts'),
      call('decode', 8),
      call('counts'),
    ]);
    const [before, after] = [replies[2], replies[4]];
    const perToken = (what) => (after[what] - before[what]) / 8;
    /** Beside the layers: embedding, last norm with head, and two to choose. */
    const perLayer = (perToken('dispatches') - 4) / layers;
    t.diagnostic(`${model}: ${perToken('dispatches')} runs a token, ${perLayer} a layer`);
    assert.ok(perLayer > 4 && perLayer <= 8, `${perLayer} runs a layer`);
    assert.equal(perToken('bytes_read'), 4);
    assert.equal(perToken('submits'), 1);
  }
});

test('a model of 4 GB comes through a heap of less than 300 MB', async (t) => {
  const [{ bytes, heap, sent }] = await ask('/browser/large-model-worker.mjs', [{ build: 'relaxed' }]);
  t.diagnostic(`${(bytes / 1e9).toFixed(2)} GB, ${(sent / 1e9).toFixed(2)} GB to the device, heap ${(heap / 1e6).toFixed(0)} MB`);
  assert.ok(bytes > 4e9 && sent > 4e9, `${sent} of ${bytes} bytes came to the device`);
  assert.ok(heap < 300e6, `the heap grew to ${heap} bytes`);
});

test('hundreds of loads and unloads leave nothing behind', async (t) => {
  const [{ heaps, live }] = await ask('/browser/reload-worker.mjs', [{ build: 'relaxed', model: `/repository/${SMALL}` }]);
  const [ten, hundred, two, three] = [9, 99, 199, 299].map((at) => heaps[at]);
  t.diagnostic(`heap ${ten}, ${hundred}, ${two} and ${three} bytes after 10, 100, 200 and 300 loads; on the device ${live[9]}, then ${live[299]}`);
  assert.equal(live.length, 300);
  assert.equal(live[299], live[9]);
  // Tables of the program find their size once, sooner or later; what is left behind by each load grows in every hundred.
  assert.ok(two === hundred || three === two, `the heap grew from ${hundred} to ${two} and ${three} bytes`);
  assert.ok(three - ten < 1 << 19, `the heap grew from ${ten} to ${three} bytes`);
});
