/** This project: its program builds, and its page asks, with the encoder of `HUATUO_MODELS`. */

import fs from 'node:fs';
import path from 'node:path';
import { execFileSync } from 'node:child_process';
import { buildPage } from '../page.mjs';
import { recordsOf } from './inputs.mjs';
import { publish } from './publish.mjs';

/** What the page is loaded by. */
const ENTRY = 'assets/ours.js';

/** The page's scripts and its WebAssembly, as a site serves them. */
async function publishCode(code) {
  const outDir = path.join(code, 'built');
  await buildPage(outDir, { entryFileNames: ENTRY });
  for (const { parentPath, name } of fs.readdirSync(outDir, { withFileTypes: true, recursive: true })) {
    const file = path.join(parentPath, name);
    if (/\.(js|wasm)$/.test(name)) await publish(file, path.join(code, path.relative(outDir, file)));
  }
  fs.rmSync(outDir, { recursive: true });
}

export const ours = {
  label: 'this project',
  kind: 'vectors and text',
  site: 'Chromium',

  /** Vectors are made by its own encoder from the texts. */
  async build(input, { index, code }) {
    const { HUATUO_PROGRAM, HUATUO_MODELS } = process.env;
    await publishCode(code);
    const records = path.join(code, 'records.jsonl');
    const file = fs.openSync(records, 'w');
    for (const { id, text } of recordsOf(input)) {
      fs.writeSync(file, `${JSON.stringify({ id, questions: [text], answer: text })}\n`);
    }
    fs.closeSync(file);
    // Every peer keeps all texts, so nothing is cleaned here either.
    const build = ['index', 'build', '--input', records, '--out', index, '--embed', 'question', '--keep-all'];
    execFileSync(HUATUO_PROGRAM, [...build, '--retriever', path.join(HUATUO_MODELS, 'retriever')], { stdio: ['ignore', 'ignore', 'inherit'] });
    fs.rmSync(records);
  },

  question: ({ text }) => ({ words: text, entry: `/code/${ENTRY}` }),

  /** Runs in the page. Models are no part of an index: peers are given a vector or need none, so time begins when ours are there. */
  async ask({ words, entry }) {
    await import(entry);
    const consult = await new Promise((resolve, reject) => {
      const consult = new HuatuoConsult({ base: '.', onStatus: ({ error }) => error && reject(error) });
      consult.load().then(() => resolve(consult), reject);
    });
    const begin = performance.now();
    const { references } = await consult.ask(words, { referencesOnly: true });
    const ms = performance.now() - begin;
    return { ms, hits: references.length, ids: references.map(({ id }) => id), text: references[0]?.answer };
  },
};
