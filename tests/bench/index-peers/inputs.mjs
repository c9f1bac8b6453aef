/** Records, questions, and what exact search finds. */

import fs from 'node:fs';

/** Results that recall is counted among. */
export const TOP = 10;

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;

/** Lines of a UTF-8 file. */
export const lines = (file) => fs.readFileSync(file, 'utf8').replace(/\n$/, '').split('\n');

/** The first rows of a file of little-endian f32; gives fewer where the file ends. */
export function vectors(file, dim, rows = Infinity) {
  const bytes = Math.min(rows * dim * FLOAT_BYTES, fs.statSync(file).size);
  const buffer = Buffer.alloc(bytes - (bytes % (dim * FLOAT_BYTES)));
  const handle = fs.openSync(file, 'r');
  fs.readSync(handle, buffer, 0, buffer.length, 0);
  fs.closeSync(handle);
  const values = new Float32Array(buffer.buffer, buffer.byteOffset, buffer.length / FLOAT_BYTES);
  return { rows: values.length / dim, row: (at) => values.subarray(at * dim, (at + 1) * dim) };
}

/** Records by their texts and vectors, `[{id, text, vector}]`, one at a time. */
export function* recordsOf({ texts, vectors: file, dim, records }) {
  const { row } = vectors(file, dim, records);
  for (const [id, text] of lines(texts).slice(0, records).entries()) yield { id: String(id), text, vector: row(id) };
}

/** More digits do not change which records are found, and would double an index that is written in decimals. */
const DIGITS = 4;

/** A vector for an index that is written in decimals. */
export const rounded = (vector) => Array.from(vector, (value) => Number(value.toFixed(DIGITS)));

/** Ids of the records nearest to each question by inner product (cosine, as vectors have length one). */
export function exact({ vectors: file, dim, records }, questions) {
  const { rows, row } = vectors(file, dim, records);
  return questions.map((question) => {
    const scores = new Float64Array(rows);
    for (let at = 0; at < rows; at++) {
      const vector = row(at);
      for (let i = 0; i < dim; i++) scores[at] += vector[i] * question[i];
    }
    return [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, TOP).map(String);
  });
}

/** Share of the exact results that were found. */
export const recall = (found, expected) => expected.filter((id) => found.includes(id)).length / expected.length;
