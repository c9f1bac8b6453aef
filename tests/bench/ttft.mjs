// Time to the first token of a question with three references, in Chromium: as shipped, and without what shortens it
// (kept beginning of prompts, references shortened, the first read while the others come, references kept across turns).
// Two pages answer the same questions in turn. Run by `cargo xtask bench ttft`, which builds what it needs.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { serve } from '../../web/serve.mjs';
import { BROWSER_FLAGS } from '../browser/static-server.mjs';
import { buildPage } from './page.mjs';
import { show, spread } from './spread.mjs';

const { CHROMIUM, HUATUO_MODELS, HUATUO_INDEX, HUATUO_BENCH } = process.env;
const require = createRequire(path.resolve('package.json'));
const { chromium } = require('playwright-core');

const PAGE = path.join(HUATUO_BENCH, 'page');
await buildPage(PAGE);

const REFERENCES = 3;
/** A network of the middle sort: 50 ms to the server, 50 Mbit/s, for the index; models are there. */
const NETWORK = { url: /^\/index\//, latencyMs: 50, bytesPerSecond: 50e6 / 8 };
const WITHOUT = { promptCharacters: 1e9, withoutReuse: true };
const FOLLOW_UP = '它平时要注意什么？';
const lines = (file) => fs.readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
const everyNth = (list, count) => list.filter((_, at) => at % Math.floor(list.length / count) === 0).slice(0, count);
const short = lines('../samples/dev_questions.jsonl').map(({ question }) => question);
const encyclopaedia = lines(path.join(HUATUO_BENCH, 'encyclopaedia.jsonl')).map(({ questions }) => questions[1]);

const SHAPE = path.join(HUATUO_BENCH, 'ttft-models');
const LONG_INDEX = path.join(HUATUO_BENCH, 'encyclopaedia-index');
const CASES = [
  { name: '0.5B Q4_0, sample records', models: SHAPE, index: HUATUO_INDEX, questions: everyNth(short, 12), maxTokens: 4 },
  { name: '0.5B Q4_0, long records', models: SHAPE, index: LONG_INDEX, questions: everyNth(encyclopaedia, 7), maxTokens: 4 },
  { name: 'default, sample records', models: HUATUO_MODELS, index: HUATUO_INDEX, questions: everyNth(short, 100) },
  { name: 'default, long records', models: HUATUO_MODELS, index: LONG_INDEX, questions: everyNth(encyclopaedia, 30) },
];

const browser = await chromium.launch({ executablePath: CHROMIUM, args: BROWSER_FLAGS });

/** A page that answers in one way, loaded. */
async function open(server, options) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.on('console', (message) => message.type() === 'error' && console.log(`   page: ${message.text()}`));
  await page.goto(server.url);
  await page.waitForFunction('globalThis.HuatuoConsult');
  await page.evaluate(async () => {
    const status = new Promise((_, reject) => {
      globalThis.consult = new HuatuoConsult({ base: '.', onStatus: ({ error }) => error && reject(error) });
    });
    await Promise.race([globalThis.consult.load(), status]);
  });
  const ask = (question, history = []) =>
    page.evaluate(([question, options]) => globalThis.consult.ask(question, options), [question, { ...options, history }]);
  return { ask, close: () => context.close() };
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Share of the answers' sentences that a reference supports, and characters of an answer. */
function quality(answers) {
  const sentences = answers.flatMap((answer) => answer.sentences);
  return {
    support: sentences.filter(({ supported }) => supported).length / sentences.length,
    characters: mean(answers.map(({ answer }) => answer.length)),
  };
}

const wanted = process.env.HUATUO_CASES?.split(',').map(Number);
const table = [];
for (const [index, test] of CASES.entries()) {
  if (wanted && !wanted.includes(index)) continue;
  const faults = [];
  const server = await serve({ dist: PAGE, models: test.models, index: test.index, faults });
  const options = { references: REFERENCES, ...(test.maxTokens && { maxTokens: test.maxTokens }) };
  const [shipped, without] = [await open(server, options), await open(server, { ...options, ...WITHOUT })];
  faults.push(NETWORK);
  // Both read all vectors at their first question.
  await shipped.ask(test.questions[0]);
  await without.ask(test.questions[0]);
  const rounds = { first: [], next: [] };
  for (const question of test.questions.slice(1)) {
    const first = [await shipped.ask(question), await without.ask(question)];
    if (first.some(({ abstained }) => abstained)) continue;
    rounds.first.push(first);
    const history = [
      { role: 'patient', text: question },
      { role: 'assistant', text: first[0].answer },
    ];
    const next = [await shipped.ask(FOLLOW_UP, history), await without.ask(FOLLOW_UP, history)];
    if (next.some(({ abstained }) => abstained)) continue;
    rounds.next.push(next);
  }
  await shipped.close();
  await without.close();
  await server.close();
  for (const [round, pairs] of Object.entries(rounds)) {
    const times = [0, 1].map((side) => spread(pairs.map((pair) => pair[side].timings_ms.first_token)));
    const ratio = spread(pairs.map(([ours, plain]) => plain.timings_ms.first_token / ours.timings_ms.first_token));
    const tokens = [0, 1].map((side) => mean(pairs.map((pair) => pair[side].prompt_tokens - pair[side].cached_tokens)));
    const stages = [0, 1].map((side) =>
      Object.fromEntries(
        Object.keys(pairs[0][0].timings_ms).map((stage) => [stage, mean(pairs.map((pair) => pair[side].timings_ms[stage]))]),
      ),
    );
    const [ours, plain] = [0, 1].map((side) => quality(pairs.map((pair) => pair[side])));
    console.log(`${test.name}, ${round === 'first' ? 'first question' : 'next round'}, ${pairs.length} questions: first token after ms, median (min–max)`);
    console.log(`  shipped ${show(times[0], 0)}  without ${show(times[1], 0)}  ratio ${show(ratio, 2)}; tokens left to read ${tokens.map((n) => n.toFixed(0)).join(' against ')}`);
    console.log(`  stages, mean ms: ${stages.map((stage) => Object.entries(stage).map(([name, ms]) => `${name} ${ms.toFixed(0)}`).join(', ')).join(' | ')}`);
    if (!test.maxTokens) {
      console.log(`  support ${ours.support.toFixed(4)} against ${plain.support.toFixed(4)}; characters of an answer ${ours.characters.toFixed(0)} against ${plain.characters.toFixed(0)}`);
    }
    table.push({ name: test.name, round, times, ratio, tokens, stages, quality: test.maxTokens ? null : [ours, plain] });
  }
}
await browser.close();
const machine = { cpu: os.cpus()[0]?.model, cores: os.cpus().length, node: process.version };
fs.writeFileSync(path.join(HUATUO_BENCH, 'ttft.json'), JSON.stringify({ machine, table }, null, 2));
