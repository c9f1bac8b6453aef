/** Files as a host would store them: what compresses is compressed once, and goes out with `Content-Encoding`. */

import fs from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import zlib from 'node:zlib';

/** Longest piece of a text that is turned into bytes at once. */
const SLICE = 1 << 20;

function* slices(text) {
  for (let at = 0; at < text.length; at += SLICE) yield text.slice(at, at + SLICE);
}

/** Writes text, or lines one at a time, as `FILE.gz`. */
export async function writeCompressed(file, text) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const source = Readable.from(typeof text === 'string' ? slices(text) : text, { objectMode: true });
  await pipeline(source, zlib.createGzip(), fs.createWriteStream(`${file}.gz`));
}

/** Copies a file as `FILE.gz`. */
export async function publish(from, to) {
  fs.mkdirSync(path.dirname(to), { recursive: true });
  await pipeline(fs.createReadStream(from), zlib.createGzip({ level: 9 }), fs.createWriteStream(`${to}.gz`));
}

/** How many files lie under a folder, and their bytes. */
export function stored(folder) {
  const files = fs.readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile());
  const bytes = files.reduce((sum, { parentPath, name }) => sum + fs.statSync(path.join(parentPath, name)).size, 0);
  return { files: files.length, bytes };
}
