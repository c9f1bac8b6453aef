// What the benchmark's numbers rest on: `node --test tests/bench/index-peers/network.test.mjs`.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { dependentTrips, Link } from '../../browser/counted-link.mjs';
import { serveOverLink } from '../../browser/http2-server.mjs';
import { exact, recall } from './inputs.mjs';
import { BUCKET, bucketOf } from './s3.mjs';

const CONTENT = '0123456789';

/** A server of a bucket with two objects; over a link without delay unless told otherwise. */
async function withBucket(run, profile = { rttMs: 0, bytesPerSecond: 0 }) {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'bucket-'));
  fs.mkdirSync(path.join(root, 'table/data'), { recursive: true });
  for (const key of ['table/data/a', 'table/b']) fs.writeFileSync(path.join(root, key), CONTENT);
  const server = await serveOverLink(new Link(profile), { roots: {}, page: '', plain: bucketOf(() => root) });
  const get = (name, options) => fetch(`${server.plainOrigin}/${BUCKET}${name}`, options);
  try {
    await run(get, server.log, root);
  } finally {
    server.close();
    fs.rmSync(root, { recursive: true });
  }
}

test('a request waits a round trip', () =>
  withBucket(async (get, log) => {
    await (await get('/table/b')).text();
    const [{ begin, end, bytes }] = log;
    assert.ok(end - begin >= 30 - 1, `${end - begin} ms`); // timers may fire a little early
    assert.equal(bytes, CONTENT.length);
  }, { rttMs: 30, bytesPerSecond: 0 }));

test('answers at once share the rate', () =>
  withBucket(async (get, log, root) => {
    fs.writeFileSync(path.join(root, 'large'), Buffer.alloc(100_000));
    const begin = performance.now();
    await Promise.all([1, 2].map(async () => (await get('/large')).arrayBuffer()));
    assert.ok(performance.now() - begin >= 190, 'two of 100 ms each');
    assert.equal(log.reduce((sum, { bytes }) => sum + bytes, 0), 200_000);
  }, { rttMs: 0, bytesPerSecond: 1e6 }));

test('trips are the longest chain of requests of which each waited for the one before', () => {
  const entry = (begin, end) => ({ begin, end });
  assert.equal(dependentTrips([entry(0, 10), entry(1, 9), entry(2, 20)]), 1);
  assert.equal(dependentTrips([entry(0, 10), entry(11, 20), entry(12, 30), entry(21, 40)]), 3);
  assert.equal(dependentTrips([]), 0);
});

test('an object is read whole, by range and by suffix', () =>
  withBucket(async (get) => {
    const ranged = async (range) => {
      const response = await get('/table/b', { headers: { range } });
      return [response.status, response.headers.get('content-range'), await response.text()];
    };
    assert.equal(await (await get('/table/b')).text(), CONTENT);
    assert.deepEqual(await ranged('bytes=2-4'), [206, 'bytes 2-4/10', '234']);
    assert.deepEqual(await ranged('bytes=-3'), [206, 'bytes 7-9/10', '789']);
    assert.equal((await get('/table/b', { method: 'HEAD' })).headers.get('content-length'), '10');
    assert.equal((await get('/table/c')).status, 404);
  }));

test('a list stops at the delimiter', () =>
  withBucket(async (get) => {
    const xml = await (await get('?list-type=2&prefix=table/&delimiter=/')).text();
    assert.deepEqual([...xml.matchAll(/<Key>(.*?)<\/Key>/g)].map(([, key]) => key), ['table/b']);
    assert.match(xml, /<CommonPrefixes><Prefix>table\/data\/<\/Prefix>/);
  }));

test('recall is the share of the exact results that were found', () => {
  const file = path.join(os.tmpdir(), `vectors-${process.pid}`);
  fs.writeFileSync(file, new Uint8Array(Float32Array.of(1, 0, 0, 1, 0.6, 0.8).buffer));
  const [expected] = exact({ vectors: file, dim: 2, records: 3 }, [Float32Array.of(1, 0)]);
  fs.rmSync(file);
  assert.deepEqual(expected, ['0', '2', '1']);
  assert.equal(recall(['2', '0'], expected), 2 / 3);
});
