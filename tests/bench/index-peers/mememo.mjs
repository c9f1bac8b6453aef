/** MeMemo: an HNSW graph in the page's memory; the page loads all vectors and the whole graph before its first search. */

import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { recordsOf, rounded } from './inputs.mjs';
import { publish, writeCompressed } from './publish.mjs';

/** The levels of the graph are drawn at random. */
const SEED = 1;

function* linesOf(input) {
  for (const { text, vector } of recordsOf(input)) yield `${JSON.stringify([text, rounded(vector)])}\n`;
}

export const mememo = {
  label: 'mememo',
  package: 'mememo',
  kind: 'vectors',
  site: 'Chromium',

  /** As in its example: records as compressed lines of text and vector, and a graph that was exported beforehand. */
  async build(input, { index, code, modules }) {
    const module = path.join(modules, 'mememo/dist/index.es.js');
    const { HNSW } = await import(pathToFileURL(module).href);
    const graph = new HNSW({ distanceFunction: 'cosine-normalized', seed: SEED });
    const [keys, values] = [[], []];
    for (const { id, vector } of recordsOf(input)) keys.push(id), values.push(rounded(vector));
    await graph.bulkInsert(keys, values);
    await writeCompressed(path.join(index, 'graph.json'), JSON.stringify(graph.exportIndex()));
    await writeCompressed(path.join(index, 'records.ndjson'), linesOf(input));
    await publish(module, path.join(code, 'mememo.js'));
  },

  question: ({ vector }) => ({ vector: Array.from(vector) }),

  /** Runs in the page. */
  async ask({ vector, top }) {
    const begin = performance.now();
    const fetchRecords = async () => {
      const [texts, values] = [[], []];
      let rest = '';
      const take = (line) => {
        const [text, value] = JSON.parse(line);
        texts.push(text), values.push(value);
      };
      const stream = (await fetch('/index/records.ndjson')).body.pipeThrough(new TextDecoderStream());
      for await (const piece of stream) {
        const parts = (rest + piece).split('\n');
        rest = parts.pop();
        parts.forEach(take);
      }
      return { texts, values };
    };
    const fetchGraph = async () => (await fetch('/index/graph.json')).json();
    const [{ HNSW }, { texts, values }, graph] = await Promise.all([import('/code/mememo.js'), fetchRecords(), fetchGraph()]);
    const index = new HNSW({ distanceFunction: 'cosine-normalized' });
    index.loadIndex(graph);
    // All at once: in batches, it compares each key with all keys before.
    await index.bulkInsertSkipIndex(Object.keys(texts), values);
    const { keys } = await index.query(vector, top);
    return { ms: performance.now() - begin, hits: keys.length, ids: keys, text: texts[keys[0]] };
  },
};
