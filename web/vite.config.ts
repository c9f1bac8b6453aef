import { defineConfig } from 'vite';

/** The demo page: one HTML file, one script, one worker, one wasm; every URL relative, so that any folder can host it. */
export default defineConfig({
  root: 'demo',
  base: './',
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false },
  },
  worker: { format: 'es' },
});
