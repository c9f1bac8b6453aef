/** As much of S3 as a reader of one bucket needs: GET with a range, HEAD, and lists of keys; nothing can be written. */

import fs from 'node:fs';
import path from 'node:path';

export const BUCKET = 'index';

const escaped = (text) => text.replace(/[<>&]/g, (character) => ({ '<': '&lt;', '>': '&gt;', '&': '&amp;' })[character]);

function keysUnder(root, folder = '') {
  return fs.readdirSync(path.join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const key = folder ? `${folder}/${entry.name}` : entry.name;
    return entry.isDirectory() ? keysUnder(root, key) : [key];
  });
}

/** ListObjectsV2 in one page: a table has few objects. */
function list(root, query) {
  const [prefix, delimiter] = [query.get('prefix') ?? '', query.get('delimiter')];
  const startAfter = query.get('start-after') ?? '';
  const [objects, folders] = [[], new Set()];
  for (const key of keysUnder(root).sort().filter((key) => key.startsWith(prefix) && key > startAfter)) {
    const cut = delimiter ? key.indexOf(delimiter, prefix.length) : -1;
    if (cut >= 0) folders.add(key.slice(0, cut + 1));
    else objects.push(key);
  }
  const contents = objects.map((key) => {
    const { size, mtime } = fs.statSync(path.join(root, key));
    return `<Contents><Key>${escaped(key)}</Key><LastModified>${mtime.toISOString()}</LastModified><ETag>"${size}"</ETag><Size>${size}</Size></Contents>`;
  });
  const common = [...folders].map((folder) => `<CommonPrefixes><Prefix>${escaped(folder)}</Prefix></CommonPrefixes>`);
  const xml = `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>${BUCKET}</Name><Prefix>${escaped(prefix)}</Prefix><KeyCount>${objects.length + folders.size}</KeyCount><IsTruncated>false</IsTruncated>${contents.join('')}${common.join('')}</ListBucketResult>`;
  return { status: 200, headers: { 'content-type': 'application/xml' }, body: Buffer.from(xml) };
}

/** First and last byte that `Range` asks for. */
function rangeOf(header, size) {
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(header);
  return from === '' ? [Math.max(0, size - Number(to)), size - 1] : [Number(from), to === '' ? size - 1 : Math.min(Number(to), size - 1)];
}

function object(root, key, { method, headers: { range } }) {
  const file = path.join(root, key);
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  if (!stat?.isFile()) return { status: 404, body: Buffer.from('<Error><Code>NoSuchKey</Code></Error>') };
  const headers = { etag: `"${stat.size}-${stat.mtimeMs}"`, 'last-modified': stat.mtime.toUTCString(), 'accept-ranges': 'bytes' };
  if (method === 'HEAD') return { status: 200, headers: { ...headers, 'content-length': stat.size } };
  if (!range) return { status: 200, headers: { ...headers, 'content-length': stat.size }, body: fs.createReadStream(file) };
  const [start, end] = rangeOf(range, stat.size);
  if (start > end) return { status: 416, headers };
  const partial = { 'content-range': `bytes ${start}-${end}/${stat.size}`, 'content-length': end - start + 1 };
  return { status: 206, headers: { ...headers, ...partial }, body: fs.createReadStream(file, { start, end }) };
}

/**
 * Answers for a bucket whose objects lie in a folder.
 *
 * @param {() => string} root the folder now
 * @returns {(request: import('node:http').IncomingMessage) => import('../../browser/counted-link.mjs').Answer}
 */
export function bucketOf(root) {
  return (request) => {
    if (!['GET', 'HEAD'].includes(request.method)) return { status: 405 };
    const { pathname, searchParams } = new URL(request.url, 'http://localhost');
    const [bucket, ...key] = decodeURIComponent(pathname.slice(1)).split('/');
    if (bucket !== BUCKET) return { status: 404 };
    return searchParams.has('list-type') ? list(root(), searchParams) : object(root(), key.join('/'), request);
  };
}
