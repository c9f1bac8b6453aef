/** The page with its generator on WebGPU: it says so, and answers go on when the graphics processor is lost. */

import assert from 'node:assert/strict';
import { GPU_FLAGS } from '../browser/static-server.mjs';
import { answerLog, ask, loaded, reaches, siteTest, useBrowser } from './site.mjs';

const LOSSES = 10;
const QUESTION = '高血压平时要注意什么？';
const NOTICE = '图形处理器曾中断';

useBrowser(GPU_FLAGS);

const textOf = (answer) => answer.locator('.answer-text').textContent();
const losing = /Failed to load resource.*404|lost|destroyed|WebGPU/i;

siteTest('the graphics processor is shown, and lost in ten answers in a row', { query: '?device=gpu', allowed: losing }, async ({ page, t }) => {
  await loaded(page);
  await page.getByTestId('diagnostics').locator('summary').click();
  await page.getByTestId('diagnostics').getByText('swiftshader').waitFor();
  const fresh = async () => {
    await page.getByTestId('new-conversation').click();
    await page.evaluate(() => (window.answerLog.length = 0));
    return ask(page, QUESTION);
  };
  const undisturbed = await fresh();
  await reaches(undisturbed, 'done');
  const expected = await textOf(undisturbed);
  assert.ok(expected.length > 20 && !(await undisturbed.textContent()).includes(NOTICE), expected);
  for (let i = 0; i < LOSSES; i++) {
    const answer = await fresh();
    await page.waitForFunction(() => window.answerLog.some(({ characters }) => characters > 0));
    await page.evaluate(() => window.huatuo.loseGpu());
    await reaches(answer, 'done');
    assert.equal(await textOf(answer), expected, `loss ${i + 1}`);
    assert.ok((await answer.textContent()).includes(NOTICE), `loss ${i + 1} is not told`);
    t.diagnostic(`loss ${i + 1}: ${(await answerLog(page)).length} steps`);
  }
});
