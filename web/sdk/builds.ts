/** The wasm builds, and which of them this browser runs fastest. */

import type * as Package from './wasm/simd/huatuo_wasm.js';
import relaxedUrl from './wasm/relaxed/huatuo_wasm_bg.wasm?url';
import simdUrl from './wasm/simd/huatuo_wasm_bg.wasm?url';
import threadsUrl from './wasm/threads/huatuo_wasm_bg.wasm?url';
import type { BuildName } from './types.ts';

/** What all builds export. */
export type WasmPackage = typeof Package;

/** One build: where its code lies, and its bindings. */
export interface Build {
  name: BuildName;
  url: string;
  bindings: () => Promise<WasmPackage>;
}

const BUILDS: Record<BuildName, Build> = {
  simd: { name: 'simd', url: simdUrl, bindings: () => import('./wasm/simd/huatuo_wasm.js') },
  relaxed: { name: 'relaxed', url: relaxedUrl, bindings: () => import('./wasm/relaxed/huatuo_wasm.js') },
  threads: {
    name: 'threads',
    url: threadsUrl,
    // The bindings of shared memory are the others' and a little more.
    bindings: () => import('./wasm/threads/huatuo_wasm.js') as unknown as Promise<WasmPackage>,
  },
};

/** `v128.const; i8x16.popcnt` in the smallest module: valid only where SIMD is. */
// prettier-ignore
const SIMD_MODULE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);

/** `i32x4.relaxed_dot_i8x16_i7x16_add_s` of three splats. */
// prettier-ignore
const RELAXED_SIMD_MODULE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0,
  65, 0, 253, 17, 65, 0, 253, 17, 65, 0, 253, 17, 253, 147, 2, 11,
);

/** Most threads: beyond the fast cores of today's devices more only wait for the slowest. */
const MAX_THREADS = 8;

/** Whether this browser has SIMD at all. */
export function hasSimd(): boolean {
  return WebAssembly.validate(SIMD_MODULE);
}

/** The builds that may run here, the fastest first, or the one that is asked for. */
export function chooseBuilds(wanted: BuildName | null): Build[] {
  if (wanted) return [BUILDS[wanted]];
  if (!WebAssembly.validate(RELAXED_SIMD_MODULE)) return [BUILDS.simd];
  // The bindings wait for other workers without blocking, which needs `waitAsync`.
  const canShare = globalThis.crossOriginIsolated && navigator.hardwareConcurrency > 1 && 'waitAsync' in Atomics;
  return canShare ? [BUILDS.threads, BUILDS.relaxed, BUILDS.simd] : [BUILDS.relaxed, BUILDS.simd];
}

/** A started build. */
export interface Running {
  wasm: WasmPackage;
  /** Threads that compute, this one among them. */
  threads: number;
}

/** Compiles and starts a build; in the one with shared memory, `threads` workers compute, this one among them. */
export async function startBuild(
  build: Build,
  bytes: BufferSource,
  threads: number | null,
  crashChannel: string,
): Promise<Running> {
  const [module, wasm] = await Promise.all([WebAssembly.compile(bytes), build.bindings()]);
  const { memory } = await wasm.default({ module_or_path: module });
  if (build.name !== 'threads') return { wasm, threads: 1 };
  const count = Math.max(1, Math.trunc(threads ?? Math.min(navigator.hardwareConcurrency, MAX_THREADS)));
  const waiting = wasm.addThreads(count - 1);
  for (const thread of waiting) {
    const worker = new Worker(new URL('./thread.ts', import.meta.url), { type: 'module', name: 'huatuo-thread' });
    // One that can't start is not an error of this worker: its work is done by the others.
    worker.addEventListener('error', (event) => event.preventDefault());
    worker.postMessage({ module, memory, handle: thread.intoHandle(), crashChannel } satisfies ThreadStart);
  }
  return { wasm, threads: waiting.length + 1 };
}

/** What a thread's worker is sent. */
export interface ThreadStart {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  handle: number;
  /** Where to say that the thread ended while others wait for its work. */
  crashChannel: string;
}
