/** One question asked of a peer that has fetched nothing before, and what that took. */

import { dependentTrips } from '../../browser/counted-link.mjs';
import { TOP } from './inputs.mjs';
import { runScript } from './child.mjs';

const MINUTE_MS = 60_000;
/** A peer's own code among what was fetched: it does not grow with the index. */
const CODE = /\.(js|wasm)$|\/wasm\.[\w-]+\.pagefind$/;
/** Where models lie, which are no part of an index: peers are given vectors. */
export const MODELS = '/models/';

async function inBrowser({ browser, server }, peer, question, minutes) {
  const context = await browser.newContext();
  let timer;
  try {
    const page = await context.newPage();
    const failed = new Promise((_, reject) => {
      page.once('crash', () => reject(new Error('the page crashed, out of memory')));
      timer = setTimeout(() => reject(new Error(`no result within ${minutes} minutes`)), minutes * MINUTE_MS);
    });
    await page.goto(`${server.origin}/`);
    server.log.length = 0; // the bare page is anybody's
    return await Promise.race([page.evaluate(peer.ask, question), failed]);
  } finally {
    clearTimeout(timer);
    await context.close();
  }
}

async function inNode({ server, modules }, name, question, minutes) {
  server.log.length = 0;
  const asked = { ...question, plainOrigin: server.plainOrigin, modules };
  return JSON.parse(await runScript('ask-node.mjs', { peer: name, question: asked }, minutes));
}

/**
 * Asks one question.
 *
 * @param {object} site what it runs on: `browser`, `server`, `modules`
 * @param {{name: string, peer: object}} who
 * @param {{text?: string, vector: Float32Array}} asked
 * @param {number} minutes it may take
 * @returns {Promise<{ms: number, hits: number, ids: string[], text?: string, bytes: number, codeBytes: number, requests: number, trips: number, log: object[]}>}
 */
export async function askCold(site, { name, peer }, asked, minutes) {
  const question = { ...peer.question(asked), top: TOP };
  const answer = peer.site === 'Chromium'
    ? await inBrowser(site, peer, question, minutes)
    : await inNode(site, name, question, minutes);
  const log = site.server.log.filter(({ url }) => !url.startsWith(MODELS));
  const bytesOf = (entries) => entries.reduce((sum, { bytes }) => sum + bytes, 0);
  const code = log.filter(({ url }) => CODE.test(url.split('?')[0]));
  const counts = { bytes: bytesOf(log), codeBytes: bytesOf(code), requests: log.length, trips: dependentTrips(log) };
  return { ...answer, ...counts, log: log.map((entry) => ({ ...entry })) };
}
