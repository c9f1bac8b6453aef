/** The page with its models on WebGPU: it says so, and answers go on when the graphics processor is lost, or the tab asleep. */

import assert from 'node:assert/strict';
import { GPU_FLAGS } from '../browser/static-server.mjs';
import { answerLog, ask, loaded, reaches, siteTest, useBrowser } from './site.mjs';

const LOSSES = 10;
const QUESTION = '高血压平时要注意什么？';
const NOTICE = '图形处理器曾中断';

useBrowser(GPU_FLAGS);

const textOf = (answer) => answer.locator('.answer-text').textContent();
const losing = /Failed to load resource.*404|lost|destroyed|WebGPU/i;

async function fresh(page) {
  await page.getByTestId('new-conversation').click();
  await page.evaluate(() => (window.answerLog.length = 0));
  return ask(page, QUESTION);
}

const begun = (page) => page.waitForFunction(() => window.answerLog.some(({ characters }) => characters > 0));

async function undisturbed(page) {
  const answer = await fresh(page);
  await reaches(answer, 'done');
  const text = await textOf(answer);
  assert.ok(text.length > 20 && !(await answer.textContent()).includes(NOTICE), text);
  return text;
}

siteTest('the graphics processor is shown, and lost in ten answers in a row', { query: '?device=gpu', allowed: losing }, async ({ page, t }) => {
  await loaded(page);
  await page.getByTestId('diagnostics').locator('summary').click();
  await page.getByTestId('diagnostics').getByText('swiftshader').waitFor();
  const expected = await undisturbed(page);
  for (let i = 0; i < LOSSES; i++) {
    const answer = await fresh(page);
    await begun(page);
    await page.evaluate(() => window.huatuo.loseGpu());
    await reaches(answer, 'done');
    assert.equal(await textOf(answer), expected, `loss ${i + 1}`);
    assert.ok((await answer.textContent()).includes(NOTICE), `loss ${i + 1} is not told`);
    t.diagnostic(`loss ${i + 1}: ${(await answerLog(page)).length} steps`);
  }
});

siteTest('lost between two questions, it takes retriever and generator along', { query: '?device=gpu', allowed: losing }, async ({ page }) => {
  await loaded(page);
  const expected = await undisturbed(page);
  await page.evaluate(() => window.huatuo.loseGpu());
  const answer = await fresh(page);
  await reaches(answer, 'done');
  assert.equal(await textOf(answer), expected);
  const text = await answer.textContent();
  assert.equal(text.split(NOTICE).length, 2, `told once: ${text}`);
});

siteTest('an answer goes on in a tab that is behind another, or asleep for a while', { query: '?device=gpu' }, async ({ page }) => {
  await loaded(page);
  const expected = await undisturbed(page);
  const hidden = await fresh(page);
  await begun(page);
  const other = await page.context().newPage();
  await other.bringToFront();
  await reaches(hidden, 'done');
  assert.equal(await textOf(hidden), expected);
  await page.bringToFront();
  await other.close();
  const asleep = await fresh(page);
  await begun(page);
  const session = await page.context().newCDPSession(page);
  await session.send('Page.setWebLifecycleState', { state: 'frozen' });
  await new Promise((resolve) => setTimeout(resolve, 3000));
  await session.send('Page.setWebLifecycleState', { state: 'active' });
  await reaches(asleep, 'done');
  assert.equal(await textOf(asleep), expected);
});
