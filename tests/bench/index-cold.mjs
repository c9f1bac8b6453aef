// A cold question in Chromium, from its text to references with their texts: embedding, network, scan. The index comes over HTTP/2 on a
// simulated network; every question is asked of a page that has read nothing of it but its root, then a like one of the same page, and
// once more at the next visit. HUATUO_DECOYS: so many decoys go with each.
// Run by `cargo xtask bench index-cold`, which builds what it needs. HUATUO_INDEX names a folder, HUATUO_QUESTIONS lines of {"question"}.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { Link } from '../browser/counted-link.mjs';
import { serveOverLink } from '../browser/http2-server.mjs';
import { BROWSER_FLAGS } from '../browser/static-server.mjs';
import { buildPage } from './page.mjs';
import { spread } from './spread.mjs';

const { CHROMIUM, HUATUO_MODELS, HUATUO_INDEX, HUATUO_QUESTIONS, HUATUO_BENCH } = process.env;
const require = createRequire(path.resolve('package.json'));
const { chromium } = require('playwright-core');

const PAGE = path.join(HUATUO_BENCH, 'page');
await buildPage(PAGE);

const REFERENCES = 3;
const DECOYS = Number(process.env.HUATUO_DECOYS ?? 0);
const QUESTIONS = Number(process.env.HUATUO_ROUNDS ?? 12);
const MBIT = 1e6 / 8;
const PROFILES = (process.env.HUATUO_PROFILES ?? '50/50 0/200 20/50 50/10 50/200 150/10 150/50').split(' ').map((profile) => {
  const [rttMs, megabits] = profile.split('/').map(Number);
  return { rttMs, megabits };
});

const lines = fs.readFileSync(HUATUO_QUESTIONS, 'utf8').trim().split('\n').map((line) => JSON.parse(line).question);
const everyNth = (list, count) => list.filter((_, at) => at % Math.max(1, Math.floor(list.length / count)) === 0).slice(0, count);
const questions = everyNth(lines, 2 * QUESTIONS);

const link = new Link({ rttMs: 0, bytesPerSecond: 0 });
const server = await serveOverLink(link, {
  roots: { '/models/': HUATUO_MODELS, '/index/': HUATUO_INDEX, '/': PAGE },
  page: fs.readFileSync(path.join(PAGE, 'index.html')),
  plain: () => ({ status: 404 }),
});
const browser = await chromium.launch({ executablePath: CHROMIUM, args: [...BROWSER_FLAGS, '--ignore-certificate-errors'] });

/** A page with models and the index's root, and nothing else of the index but what the device has kept. */
async function open(context) {
  const page = await context.newPage();
  page.on('console', (message) => message.type() === 'error' && console.log(`   page: ${message.text()}`));
  await page.goto(`${server.origin}/`);
  await page.waitForFunction('globalThis.HuatuoConsult');
  await page.evaluate(async (decoys) => {
    const status = new Promise((_, reject) => {
      globalThis.consult = new HuatuoConsult({ base: '.', decoys, onStatus: ({ error }) => error && reject(error) });
    });
    await Promise.race([globalThis.consult.load(), status]);
  }, DECOYS);
  const ask = (question) =>
    page.evaluate(
      async ([question, references]) => {
        const begin = performance.now();
        const answer = await globalThis.consult.ask(question, { referencesOnly: true, references });
        return { ...answer, ms: performance.now() - begin };
      },
      [question, REFERENCES],
    );
  return { ask, close: () => page.close() };
}

const table = [];
console.log('| RTT ms / Mbit/s | | to references ms | embed | network | scan | KB | requests | trips |');
console.log('|---|---|---|---|---|---|---|---|---|');
for (const { rttMs, megabits } of PROFILES) {
  const rounds = { cold: [], warm: [], 'next visit': [] };
  for (let n = 0; n < QUESTIONS; n += 1) {
    Object.assign(link, { rttMs: 0, bytesPerSecond: 0 });
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const page = await open(context);
    Object.assign(link, { rttMs, bytesPerSecond: megabits * MBIT });
    rounds.cold.push(await page.ask(questions[2 * n]));
    // Another wording of what was asked before: most of what it needs is there.
    rounds.warm.push(await page.ask(`请问${questions[2 * n]}`));
    await page.close();
    Object.assign(link, { rttMs: 0, bytesPerSecond: 0 });
    const next = await open(context);
    Object.assign(link, { rttMs, bytesPerSecond: megabits * MBIT });
    rounds['next visit'].push(await next.ask(questions[2 * n]));
    await context.close();
  }
  for (const [kind, answers] of Object.entries(rounds)) {
    const of = (read) => spread(answers.map(read));
    const row = {
      rttMs, megabits, kind,
      ms: of(({ ms }) => ms),
      embed: of(({ timings_ms: { embed } }) => embed),
      network: of(({ statistics }) => statistics.milliseconds.fetch),
      scan: of(({ statistics: { milliseconds } }) => milliseconds.scan + milliseconds.decode),
      kilobytes: of(({ statistics }) => statistics.bytes / 1000),
      requests: of(({ statistics }) => statistics.requests),
      trips: of(({ statistics }) => statistics.trips),
    };
    table.push(row);
    const show = ({ median, max }) => `${median.toFixed(0)} (at most ${max.toFixed(0)})`;
    const columns = ['ms', 'embed', 'network', 'scan', 'kilobytes', 'requests', 'trips'].map((name) => show(row[name]));
    console.log(`| ${rttMs} / ${megabits} | ${kind} | ${columns.join(' | ')} |`);
  }
}
await browser.close();
server.close();
const machine = { cpu: os.cpus()[0]?.model, cores: os.cpus().length, node: process.version };
fs.writeFileSync(path.join(HUATUO_BENCH, 'index-cold.json'), JSON.stringify({ machine, questions: QUESTIONS, table }, null, 2));
