/** The worker beside the browser: the same weights, index and question give the same answer with the same citations. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { askAndWait, INDEX, loaded, MODELS, siteTest, useBrowser } from './site.mjs';

const { questions } = JSON.parse(readFileSync(new URL('questions.json', import.meta.url), 'utf8'));
const WORKER = process.env.HUATUO_E2E_WORKER ?? new URL('../../target/debug/huatuo-worker', import.meta.url).pathname;
const KEY = 'a key of sixteen characters and more';
let worker;
let url;

useBrowser();

before(async () => {
  const model = join(MODELS, 'generator/model.gguf');
  const paths = ['--model', `huatuo=${model}`, '--encoder', join(MODELS, 'retriever'), '--index', INDEX];
  worker = spawn(WORKER, ['--listen', '127.0.0.1:0', ...paths], {
    env: { ...process.env, HUATUO_WORKER_API_KEYS: JSON.stringify([KEY]) },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  url = await new Promise((resolve, reject) => {
    let log = '';
    worker.stderr.on('data', (data) => {
      log += data;
      const found = /listening on (http:\S+)/.exec(log);
      if (found) resolve(found[1]);
    });
    worker.on('exit', () => reject(new Error(`the worker does not listen: ${log}`)));
  });
});

after(() => worker?.kill());

siteTest('the worker answers as the page does', {}, async ({ page, t }) => {
  await loaded(page);
  for (const { question } of questions) {
    await t.test(question, async () => {
      await page.getByTestId('new-conversation').click();
      const shown = await sentences(await askAndWait(page, question));
      assert.ok(shown.length > 0, 'the page wrote nothing');
      assert.deepEqual(await consulted(question), shown);
    });
  }
});

/** What the worker says, sentence by sentence, with the records that it cites. */
async function consulted(question) {
  const response = await fetch(`${url}/v1/consult`, {
    method: 'POST',
    headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ question }),
  });
  assert.equal(response.status, 200);
  const { sentences } = await response.json();
  const said = ({ text, supported, citations }) => ({ text: text.replace(/\[\d+\]/g, ''), supported, citations });
  return sentences.map(said);
}

/** What the page shows, the same way. */
function sentences(answer) {
  return answer.getByTestId('sentence').evaluateAll((shown) =>
    shown.map((sentence) => {
      const marks = [...sentence.querySelectorAll('[data-testid=citation]')];
      const citations = [...new Set(marks.map((mark) => Number(mark.dataset.n)))];
      const copy = sentence.cloneNode(true);
      for (const added of copy.querySelectorAll('[data-testid=citation], small')) added.remove();
      return { text: copy.textContent, supported: sentence.dataset.supported === 'true', citations };
    }),
  );
}
