/** The decoder in a real browser, in each of its builds: the golden scores and tokens of transformers. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BROWSER_FLAGS, serveFolders } from '../browser/static-server.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');
const { chromium } = createRequire(new URL('../../web/package.json', import.meta.url))('playwright-core');
const GOLDEN = JSON.parse(readFileSync(join(ROOT, 'tests/golden/decoder.json'), 'utf8'));
const BUILDS = [
  ['simd', 1],
  ['relaxed', 1],
  ['threads', 2],
];
/** Builds must start at once; the measured time is printed. */
const INSTANTIATE_MS = 2_000;

let browser, server;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: BROWSER_FLAGS });
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

/** Loads a model in a fresh page and asks for scores and greedy tokens. */
async function run(build, threads, { model, prompt, tokens }) {
  const page = await browser.newPage();
  try {
    await page.goto(server.origin);
    return await page.evaluate(
      async ([start, prompt, tokens]) => {
        const worker = new Worker('/browser/decoder-worker.mjs', { type: 'module' });
        const ask = (message) =>
          new Promise((resolve, reject) => {
            worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.value));
            worker.postMessage(message);
          });
        const started = await ask({ start });
        const scores = Array.from(await ask({ call: 'scores', arguments: [new Uint32Array(prompt)] }));
        const greedy = Array.from(await ask({ call: 'greedy', arguments: [new Uint32Array(prompt), tokens] }));
        worker.terminate();
        return { ...started, scores, greedy };
      },
      [{ build, threads, model: `/repository/${model}` }, prompt, tokens.length],
    );
  } finally {
    await page.close();
  }
}

for (const [build, threads] of BUILDS) {
  test(`${build}: scores and greedy tokens equal those of transformers`, async (t) => {
    for (const golden of GOLDEN) {
      const got = await run(build, threads, golden);
      const scale = Math.max(...golden.logits.map(Math.abs));
      const worst = Math.max(...golden.logits.map((wanted, i) => Math.abs(got.scores[i] - wanted))) / scale;
      assert.ok(worst <= golden.tolerance, `${golden.model}: scores differ by ${worst} (relative)`);
      if (golden.same_tokens) assert.deepEqual(got.greedy, golden.tokens, golden.model);
      assert.ok(got.instantiate < INSTANTIATE_MS, `compiled and started in ${got.instantiate} ms`);
      t.diagnostic(`${golden.model}: ${got.instructions}, started in ${got.instantiate.toFixed(0)} ms, worst ${worst.toExponential(1)}`);
    }
  });
}
