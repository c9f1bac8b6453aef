/** The built page in a real browser, on a server of its own, watched for everything that must not happen. */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { serve } from '../../web/serve.mjs';
import { BROWSER_FLAGS } from '../browser/static-server.mjs';

const { chromium } = createRequire(new URL('../../web/package.json', import.meta.url))('playwright-core');

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');
export const DIST = process.env.HUATUO_E2E_DIST ?? join(ROOT, 'web/dist');
export const MODELS = process.env.HUATUO_E2E_MODELS ?? join(ROOT, 'target/site/models');
export const INDEX = process.env.HUATUO_E2E_INDEX ?? join(ROOT, 'target/site/index');

export const PHONE = { width: 390, height: 844 };
export const DESKTOP = { width: 1440, height: 900 };

/** Loading 40 MB and writing an answer on two shared cores. */
const PATIENCE_MS = 60_000;
let browser;

/** One browser for all tests of a file. */
export function useBrowser(args = BROWSER_FLAGS) {
  before(async () => {
    for (const [folder, file] of [
      [DIST, 'index.html'],
      [MODELS, 'manifest.json'],
      [INDEX, 'manifest.json'],
    ]) {
      assert.ok(existsSync(join(folder, file)), `${folder} holds no ${file}: cargo xtask test builds it`);
    }
    const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
    browser = await chromium.launch({ executablePath, args });
  });
  after(() => browser?.close());
}

/**
 * A test with a fresh page and server. After it: no page error, no dialog, no unexpected console error (a wasm trap is
 * one), no request to another origin.
 *
 * @param {string} name
 * @param {{size?: object, faults?: object[], allowed?: RegExp, query?: string}} options `allowed`: console errors that belong to the test
 * @param {(visit: {page: object, server: object, t: object}) => Promise<void>} body
 */
export function siteTest(name, options, body) {
  test(name, { timeout: 10 * PATIENCE_MS }, async (t) => {
    const server = await serve({ dist: DIST, models: MODELS, index: INDEX, faults: options.faults ?? [] });
    const context = await browser.newContext({
      viewport: options.size ?? DESKTOP,
      locale: 'zh-CN',
      colorScheme: 'light',
    });
    try {
      const page = await context.newPage();
      page.setDefaultTimeout(PATIENCE_MS);
      const problems = watch(page, new URL(server.url).origin, options.allowed);
      await page.addInitScript(logAnswerChanges);
      await page.goto(`${server.url}${options.query ?? ''}`);
      await body({ page, server, t });
      assert.deepEqual(problems, []);
    } finally {
      await context.close();
      await server.close();
    }
  });
}

function watch(page, origin, allowed) {
  const problems = [];
  page.on('pageerror', (error) => problems.push(`page error: ${error}`));
  page.on('dialog', (dialog) => {
    problems.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('console', (message) => {
    if (message.type() === 'error' && !allowed?.test(message.text())) problems.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    const url = new URL(request.url());
    const local = url.origin === origin || ['data:', 'blob:'].includes(url.protocol);
    if (!local) problems.push(`request to another origin: ${url}`);
  });
  return problems;
}

/** Runs in the page: notes in `window.answerLog` when advice appears and each time an answer grows. */
function logAnswerChanges() {
  window.answerLog = [];
  let shown = '';
  const look = () => {
    const answer = [...document.querySelectorAll('[data-testid=answer]')].at(-1);
    const emergency = answer?.querySelector('[data-testid=emergency]') !== null && answer !== undefined;
    const text = answer?.querySelector('.answer-text')?.textContent ?? '';
    const state = `${emergency}|${text}`;
    if (state !== shown) window.answerLog.push({ emergency, characters: text.length });
    shown = state;
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
}

/** What {@link logAnswerChanges} has noted. */
export function answerLog(page) {
  return page.evaluate(() => window.answerLog);
}

/** Resolves when retriever and generator are loaded. */
export async function loaded(page) {
  await page.locator('[data-testid=status][data-phase=ready]').waitFor();
}

/** Types a question and sends it; returns its answer. */
export async function ask(page, question) {
  const rounds = await page.getByTestId('answer').count();
  await page.getByTestId('question-input').fill(question);
  await page.getByTestId('question-input').press('Enter');
  return page.getByTestId('answer').nth(rounds);
}

/** Resolves when an answer has reached a state. */
export async function reaches(answer, state) {
  await answer.and(answer.page().locator(`[data-state=${state}]`)).waitFor();
}

/** Asks and waits for the end of the answer. */
export async function askAndWait(page, question) {
  const answer = await ask(page, question);
  await reaches(answer, 'done');
  return answer;
}

/** The record that the reference panel shows. */
export async function openRecord(page) {
  const panel = page.locator('[data-testid=reference-panel][data-record-id]');
  await panel.waitFor();
  return panel.getAttribute('data-record-id');
}
