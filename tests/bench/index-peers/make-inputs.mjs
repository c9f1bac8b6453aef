// Inputs of the index benchmark where no real ones are at hand: texts of records that lie in a folder, and vectors that
// lie in clusters as those of sentences do (made up: they say nothing about recall on real ones).
//
//   node tests/bench/index-peers/make-inputs.mjs --out FOLDER [--data FOLDER] [--records 100000] [--dim 256]
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const SAMPLES = fileURLToPath(new URL('../../../samples/records', import.meta.url));
const { values: options } = parseArgs({
  options: {
    data: { type: 'string', default: SAMPLES }, // .jsonl, .jsonl.gz, .jsonl.zst
    out: { type: 'string' },
    records: { type: 'string', default: '100000' },
    dim: { type: 'string', default: '256' },
    seed: { type: 'string', default: '1' },
  },
});
if (!options.out) throw new Error('--out is needed');

const QUESTIONS = 3;
/** Words of a question for full text, which finds only records that have all of them. */
const QUESTION_WORDS = 2;
/** Shorter texts are greetings and the like. */
const LEAST_CHARACTERS = 8;
const RECORDS_PER_CLUSTER = 200;
/** How far a vector lies from the middle of its cluster, and a question from its record, beside a length of one. */
const SPREAD = { record: 0.8, question: 0.3 };
const LARGEST_OUTPUT = 1 << 30;

/** Mulberry32: the same numbers for the same seed everywhere. */
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
const draw = random(Number(options.seed));
const normal = () => Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());

function read(file) {
  if (file.endsWith('.gz')) return zlib.gunzipSync(fs.readFileSync(file)).toString();
  if (file.endsWith('.zst')) return execFileSync('zstd', ['-dc', file], { maxBuffer: LARGEST_OUTPUT }).toString();
  return fs.readFileSync(file, 'utf8');
}

const textsOf = ({ questions = [], answer, answers = [], docs = [], turns = [] }) =>
  [questions, answer ?? [], answers, docs.map(({ title }) => title), turns.map(({ text }) => text)].flat(Infinity);

/** Different texts of the files in turn, until there are enough. */
function collect(count) {
  const found = new Set();
  const files = fs.readdirSync(options.data).filter((name) => /\.jsonl(\.gz|\.zst)?$/.test(name)).sort();
  for (const name of files) {
    for (const line of read(path.join(options.data, name)).trim().split('\n')) {
      for (const text of textsOf(JSON.parse(line))) {
        const plain = text.replace(/\s+/g, ' ').trim();
        if (plain.length >= LEAST_CHARACTERS) found.add(plain);
      }
      if (found.size >= count) return [...found].slice(0, count);
    }
  }
  const texts = [...found];
  // Repeats are numbered, so that no two records are the same.
  return Array.from({ length: count }, (_, at) => texts[at % texts.length] + (at < texts.length ? '' : ` ${at}`));
}

function unit(values) {
  const length = Math.hypot(...values);
  return values.map((value) => value / length);
}

/** A vector so far from another of length one. */
const near = (vector, distance) => unit(vector.map((value) => value + (distance * normal()) / Math.sqrt(vector.length)));

const [records, dim] = [Number(options.records), Number(options.dim)];
const texts = collect(records);
const middles = Array.from({ length: Math.ceil(records / RECORDS_PER_CLUSTER) }, () => unit(Array.from({ length: dim }, normal)));
const vectors = texts.map(() => near(middles[Math.floor(draw() * middles.length)], SPREAD.record));
const asked = Array.from({ length: QUESTIONS }, () => Math.floor(draw() * records));

const segmenter = new Intl.Segmenter('zh', { granularity: 'word' });
function words(text) {
  const all = [...segmenter.segment(text)].filter(({ isWordLike }) => isWordLike).map(({ segment }) => segment);
  return [...new Set(all)].sort((a, b) => b.length - a.length).slice(0, QUESTION_WORDS).join(' ');
}

fs.mkdirSync(options.out, { recursive: true });
const write = (name, content) => fs.writeFileSync(path.join(options.out, name), content);
const floats = (rows) => new Uint8Array(Float32Array.from(rows.flat()).buffer);
write('texts.txt', `${texts.join('\n')}\n`);
write('query-texts.txt', `${asked.map((at) => words(texts[at])).join('\n')}\n`);
write('vectors.f32', floats(vectors));
write('queries.f32', floats(asked.map((at) => near(vectors[at], SPREAD.question))));
