/** Folders over HTTP/2, as a CDN serves them, and anything over HTTP/1.1, both on one link and in one log. */

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import os from 'node:os';
import path from 'node:path';
import { overLink } from './counted-link.mjs';

const TYPES = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.json': 'application/json' };

/** A key and a certificate that nobody else trusts; Chromium takes it with `--ignore-certificate-errors`. */
function selfSigned() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'certificate-'));
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(folder, name));
  const request = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost';
  execFileSync('openssl', [...request.split(' '), '-keyout', key, '-out', cert], { stdio: 'ignore' });
  const pair = { key: fs.readFileSync(key), cert: fs.readFileSync(cert) };
  fs.rmSync(folder, { recursive: true });
  return pair;
}

/** What a page needs to share memory between threads. */
const ISOLATED = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

/** One range of a file, or nothing when it is not asked for. */
function rangeOf(request, size) {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
  return first === undefined ? null : { start: Number(first), end: Math.min(Number(last), size - 1) };
}

/**
 * Answers with the files of some folders, whole or one range of them; a file that lies there only as `.gz` goes out with
 * `Content-Encoding`.
 */
function filesOf(roots, page) {
  return (request) => {
    const name = decodeURIComponent(request.url.split('?')[0]);
    if (name === '/') {
      return { status: 200, headers: { 'content-type': 'text/html; charset=utf-8', ...ISOLATED }, body: Buffer.from(page) };
    }
    const [prefix, root] = Object.entries(roots).find(([prefix]) => name.startsWith(prefix)) ?? [];
    const file = root && path.join(root, name.slice(prefix.length));
    const stored = [file, `${file}.gz`].find((candidate) => file && fs.existsSync(candidate));
    if (!stored) return { status: 404 };
    const range = rangeOf(request, fs.statSync(stored).size);
    if (range && stored === file) {
      const headers = {
        'content-type': 'application/octet-stream',
        'content-length': range.end - range.start + 1,
        'content-range': `bytes ${range.start}-${range.end}/${fs.statSync(file).size}`,
      };
      return { status: 206, headers, body: fs.createReadStream(file, range) };
    }
    const headers = {
      ...ISOLATED,
      'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream',
      'content-length': fs.statSync(stored).size,
      ...(stored !== file && { 'content-encoding': 'gzip' }),
    };
    return { status: 200, headers, body: fs.createReadStream(stored) };
  };
}

const listening = (server) =>
  new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', () => resolve(server.address().port)));

/**
 * @param {import('./counted-link.mjs').Link} link
 * @param {object} what
 * @param {Record<string, string>} what.roots folders by the prefix of their URLs, over HTTP/2; may be changed later
 * @param {string} what.page HTML of `/`
 * @param {(request: http.IncomingMessage) => import('./counted-link.mjs').Answer} what.plain answers over HTTP/1.1
 * @returns {Promise<{origin: string, plainOrigin: string, log: import('./counted-link.mjs').LogEntry[], close(): void}>}
 */
export async function serveOverLink(link, { roots, page, plain }) {
  const log = [];
  const secure = http2.createSecureServer(selfSigned(), overLink(link, log, filesOf(roots, page)));
  const clear = http.createServer(overLink(link, log, plain));
  const sessions = new Set();
  secure.on('session', (session) => sessions.add(session.once('close', () => sessions.delete(session))));
  const [securePort, clearPort] = [await listening(secure), await listening(clear)];
  const close = () => {
    for (const session of sessions) session.destroy();
    secure.close();
    clear.closeAllConnections();
    clear.close();
  };
  return { origin: `https://127.0.0.1:${securePort}`, plainOrigin: `http://127.0.0.1:${clearPort}`, log, close };
}
