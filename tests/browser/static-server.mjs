/** A bare page at `/` and some folders under prefixes, isolated so that threads can share memory. */

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';

const TYPES = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' };

/**
 * @param {Record<string, string>} roots folders by the prefix of their URLs
 * @returns {Promise<{origin: string, close(): void}>}
 */
export async function serveFolders(roots) {
  const server = http.createServer((request, response) => {
    response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
    response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    const name = request.url.split('?')[0];
    if (name === '/') return response.setHeader('content-type', 'text/html'), response.end('<!doctype html>');
    const [prefix, root] = Object.entries(roots).find(([prefix]) => name.startsWith(prefix)) ?? [];
    const file = root && path.join(root, name.slice(prefix.length));
    if (!file || !fs.existsSync(file)) return (response.statusCode = 404), response.end();
    response.setHeader('content-type', TYPES[path.extname(file)] ?? 'application/octet-stream');
    response.setHeader('content-length', fs.statSync(file).size);
    fs.createReadStream(file).pipe(response);
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

export const BROWSER_FLAGS = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** WebGPU without a graphics card: SwiftShader computes on the processor. */
export const GPU_FLAGS = [...BROWSER_FLAGS, '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
