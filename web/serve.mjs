/**
 * Static server for the built page, its models and its index: byte ranges, cross-origin isolation, a strict content
 * security policy. `serve()` also logs requests and can misbehave on purpose, for tests.
 */

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { byFault, flipByte, limitRate, waitFor } from './faults.mjs';

const SECURITY_POLICY = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "object-src 'none'",
  "base-uri 'none'",
].join('; ');

const HEADERS = {
  'Accept-Ranges': 'bytes',
  'Content-Security-Policy': SECURITY_POLICY,
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};

/** Names that hold a hash of their content never change. */
const IMMUTABLE = /^\/(assets\/|index\/[0-9a-f]{32}\.pack$)/;

/**
 * Starts a server on 127.0.0.1.
 *
 * @param {object} options
 * @param {string} options.dist folder served at `/`
 * @param {string} options.models folder served at `/models/`
 * @param {string} options.index folder served at `/index/`
 * @param {number} [options.port] 0 takes a free one
 * @param {import('./faults.mjs').Fault[]} [options.faults] may be changed while the server runs
 * @returns {Promise<{url: string, faults: import('./faults.mjs').Fault[], log: LogEntry[], close(): Promise<void>}>}
 *
 * @typedef {{method: string, url: string, range: string|null, status: number, bytes: number}} LogEntry
 */
export async function serve({ dist, models, index, port = 0, faults = [] }) {
  const folders = { models, index };
  const log = [];
  const server = createServer((request, response) => {
    answer(request, response, { dist, folders, faults, log }).catch(() => response.destroy());
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${server.address().port}/`, faults, log, close };
}

async function answer(request, response, { dist, folders, faults, log }) {
  const { pathname } = new URL(request.url, 'http://localhost');
  const range = request.headers.range ?? null;
  const entry = { method: request.method, url: pathname, range, status: 0, bytes: 0 };
  log.push(entry);
  const fault = byFault(faults, pathname);
  const send = (status, headers = {}) => {
    entry.status = status;
    response.writeHead(status, { ...HEADERS, ...headers });
  };

  await waitFor(fault.latencyMs);
  if (fault.unreachable) return response.destroy();
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    send(405, { Allow: 'GET, HEAD' });
    return response.end();
  }
  const file = fault.missing ? null : await findFile(pathname, dist, folders);
  if (!file) {
    send(404, { 'Content-Type': 'text/plain; charset=utf-8' });
    return response.end('not found\n');
  }
  const wanted = fault.ignoreRanges ? null : parseRange(range, file.size);
  if (wanted === 'unsatisfiable') {
    send(416, { 'Content-Range': `bytes */${file.size}` });
    return response.end();
  }
  const [start, end] = wanted ?? [0, file.size - 1];
  send(wanted ? 206 : 200, {
    'Content-Type': TYPES[extname(file.path)] ?? 'application/octet-stream',
    'Content-Length': end - start + 1,
    'Cache-Control': IMMUTABLE.test(pathname) ? 'public, max-age=31536000, immutable' : 'no-cache',
    ...(wanted && { 'Content-Range': `bytes ${start}-${end}/${file.size}` }),
  });
  if (request.method === 'HEAD' || file.size === 0) return response.end();
  await sendBody(response, file.path, start, end, fault, entry);
}

async function sendBody(response, path, start, end, fault, entry) {
  const cutAt = fault.cutAfterBytes ?? Infinity;
  const flipAt = fault.flipInResponse === undefined ? fault.flipAt : start + fault.flipInResponse;
  const count = async function* (chunks) {
    for await (const chunk of chunks) {
      const left = Math.max(0, cutAt - entry.bytes);
      if (left < chunk.length) {
        fault.spent();
        entry.bytes += left;
        await new Promise((resolve) => response.write(chunk.subarray(0, left), resolve));
        throw new Error('cut on purpose');
      }
      entry.bytes += chunk.length;
      yield chunk;
    }
  };
  const body = createReadStream(path, { start, end });
  await pipeline(body, flipByte(flipAt, start), limitRate(fault.bytesPerSecond), count, response);
}

/** The file of a URL, or null. Segments that lead out of a folder never reach the disk. */
async function findFile(pathname, dist, folders) {
  let path;
  try {
    path = decodeURIComponent(pathname);
  } catch {
    return null;
  }
  const segments = path.split('/').slice(1);
  if (segments.some((segment) => segment === '..' || segment.includes(sep) || segment.includes('\0'))) return null;
  const folder = segments.length > 1 ? folders[segments[0]] : undefined;
  const inside = folder ? segments.slice(1) : segments;
  const full = join(folder ?? dist, ...inside, path.endsWith('/') ? 'index.html' : '');
  const found = await stat(full).catch(() => null);
  return found?.isFile() ? { path: full, size: found.size } : null;
}

/** First and last byte of a single range, null for the whole, or 'unsatisfiable'. */
function parseRange(header, size) {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return null;
  const start = match[1] === '' ? Math.max(0, size - Number(match[2])) : Number(match[1]);
  const end = match[1] === '' || match[2] === '' ? size - 1 : Math.min(Number(match[2]), size - 1);
  return start > end ? 'unsatisfiable' : [start, end];
}

async function main() {
  const { values } = parseArgs({
    options: {
      dist: { type: 'string' },
      models: { type: 'string' },
      index: { type: 'string' },
      port: { type: 'string' },
    },
  });
  const { dist, models, index, port = '8080' } = values;
  if (!dist || !models || !index) {
    console.error('usage: node serve.mjs --dist DIR --models DIR --index DIR [--port N]');
    process.exit(2);
  }
  const { url } = await serve({ dist, models, index, port: Number(port) });
  console.log(`listening on ${url.replace(/\/$/, '')}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    console.error(error.code === 'EADDRINUSE' ? 'the port is in use: give another one with --port' : String(error));
    process.exit(1);
  });
}
