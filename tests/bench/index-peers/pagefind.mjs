/** Pagefind: full text in shards that a page fetches by the words it looks for. */

import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { recordsOf } from './inputs.mjs';
import { publish } from './publish.mjs';

export const pagefind = {
  label: 'pagefind',
  package: 'pagefind',
  kind: 'full text',
  site: 'Chromium',

  /** The documented Node API; records are pages of their own without HTML. */
  async build(input, { index, modules }) {
    const { createIndex, close } = await import(pathToFileURL(path.join(modules, 'pagefind/lib/index.js')).href);
    const { index: builder } = await createIndex({ forceLanguage: 'zh' });
    for (const { id, text } of recordsOf(input)) {
      const { errors } = await builder.addCustomRecord({ url: `/${id}`, content: text, language: 'zh' });
      if (errors.length) throw new Error(errors.join('; '));
    }
    const { errors } = await builder.writeFiles({ outputPath: index });
    if (errors.length) throw new Error(errors.join('; '));
    await close();
    // The ready-made search boxes are not needed to search; scripts are compressed as hosts do.
    for (const name of fs.readdirSync(index)) {
      const file = path.join(index, name);
      if (/(ui|highlight|playground)\.(css|js)$/.test(name)) fs.rmSync(file);
      else if (name.endsWith('.js')) await publish(file, file), fs.rmSync(file);
    }
  },

  question: ({ text }) => ({ words: text }),

  /** Runs in the page. */
  async ask({ words }) {
    const begin = performance.now();
    const search = await import('/index/pagefind.js');
    const { results } = await search.search(words);
    const first = await results[0]?.data();
    const ms = performance.now() - begin;
    return { ms, hits: results.length, ids: first ? [first.raw_url.slice(1)] : [], text: first?.raw_content ?? first?.content };
  },
};
