/** The page with the SDK alone, built from `page/`. */

import path from 'node:path';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/**
 * @param {string} outDir is emptied
 * @param {object} [output] options of Rollup's output
 */
export async function buildPage(outDir, output = {}) {
  const vite = createRequire(path.join(ROOT, 'web/package.json')).resolve('vite');
  const { build } = await import(pathToFileURL(vite).href);
  await build({
    configFile: false,
    logLevel: 'error',
    root: path.join(ROOT, 'tests/bench/page'),
    base: './',
    build: { outDir, emptyOutDir: true, target: 'es2022', modulePreload: { polyfill: false }, rollupOptions: { output } },
    worker: { format: 'es' },
  });
}
