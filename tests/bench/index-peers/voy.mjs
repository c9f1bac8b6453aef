/** Voy: a k-d tree in WebAssembly; the page loads the whole serialized tree before its first search. */

import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { recordsOf, rounded } from './inputs.mjs';
import { publish, writeCompressed } from './publish.mjs';

const BINDINGS = 'voy_search_bg.js';
const WASM = 'voy_search_bg.wasm';

export const voy = {
  label: 'voy',
  package: 'voy-search',
  kind: 'vectors',
  site: 'Chromium',

  /** The package's entry leaves the wasm to a bundler; here, as in the page, its bindings are given it by hand. */
  async build(input, { index, code, modules }) {
    const folder = path.join(modules, 'voy-search');
    const bindings = await import(pathToFileURL(path.join(folder, BINDINGS)).href);
    const { instance } = await WebAssembly.instantiate(fs.readFileSync(path.join(folder, WASM)), { [`./${BINDINGS}`]: bindings });
    bindings.__wbg_set_wasm(instance.exports);
    const embeddings = [];
    for (const { id, text, vector } of recordsOf(input)) {
      embeddings.push({ id, title: text, url: `/${id}`, embeddings: rounded(vector) });
    }
    await writeCompressed(path.join(index, 'voy.json'), new bindings.Voy({ embeddings }).serialize());
    for (const name of [BINDINGS, WASM]) await publish(path.join(folder, name), path.join(code, name));
  },

  question: ({ vector }) => ({ vector: Array.from(vector) }),

  /** Runs in the page. */
  async ask({ vector, top }) {
    const begin = performance.now();
    const start = async () => {
      const [bindings, module] = await Promise.all([
        import('/code/voy_search_bg.js'),
        WebAssembly.compileStreaming(fetch('/code/voy_search_bg.wasm')),
      ]);
      const instance = await WebAssembly.instantiate(module, { './voy_search_bg.js': bindings });
      bindings.__wbg_set_wasm(instance.exports);
      return bindings.Voy;
    };
    const fetchIndex = async () => (await fetch('/index/voy.json')).text();
    const [Voy, serialized] = await Promise.all([start(), fetchIndex()]);
    const { neighbors } = Voy.deserialize(serialized).search(Float32Array.from(vector), top);
    const ms = performance.now() - begin;
    return { ms, hits: neighbors.length, ids: neighbors.map(({ id }) => id), text: neighbors[0]?.title };
  },
};
