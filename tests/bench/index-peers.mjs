// Bytes, requests and time from a cold start to the first result of a question: this project's index beside pagefind,
// mememo, voy and LanceDB on the same records and one simulated network, each as its documentation recommends.
//
//   CHROMIUM=… HUATUO_PROGRAM=… HUATUO_MODELS=… node tests/bench/index-peers.mjs --texts FILE --vectors FILE --queries FILE \
//     --query-texts FILE --dim 256
//
// Run by `cargo xtask bench index-peers`, which builds what it needs. Not counted for anybody: headers, the bare page, models that make
// vectors, and the handshakes of a connection (two round trips of the first).
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Link } from '../browser/counted-link.mjs';
import { serveOverLink } from '../browser/http2-server.mjs';
import { BROWSER_FLAGS } from '../browser/static-server.mjs';
import { runScript } from './index-peers/child.mjs';
import { MODELS, askCold } from './index-peers/cold.mjs';
import { exact, lines, recall, vectors } from './index-peers/inputs.mjs';
import { PACKAGES, PEERS } from './index-peers/peers.mjs';
import { stored } from './index-peers/publish.mjs';
import { bucketOf } from './index-peers/s3.mjs';
import { markdown } from './index-peers/table.mjs';
import { spread } from './spread.mjs';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const { values: options } = parseArgs({
  options: {
    texts: { type: 'string' }, // one a line
    vectors: { type: 'string' }, // little-endian f32, a row a record, of length one
    queries: { type: 'string' }, // little-endian f32
    'query-texts': { type: 'string' }, // one a line, for full text
    dim: { type: 'string' },
    records: { type: 'string', default: '100000' },
    peers: { type: 'string', default: Object.keys(PEERS).join(',') },
    questions: { type: 'string', default: '3' },
    rtt: { type: 'string', default: '50' }, // milliseconds
    mbit: { type: 'string', default: '50' }, // Mbit/s
    'build-minutes': { type: 'string', default: '30' },
    'ask-minutes': { type: 'string', default: '5' },
    'node-modules': { type: 'string' },
    out: { type: 'string', default: path.join(ROOT, 'target') },
  },
});
for (const name of ['texts', 'vectors', 'queries', 'query-texts', 'dim']) {
  if (!options[name]) throw new Error(`--${name} is needed`);
}
const { CHROMIUM, HUATUO_PROGRAM, HUATUO_MODELS } = process.env;
if (!CHROMIUM) throw new Error('CHROMIUM has to name the browser');
if (options.peers.split(',').includes('ours') && !(HUATUO_PROGRAM && HUATUO_MODELS)) {
  throw new Error('HUATUO_PROGRAM has to name the built program, HUATUO_MODELS the folder of models');
}

/** The largest size that a peer takes is looked for to this share of the wanted one. */
const STEP_SHARE = 1 / 8;
const BITS = 8;
const MEGA = 1e6;

/** The peers' packages: those given, or installed on demand. */
function installPeers() {
  if (options['node-modules']) return path.resolve(options['node-modules']);
  const folder = path.join(options.out, 'bench-peers');
  fs.mkdirSync(folder, { recursive: true });
  const install = 'install --no-save --no-audit --no-fund --loglevel=error'.split(' ');
  execFileSync('npm', [...install, ...PACKAGES], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  return path.join(folder, 'node_modules');
}

const modules = installPeers();
/** A package's version; nothing for what is no package. */
const versionOf = (name) => name && JSON.parse(fs.readFileSync(path.join(modules, name, 'package.json'), 'utf8')).version;

/** A peer's index of so many records, built unless the same one lies there. */
async function build(name, records) {
  const peer = PEERS[name];
  const input = { texts: path.resolve(options.texts), vectors: path.resolve(options.vectors), dim: Number(options.dim), records };
  // Peers that only ask differently share an index.
  const builder = Object.keys(PEERS).find((other) => PEERS[other].build === peer.build);
  const folder = path.join(options.out, 'bench/index-peers', `${builder}-${records}`);
  const folders = { index: path.join(folder, 'index'), code: path.join(folder, 'code'), modules };
  const stamp = path.join(folder, 'built.json');
  const files = [input.texts, input.vectors].map((file) => [file, fs.statSync(file).size, fs.statSync(file).mtimeMs]);
  const made = { files, dim: input.dim, version: versionOf(peer.package) };
  const before = fs.existsSync(stamp) ? JSON.parse(fs.readFileSync(stamp, 'utf8')) : null;
  if (before && JSON.stringify(before.made) === JSON.stringify(made)) return { ...folders, seconds: before.seconds };
  fs.rmSync(folder, { recursive: true, force: true });
  for (const made of [folders.index, folders.code]) fs.mkdirSync(made, { recursive: true });
  const begin = performance.now();
  await runScript('build.mjs', { peer: builder, input, folders }, Number(options['build-minutes']));
  const seconds = (performance.now() - begin) / 1000;
  fs.writeFileSync(stamp, JSON.stringify({ made, seconds }));
  return { ...folders, seconds };
}

const served = { root: null, roots: HUATUO_MODELS ? { [MODELS]: path.resolve(HUATUO_MODELS) } : {} };
const link = new Link({ rttMs: Number(options.rtt), bytesPerSecond: (Number(options.mbit) * MEGA) / BITS });
const server = await serveOverLink(link, {
  roots: served.roots,
  page: '<!doctype html><html lang="zh"><title>index</title><link rel="icon" href="data:,">',
  plain: bucketOf(() => served.root),
});
const { chromium } = createRequire(path.join(ROOT, 'web/package.json'))('playwright-core');
const browser = await chromium.launch({ executablePath: CHROMIUM, args: [...BROWSER_FLAGS, '--ignore-certificate-errors'] });

const recordTexts = lines(options.texts);
const dim = Number(options.dim);
const questions = (() => {
  const { row } = vectors(options.queries, dim, Number(options.questions));
  return lines(options['query-texts']).slice(0, Number(options.questions)).map((text, at) => ({ text, vector: row(at) }));
})();
/** Some peers put breaks between the words of a text. */
const plainText = (text) => text?.replace(/[\s\u200b]/g, '');

/** A result has to be the text of the record that it names. */
function check(answer, records) {
  if (answer.hits === 0) return false;
  const id = Number(answer.ids[0]);
  if (!(id < records) || plainText(answer.text) !== plainText(recordTexts[id])) {
    throw new Error(`the first result is not record ${answer.ids[0]}`);
  }
  return true;
}

/** All questions asked of a peer over so many records. */
async function measure(name, records) {
  const peer = PEERS[name];
  const built = await build(name, records);
  Object.assign(served.roots, { '/index/': built.index, '/code/': built.code });
  served.root = built.index;
  const expected = peer.kind === 'vectors' &&
    exact({ vectors: options.vectors, dim, records }, questions.map(({ vector }) => vector));
  const answers = [];
  for (const [at, question] of questions.entries()) {
    const answer = await askCold({ browser, server, modules }, { name, peer }, question, Number(options['ask-minutes']));
    const found = check(answer, records);
    const result = { ...answer, found, ...(expected && { recall: recall(answer.ids, expected[at]) }) };
    const cost = `${(result.bytes / MEGA).toFixed(3)} MB, ${result.requests} requests, ${result.trips} trips, ${result.ms.toFixed(0)} ms`;
    console.error(`   ${name} ${records}: ${cost}, ${result.hits} hits${expected ? `, recall ${result.recall.toFixed(2)}` : ''}`);
    answers.push(result);
  }
  const median = (key) => spread(answers.map((answer) => answer[key])).median;
  const [bytes, codeBytes, requests, trips, ms] = ['bytes', 'codeBytes', 'requests', 'trips', 'ms'].map(median);
  const onHost = stored(built.index);
  return {
    name: peer.label, version: versionOf(peer.package), records, kind: peer.kind, site: peer.site,
    disk: onHost.bytes, files: onHost.files, bytes, codeBytes, requests, trips, ms, buildSeconds: built.seconds,
    found: answers.filter(({ found }) => found).length, questions: answers.length,
    recalls: expected ? answers.map(({ recall }) => recall) : null, answers,
  };
}

/** The largest size that a peer takes, by bisection where it refuses the wanted one; with its reasons. */
async function largest(name, wanted) {
  const { label, package: packageName, kind, site } = PEERS[name];
  const refused = [];
  let row = { name: label, version: versionOf(packageName), kind, site };
  let [taken, over] = [0, wanted];
  for (let records = wanted; ; records = Math.floor((taken + over) / 2)) {
    try {
      row = await measure(name, records);
      taken = records;
    } catch (error) {
      refused.push({ records, reason: error.message.split('\n')[0] });
      console.error(`   ${name} ${records}: ${refused.at(-1).reason}`);
      over = records;
    }
    if (over - taken <= wanted * STEP_SHARE || taken === wanted) return { ...row, refused };
  }
}

const wanted = Math.min(Number(options.records), recordTexts.length, vectors(options.vectors, dim).rows);
const rows = [];
for (const name of options.peers.split(',')) rows.push(await largest(name, wanted));
await browser.close();
server.close();

const ours = rows.find(({ name }) => name === PEERS.ours.label);
const profile = { rttMs: Number(options.rtt), mbit: Number(options.mbit) };
console.log(markdown({ rows, ours, profile }));
const machine = { cpu: os.cpus()[0]?.model, cores: os.cpus().length, node: process.version };
fs.writeFileSync(path.join(options.out, 'bench/index-peers.json'), JSON.stringify({ machine, profile, dim, rows }, null, 2));
process.exit(); // a crashed page may leave connections behind
