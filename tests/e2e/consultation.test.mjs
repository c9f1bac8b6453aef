/** A consultation in a real browser, on the real build, models and index. */

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  answerLog,
  ask,
  askAndWait,
  DESKTOP,
  loaded,
  MODELS,
  openRecord,
  PHONE,
  reaches,
  siteTest,
  useBrowser,
} from './site.mjs';

const { questions } = JSON.parse(readFileSync(new URL('questions.json', import.meta.url), 'utf8'));
const SHOTS = process.env.HUATUO_E2E_SHOTS;
/** What a server may have sent into a connection that broke. */
const SENT_IN_VAIN = 1024 * 1024;
const FIRST_REFERENCES_MS = 3000;
const NOT_FOUND = /Failed to load resource.*404/;
const CONNECTION_LOST = /Failed to load resource.*(ERR_|net::)/;

useBrowser();

siteTest('ten real questions stream answers whose citations open the right record', {}, async ({ page, t }) => {
  await loaded(page);
  for (const { question, expected } of questions) {
    await t.test(question, async () => {
      await page.getByTestId('new-conversation').click();
      await page.evaluate(() => (window.answerLog.length = 0));
      const answer = await askAndWait(page, question);
      assert.ok(!(await answer.evaluate((shown) => shown.classList.contains('abstained'))), 'declined to answer');
      const growing = (await answerLog(page)).filter(({ characters }) => characters > 0);
      assert.ok(growing.length > 3, `the answer came in ${growing.length} pieces, not as a stream`);
      const records = await citedRecords(page, answer);
      const right = records.filter((record) => expected.includes(record));
      assert.ok(right.length > 0, `cited ${records.join(', ') || 'nothing'}, expected one of ${expected.join(', ')}`);
    });
  }
});

siteTest('a three-turn conversation retrieves for its subject at each turn', {}, async ({ page }) => {
  await loaded(page);
  const turns = [
    ['糖尿病有哪些症状？', 'kg:2型糖尿病:symptoms'],
    ['它一般怎么治疗呢？', 'kg:2型糖尿病:treatment'],
    ['平时饮食要注意什么？', 'kg:2型糖尿病:diet'],
  ];
  for (const [question, expected] of turns) {
    const answer = await askAndWait(page, question);
    await answer.getByTestId('source').first().click();
    assert.equal(await openRecord(page), expected, question);
  }
});

siteTest('chest pain with cold sweat shows emergency advice before any token', {}, async ({ page }) => {
  await loaded(page);
  const answer = await askAndWait(page, '我爸突然胸口痛，还一直出冷汗，怎么办？');
  const emergency = answer.getByTestId('emergency');
  assert.equal(await emergency.getAttribute('role'), 'alert');
  assert.match(await emergency.textContent(), /120/);
  assert.equal(await emergency.locator('a[href="tel:120"]').count(), 1);
  const log = await answerLog(page);
  const advised = log.findIndex((entry) => entry.emergency);
  const wrote = log.findIndex((entry) => entry.characters > 0);
  assert.ok(advised >= 0 && (wrote < 0 || advised < wrote), `advice at ${advised}, text at ${wrote}`);
  const { y } = await emergency.boundingBox();
  assert.ok(y >= 0, 'the advice is still in view when the answer has been written');
});

const SLOW_MODELS = [{ url: /^\/models\//, bytesPerSecond: 200_000 }];
siteTest('emergency advice does not wait for the models', { faults: SLOW_MODELS }, async ({ page }) => {
  const answer = await ask(page, '胸口痛，出冷汗');
  await answer.getByTestId('emergency').waitFor();
  assert.equal(await page.getByTestId('status').getAttribute('data-phase'), 'loading');
});

siteTest('after loading nothing is fetched but ranges of the index', {}, async ({ page, server }) => {
  await loaded(page);
  const before = server.log.length;
  await askAndWait(page, '高血压有哪些症状？');
  const after = server.log.slice(before);
  assert.ok(after.length > 0, 'a question reads the index');
  for (const { url, range, status } of after) {
    assert.ok(url.startsWith('/index/') && range && status === 206, `${status} ${url} ${range}`);
  }
  assert.match(await page.getByTestId('status').textContent(), /问题没有离开本设备/);
});

siteTest('first references appear within three seconds of a cold page load', {}, async ({ page, t }) => {
  const answer = await ask(page, '高血压有哪些症状？');
  await answer.getByTestId('source').first().waitFor();
  const timings = await page.evaluate(() => window.huatuo.timings);
  t.diagnostic(
    `first references after ${Math.round(timings.firstReferences)} ms, retriever ready after ${Math.round(timings.retrieverReady)} ms`,
  );
  assert.ok(timings.firstReferences - timings.pageStart <= FIRST_REFERENCES_MS, JSON.stringify(timings));
  await reaches(answer, 'done');
  const { generatorReady, firstToken } = await page.evaluate(() => window.huatuo.timings);
  t.diagnostic(
    `generator ready after ${Math.round(generatorReady)} ms, first token after ${Math.round(firstToken)} ms`,
  );
});

siteTest('stop ends the answer at once and the next question is answered', {}, async ({ page }) => {
  await loaded(page);
  // Pressed from within the page at the first character: a whole answer takes a few tenths of a second.
  await page.evaluate(() => {
    const press = () => {
      if (document.querySelector('.answer-text')?.textContent) document.querySelector('[data-testid=stop]').click();
      else setTimeout(press, 1);
    };
    press();
  });
  const answer = await ask(page, '半夜大脚趾突然疼得不敢碰，又红又肿，这是咋回事？');
  await reaches(answer, 'aborted');
  const text = await answer.textContent();
  await askAndWait(page, '偏头痛怎么预防？');
  assert.equal(await answer.textContent(), text, 'a stopped answer does not grow');
});

siteTest('regenerating answers the same question again', {}, async ({ page }) => {
  await loaded(page);
  const answer = await askAndWait(page, '痛风饮食要注意什么？');
  await answer.getByTestId('regenerate').click();
  await reaches(answer, 'streaming');
  await reaches(answer, 'done');
  assert.ok((await answer.getByTestId('sentence').count()) > 0);
  assert.equal(await page.getByTestId('answer').count(), 1);
});

siteTest('editing the last question replaces its answer', {}, async ({ page }) => {
  await loaded(page);
  await askAndWait(page, '偏头痛怎么预防？');
  await page.getByTestId('edit').last().click();
  assert.equal(await page.getByTestId('question-input').inputValue(), '偏头痛怎么预防？');
  await page.getByTestId('question-input').fill('偏头痛怎么治疗？');
  await page.getByTestId('send').click();
  await reaches(page.getByTestId('answer').first(), 'done');
  assert.deepEqual(await page.getByTestId('question').allTextContents(), ['偏头痛怎么治疗？']);
});

siteTest('a rating survives a reload, and history can be deleted', {}, async ({ page }) => {
  await loaded(page);
  const answer = await askAndWait(page, '足癣怎么预防？');
  await answer.getByTestId('thumb-up').click();
  await page.getByText('已记录，仅保存在本机').first().waitFor({ state: 'attached' });
  await page.reload();
  const restored = page.getByTestId('answer').first();
  assert.equal(await restored.getByTestId('thumb-up').getAttribute('aria-pressed'), 'true');
  await page.getByTestId('history').click();
  await page.getByTestId('history-delete-all').click();
  await page.getByTestId('history-delete-all').click();
  await page.getByTestId('history-close').click();
  await page.getByTestId('example').first().waitFor();
  await page.reload();
  await page.getByTestId('example').first().waitFor();
  assert.equal(await page.getByTestId('answer').count(), 0);
});

siteTest('copying gives the answer with its references', {}, async ({ page }) => {
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await loaded(page);
  const answer = await askAndWait(page, '足癣怎么预防？');
  await answer.getByTestId('copy').click();
  await answer.locator('.icon-check').waitFor();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /参考资料\n\n\[1\] /);
});

siteTest('an exported conversation holds answers and references', {}, async ({ page }) => {
  await loaded(page);
  await askAndWait(page, '足癣怎么预防？');
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByTestId('export').click()]);
  const { rounds } = JSON.parse(readFileSync(await download.path(), 'utf8'));
  assert.equal(rounds[0].question, '足癣怎么预防？');
  assert.ok(rounds[0].answer.length > 0 && rounds[0].references.length > 0);
});

siteTest('Enter of an input method and Shift+Enter do not send', {}, async ({ page }) => {
  const input = page.getByTestId('question-input');
  await input.fill('头痛');
  await input.evaluate((box) =>
    box.dispatchEvent(
      new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true }),
    ),
  );
  await input.press('Shift+Enter');
  assert.equal(await page.getByTestId('answer').count(), 0);
  assert.equal(await input.inputValue(), '头痛\n');
});

siteTest('questions that are empty or too long get a message at the input', {}, async ({ page }) => {
  const message = page.getByTestId('input-message');
  for (const empty of ['', '   ', '\u0001\u200b']) {
    await page.getByTestId('question-input').fill(empty);
    await page.getByTestId('send').click();
    assert.match(await message.textContent(), /请先输入/);
  }
  await page.getByTestId('question-input').fill('痛'.repeat(10_000));
  await page.getByTestId('send').click();
  assert.match(await message.textContent(), /10000 个字，最多 1000/);
  assert.equal(await page.getByTestId('answer').count(), 0);
});

siteTest(
  'emoji, English, markup and control characters are answered or declined, never interpreted',
  {},
  async ({ page }) => {
    await loaded(page);
    const odd = [
      '😷🤒❓',
      'What are the symptoms of diabetes?',
      '<img src=x onerror=alert(1)>头痛怎么办',
      '头\u0000痛\u0007怎么\u202e办',
    ];
    for (const question of odd) await askAndWait(page, question);
    const shown = await page.getByTestId('question').allTextContents();
    assert.equal(shown[2], '<img src=x onerror=alert(1)>头痛怎么办');
    assert.equal(shown[3], '头 痛 怎么 办');
    assert.equal(await page.locator('.round img').count(), 0);
  },
);

const IGNORED_RANGES = [{ url: /^\/(models|index)\//, ignoreRanges: true }];
siteTest(
  'a server that ignores ranges is named as such, and retrying works',
  { faults: IGNORED_RANGES },
  async ({ page, server }) => {
    await seesLoadError(page, 'ranges_ignored', /分段读取/);
    server.faults.length = 0;
    await page.getByTestId('retry').click();
    await loaded(page);
  },
);

const weights = largestFile(join(MODELS, 'generator'));
const encoderWeights = largestFile(join(MODELS, 'retriever'));
// Slow enough that the page takes what comes: what a browser holds back when a connection breaks is lost.
const cut = ({ name }) => [{ url: new RegExp(`/${name}$`), cutAfterBytes: 5_300_000, bytesPerSecond: 4_000_000 }];
siteTest(
  'a connection cut in mid-load goes on where it stopped',
  { faults: cut(weights), allowed: CONNECTION_LOST },
  async ({ page, server }) => {
    await seesLoadError(page, 'network', /网络中断/);
    const answer = await ask(page, '高血压有哪些症状？');
    await answer.getByTestId('source').first().waitFor(); // the retriever is there already
    await page.getByTestId('retry').click();
    await reaches(answer, 'done');
    const bytes = server.log
      .filter(({ url }) => url.endsWith(weights.name))
      .reduce((sum, entry) => sum + entry.bytes, 0);
    assert.ok(bytes <= weights.bytes + SENT_IN_VAIN, `${bytes} bytes served of a file of ${weights.bytes}`);
  },
);

siteTest('a second start reads the models from the device', {}, async ({ page, server }) => {
  await loaded(page);
  const before = server.log.length;
  await page.reload();
  await loaded(page);
  const asked = server.log.slice(before).filter(({ url }) => url.startsWith('/models/'));
  assert.deepEqual([...new Set(asked.map(({ url }) => url))], ['/models/manifest.json']);
  await askAndWait(page, '高血压有哪些症状？');
});

siteTest('a second start needs no site to load the models from', { allowed: CONNECTION_LOST }, async ({ page, server }) => {
  await loaded(page);
  server.faults.push({ url: /^\/models\//, unreachable: true });
  const before = server.log.length;
  await page.reload();
  await loaded(page);
  await askAndWait(page, '高血压有哪些症状？');
  const asked = server.log.slice(before).filter(({ url }) => url.startsWith('/models/'));
  assert.ok(asked.every(({ url, bytes }) => url === '/models/manifest.json' && bytes === 0), JSON.stringify(asked));
});

const PACKS = /^\/index\/.*\.pack$/;

/** Bytes of the index's packs that were asked for since a moment of the log. */
const packBytes = (server, from) =>
  server.log.slice(from).reduce((sum, { url, bytes }) => sum + (PACKS.test(url) ? bytes : 0), 0);

/** Deletes what is kept of the index, in the open diagnostics. */
async function deletesKeptIndex(page) {
  const kept = page.getByTestId('stored-models').locator('[data-model=index]');
  await kept.getByTestId('delete-model').click();
  await kept.getByText(/^\d+ B \//).waitFor();
}

siteTest('a second visit reads blocks of the index from the device, and no longer when they are deleted', {}, async ({ page, server }) => {
  const visit = async () => {
    const before = server.log.length;
    await page.reload();
    await loaded(page);
    await askAndWait(page, '高血压有哪些症状？');
    return packBytes(server, before);
  };
  const cold = await visit();
  assert.ok(cold > 10_000, `${cold} bytes of packs`);
  assert.equal(await visit(), 0);
  await page.getByTestId('diagnostics').locator('summary').click();
  await page.locator('.diagnostics-table').getByText('上次：取自本机').waitFor();
  await deletesKeptIndex(page);
  assert.ok((await visit()) > 10_000);
});

siteTest('without room the index is read all the same, and nothing is kept', {}, async ({ page, server }) => {
  await loaded(page);
  const { origin } = new URL(page.url());
  const session = await page.context().newCDPSession(page);
  const { usage } = await page.evaluate(() => navigator.storage.estimate());
  await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: usage + 1000 });
  await askAndWait(page, '高血压有哪些症状？');
  const before = server.log.length;
  await page.reload();
  await loaded(page);
  await askAndWait(page, '偏头痛怎么预防？');
  assert.ok(packBytes(server, before) > 10_000);
});

siteTest('two tabs each keep blocks of their own', {}, async ({ page }) => {
  await loaded(page);
  const second = await page.context().newPage();
  await second.goto(page.url());
  await loaded(second);
  await Promise.all([askAndWait(page, '高血压有哪些症状？'), askAndWait(second, '偏头痛怎么预防？')]);
  const names = await page.evaluate(async () => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('huatuo-index');
    return (await Array.fromAsync(folder.keys())).sort();
  });
  assert.deepEqual(names, ['0-a.blocks', '0-b.blocks', '1-a.blocks', '1-b.blocks']);
  await second.close();
});

siteTest('a stop while the index is read ends the requests, and the next question is answered', {}, async ({ page, server }) => {
  await loaded(page);
  const slow = { url: PACKS, latencyMs: 20_000 };
  server.faults.push(slow);
  const before = server.log.length;
  const answer = await ask(page, '偏头痛怎么预防？');
  // Several are asked for at once: all of these are there before the stop.
  let asked = before;
  while (server.log.length === before || server.log.length > asked) {
    asked = server.log.length;
    await sleep(500);
  }
  await page.getByTestId('stop').click();
  await reaches(answer, 'aborted');
  server.faults.length = 0;
  await sleep(1000);
  assert.equal(server.log.length, asked, 'nothing is asked for after a stop');
  await askAndWait(page, '偏头痛怎么预防？');
});

siteTest('decoys go with a question, change nothing in its answer, and the diagnostics say so', {}, async ({ page, server }) => {
  await loaded(page);
  const references = async () => {
    const before = server.log.length;
    const answer = await askAndWait(page, '高血压有哪些症状？');
    return [await answer.locator('.answer-text').textContent(), packBytes(server, before)];
  };
  const [plain, little] = await references();
  await page.getByTestId('diagnostics').locator('summary').click();
  await deletesKeptIndex(page);
  await page.goto(`${new URL(page.url()).origin}/?decoys=2`);
  await loaded(page);
  const [hidden, much] = await references();
  assert.equal(hidden, plain);
  assert.ok(much > little, `${much} bytes with decoys, ${little} without`);
  await page.getByTestId('diagnostics').locator('summary').click();
  await page.locator('.diagnostics-table div', { hasText: '掩护检索' }).getByText('2', { exact: true }).waitFor();
});

siteTest('what all prompts begin with is read once and kept, and read anew where it is damaged', {}, async ({ page }) => {
  /** The kept bytes as text, with the time of their writing; `change` replaces them first. */
  const kept = (change) =>
    page.evaluate(async (change) => {
      const root = await navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle('huatuo-models');
      for await (const handle of folder.values()) {
        if (!handle.name.endsWith('.beginning')) continue;
        if (change !== undefined) {
          const out = await handle.createWritable();
          await out.write(change);
          await out.close();
        }
        const file = await handle.getFile();
        return { written: file.lastModified, content: await file.text() };
      }
      return null;
    }, change);
  await loaded(page);
  const first = await kept();
  assert.ok(first.content.startsWith('HUATUOKV'));
  await page.reload();
  await loaded(page);
  assert.deepEqual(await kept(), first);
  await askAndWait(page, '高血压有哪些症状？');
  await kept(first.content.slice(0, 1000));
  await page.reload();
  await loaded(page);
  assert.equal((await kept()).content, first.content);
});

for (const file of [weights, encoderWeights]) {
  siteTest(
    `a download of ${file.name} that broke off goes on after a reload`,
    { faults: cut(file), allowed: CONNECTION_LOST },
    async ({ page, server }) => {
      await seesLoadError(page, 'network', /网络中断/);
      await page.reload();
      await loaded(page);
      const [, resumed] = server.log.filter(({ url }) => url.endsWith(file.name));
      const from = Number(/bytes=(\d+)-/.exec(resumed.range)[1]);
      assert.ok(from > 5_000_000 && from <= 5_300_000, `the second request begins at ${from}`);
    },
  );

  siteTest(`a byte of ${file.name} damaged on the device costs one piece`, {}, async ({ page, server }) => {
    await loaded(page);
    await page.evaluate(async (size) => {
      const root = await navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle('huatuo-models');
      for await (const handle of folder.values()) {
        const file = await handle.getFile();
        if (file.size !== size) continue;
        const out = await handle.createWritable({ keepExistingData: true });
        const byte = new Uint8Array(await file.slice(6_000_000, 6_000_001).arrayBuffer());
        await out.write({ type: 'write', position: 6_000_000, data: Uint8Array.of(byte[0] ^ 1) });
        await out.close();
      }
    }, file.bytes);
    const before = server.log.length;
    await page.reload();
    await loaded(page);
    const again = server.log.slice(before).filter(({ url }) => url.endsWith(file.name));
    assert.equal(again.length, 1);
    assert.match(again[0].range, /^bytes=4194304-/);
  });
}

siteTest('too little storage is announced before anything is fetched', {}, async ({ page, server }) => {
  await loaded(page);
  const { origin } = new URL(page.url());
  const session = await page.context().newCDPSession(page);
  const fetched = (from) => server.log.slice(from).filter(({ url }) => /^\/models\/(?!manifest\.json)/.test(url));
  const withRoomFor = async (quotaSize) => {
    await session.send('Storage.clearDataForOrigin', { origin, storageTypes: 'all' });
    await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize });
    const before = server.log.length;
    await page.reload();
    await seesLoadError(page, 'storage', /存储空间不够/);
    return fetched(before);
  };
  assert.deepEqual(await withRoomFor(1_000_000), []);
  const encoderOnly = await withRoomFor(encoderWeights.bytes + 4_000_000);
  assert.ok(encoderOnly.length > 0 && encoderOnly.every(({ url }) => url.startsWith('/models/retriever/')));
  await session.send('Storage.overrideQuotaForOrigin', { origin });
  await page.getByTestId('retry').click();
  await loaded(page);
});

siteTest('without a private file system models load, and nothing is kept', {}, async ({ page, server }) => {
  await page.route(/\/assets\/worker-[^/]*\.js$/, async (route) => {
    const response = await route.fetch();
    const none = "StorageManager.prototype.getDirectory = () => Promise.reject(new Error('none'));";
    await route.fulfill({ response, body: `${none}\n${await response.text()}` });
  });
  for (let start = 0; start < 2; start++) {
    const before = server.log.length;
    await page.reload();
    await loaded(page);
    for (const { name, bytes } of [weights, encoderWeights]) {
      const served = server.log.slice(before).filter(({ url }) => url.endsWith(`/${name}`));
      assert.equal(served.reduce((sum, entry) => sum + entry.bytes, 0), bytes, name);
    }
  }
});

siteTest('an isolated page computes with threads and relaxed SIMD', {}, async ({ page }) => {
  await loaded(page);
  await page.getByTestId('diagnostics').locator('summary').click();
  const facts = page.locator('.diagnostics-table');
  await facts.getByText('threads', { exact: true }).waitFor();
  await facts.getByText('WebAssembly relaxed SIMD').waitFor();
  await facts.getByText(/^[2-8] \/ \d+$/).waitFor();
});

siteTest('stored models are listed, and deleted on demand', {}, async ({ page }) => {
  await loaded(page);
  await page.getByTestId('diagnostics').locator('summary').click();
  const models = page.getByTestId('stored-models');
  const stored = () =>
    page.evaluate(async () => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('huatuo-models');
      return (await Array.fromAsync(folder.keys())).length;
    });
  const [generator, encoder] = ['generator', 'retriever'].map((name) => models.locator(`[data-model=${name}]`));
  await generator.getByText('生成模型').waitFor();
  await encoder.getByText('检索模型').waitFor();
  await encoder.getByTestId('delete-model').click();
  await encoder.waitFor({ state: 'detached' });
  assert.equal(await stored(), 5, "the generator's files with their labels, and what it has read, are left");
  await generator.getByTestId('delete-model').click();
  await generator.waitFor({ state: 'detached' });
  assert.equal(await stored(), 0);
});

for (const { name } of [weights, encoderWeights]) {
  const flipped = [{ url: new RegExp(`/${name}$`), flipAt: 1_000_000 }];
  siteTest(`a damaged ${name} is refused, and retrying fetches it anew`, { faults: flipped }, async ({ page, server }) => {
    await seesLoadError(page, 'corrupt', /校验不符/);
    server.faults.length = 0;
    await page.getByTestId('retry').click();
    await loaded(page);
  });
}

const MISSING = [{ url: new RegExp(`/${weights.name}$`), missing: true }];
siteTest(
  'a missing model file is named, and references still work',
  { faults: MISSING, allowed: NOT_FOUND },
  async ({ page, server }) => {
    await seesLoadError(page, 'not_found', /缺少需要的文件/);
    const answer = await ask(page, '高血压有哪些症状？');
    await answer.getByTestId('source').first().waitFor();
    server.faults.length = 0;
    await page.getByTestId('retry').click();
    await reaches(answer, 'done');
  },
);

siteTest('a stop string ends the answer, and a setting out of range is named', {}, async ({ page }) => {
  await loaded(page);
  const script = page.workers().map((worker) => worker.url()).find((url) => url.includes('/worker-'));
  const [whole, stopped, minP, topK, again] = await page.evaluate(async (script) => {
    const worker = new Worker(script, { type: 'module' });
    let last = 0;
    const call = (type, given = {}) => {
      const id = ++last;
      worker.postMessage({ type, id, ...given });
      return new Promise((resolve) =>
        worker.addEventListener('message', ({ data }) => data.id === id && /reply|failure/.test(data.type) && resolve(data)),
      );
    };
    const consult = (options) => call('consult', { question: '高血压有哪些症状？', history: [], options });
    await call('start', { base: new URL('./', location.href).href, crashChannel: 'none', threads: 1 });
    await call('loadRetriever');
    await call('loadGenerator');
    const replies = [];
    for (const options of [{}, { stop: ['，'] }, { minP: 2 }, { topK: -1 }, {}]) replies.push(await consult(options));
    return replies;
  }, script);
  assert.equal(stopped.value.answer, whole.value.answer.split('，')[0]);
  assert.ok(stopped.value.answer.length < whole.value.answer.length);
  assert.deepEqual(minP.failure, { code: 'options', message: 'the min-p is 2, expected a number from 0 to 1' });
  assert.equal(topK.failure.code, 'options');
  assert.equal(again.value.answer, whole.value.answer);
});

const BAD_BLOCKS = [
  ['damaged', { url: PACKS, flipInResponse: 40 }, 'corrupt', /校验不符/],
  ['missing', { url: PACKS, missing: true }, 'not_found', /缺少需要的文件/],
  ['cut off', { url: PACKS, cutAfterBytes: 20 }, 'network', /网络中断/],
];
for (const [what, fault, code, message] of BAD_BLOCKS) {
  const allowed = new RegExp(`${NOT_FOUND.source}|${CONNECTION_LOST.source}`);
  siteTest(`an index block that is ${what} fails one question only`, { allowed }, async ({ page, server }) => {
    await loaded(page);
    server.faults.push(fault);
    const answer = await ask(page, '偏头痛怎么预防？');
    await reaches(answer, 'error');
    const error = answer.getByTestId('error');
    assert.equal(await error.getAttribute('data-code'), code);
    assert.match(await error.textContent(), message);
    server.faults.length = 0;
    await answer.getByTestId('retry').click();
    await reaches(answer, 'done');
  });
}

siteTest(
  'a crash of the engine keeps the conversation and starts a new engine',
  { allowed: /RuntimeError|the engine crashed/ },
  async ({ page }) => {
    await loaded(page);
    const answer = await askAndWait(page, '偏头痛怎么预防？');
    const text = await answer.textContent();
    await page.workers()[0].evaluate(
      () =>
        void setTimeout(() => {
          throw new WebAssembly.RuntimeError('unreachable');
        }),
    );
    await page.locator('[data-testid=status]:not([data-phase=ready])').waitFor();
    await loaded(page);
    assert.equal(await answer.textContent(), text);
    await askAndWait(page, '偏头痛怎么治疗？');
  },
);

for (const [name, size] of [
  ['phone', PHONE],
  ['desktop', DESKTOP],
]) {
  siteTest(`screenshots on a ${name}, light and dark`, { size }, async ({ page, t }) => {
    if (!SHOTS) return t.skip('HUATUO_E2E_SHOTS is not set');
    mkdirSync(SHOTS, { recursive: true });
    const shoot = async (what) => {
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        await page.screenshot({ path: join(SHOTS, `${what}-${size.width}x${size.height}-${colorScheme}.png`) });
      }
    };
    await loaded(page);
    await shoot('welcome');
    const answer = await askAndWait(page, '糖尿病有哪些症状？');
    await shoot('answer');
    await answer.getByTestId('citation').first().click();
    await openRecord(page);
    await shoot('reference');
    await page.keyboard.press('Escape');
    await askAndWait(page, '我爸突然胸口痛，还一直出冷汗，怎么办？');
    await shoot('emergency');
  });
}

/** The records that the citations of an answer open, each once. */
async function citedRecords(page, answer) {
  const records = new Set();
  for (const citation of await answer.getByTestId('citation').all()) {
    await citation.click();
    records.add(await openRecord(page));
  }
  return [...records];
}

async function seesLoadError(page, code, message) {
  const error = page.getByTestId('error').first();
  await error.waitFor();
  assert.equal(await error.getAttribute('data-code'), code);
  assert.match(await error.textContent(), message);
}

function largestFile(folder) {
  const files = readdirSync(folder).map((name) => ({ name, bytes: statSync(join(folder, name)).size }));
  return files.sort((a, b) => b.bytes - a.bytes)[0];
}
