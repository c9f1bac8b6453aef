/** LanceDB: inverted lists with product quantization in an object store; it has no build for browsers, so Node asks. */

import path from 'node:path';
import { createRequire } from 'node:module';
import { recordsOf } from './inputs.mjs';
import { BUCKET } from './s3.mjs';

const TABLE = 'records';
/** Records handed over at once. */
const BATCH = 10_000;

/** Its package is CommonJS, and finds its native part beside itself. */
const load = (modules) => createRequire(path.join(modules, 'index.js'))('@lancedb/lancedb');

async function build(input, { index, modules }) {
  const { connect, Index } = load(modules);
  const database = await connect(index);
  let [table, batch] = [null, []];
  const flush = async () => {
    if (table) await table.add(batch);
    else table = await database.createTable(TABLE, batch);
    batch = [];
  };
  for (const { id, text, vector } of recordsOf(input)) {
    batch.push({ id, text, vector: Array.from(vector) });
    if (batch.length === BATCH) await flush();
  }
  if (batch.length) await flush();
  // Fewer, larger fragments, as its documentation asks for before an index is made.
  await table.optimize();
  await table.createIndex('vector', { config: Index.ivfPq({ distanceType: 'cosine' }) });
  // Old versions are no part of what a host would keep; the first time around may leave a version of its own.
  for (let round = 0; round < 2; round++) await table.optimize({ cleanupOlderThan: new Date(), deleteUnverified: true });
}

/** Runs in a Node process of its own; loading the native library (some 180 MB) is not counted. */
async function ask({ vector, top, plainOrigin, modules, refine }) {
  const { connect } = load(modules);
  const begin = performance.now();
  const storageOptions = {
    endpoint: plainOrigin, allowHttp: 'true', region: 'us-east-1', awsAccessKeyId: 'none', awsSecretAccessKey: 'none',
  };
  const database = await connect(`s3://${BUCKET}`, { storageOptions });
  const table = await database.openTable(TABLE);
  const search = table.vectorSearch(Float32Array.from(vector)).distanceType('cosine').select(['id', 'text', '_distance']).limit(top);
  if (refine) search.refineFactor(refine);
  const rows = await search.toArray();
  return { ms: performance.now() - begin, hits: rows.length, ids: rows.map(({ id }) => id), text: rows[0]?.text };
}

/** Vectors of so many times the wanted results are read again in full, as its documentation does where recall counts. */
const REFINE = 10;

const base = { package: '@lancedb/lancedb', kind: 'vectors', site: 'Node, S3', build, ask };

export const lancedb = { ...base, label: 'lancedb', question: ({ vector }) => ({ vector: Array.from(vector) }) };
export const lancedbRefined = {
  ...base,
  label: `lancedb, refineFactor ${REFINE}`,
  question: ({ vector }) => ({ vector: Array.from(vector), refine: REFINE }),
};
