/** The Web Worker that owns the wasm instance. All fetching, retrieval and generation happen here. */

import { BLOCK_FILES_BYTES, openBlockFiles } from './block-files.ts';
import { chooseBuilds, hasSimd, startBuild } from './builds.ts';
import type { Build, Running, WasmPackage } from './builds.ts';
import { loadEncoder } from './encoder-loader.ts';
import type { LoadedEncoder } from './encoder-loader.ts';
import { GraphicsProcessor } from './gpu.ts';
import { loadGenerator } from './generator-loader.ts';
import type { LoadedGenerator } from './generator-loader.ts';
import { ModelStore } from './model-store.ts';
import { yieldToEventLoop } from './event-loop.ts';
import type { Failure, FromWorker, Requests, RequestName, ToWorker } from './protocol.ts';
import { ConsultError, ERROR_CODES } from './types.ts';
import type { Capabilities, ConsultEvent, Consultation, ConsultOptions, Progress, RedFlag, StoredModel, Turn } from './types.ts';

/** The wasm class as it behaves; the generated declaration types its values as `any`. */
interface Engine {
  setEncoder(files: LoadedEncoder, reload: (losses: number) => Promise<LoadedEncoder>): void;
  hasEncoder(): boolean;
  setDecoys(count: number): void;
  keepBlocks(a: FileSystemSyncAccessHandle, b: FileSystemSyncAccessHandle, limitBytes: number): void;
  keptBlocks(): { bytes: number; full: boolean } | null;
  forgetBlocks(): void;
  openIndex(progress: (progress: Progress) => void): Promise<void>;
  setGenerator(
    loader: LoadedGenerator['loader'],
    tokenizer: Uint8Array | null,
    reload: (losses: number) => Promise<LoadedGenerator['loader']>,
  ): void;
  hasGenerator(): boolean;
  /** What is to be kept about the device, nothing where it was known. */
  tune(): Promise<string | undefined>;
  warmUp(kept: Uint8Array | null): Promise<Uint8Array | undefined>;
  consult(
    question: string,
    history: Turn[],
    options: ConsultOptions,
    onEvent: (event: ConsultEvent) => void,
  ): Promise<Consultation>;
  abort(): void;
  redFlags(question: string, history: Turn[]): RedFlag[];
}

/** The part of the worker's global scope used here; TypeScript's DOM library knows only windows. */
interface WorkerScope {
  postMessage(message: FromWorker): void;
  addEventListener(type: 'message', listener: (event: MessageEvent<ToWorker>) => void): void;
  addEventListener(type: 'error', listener: (event: ErrorEvent) => void): void;
  addEventListener(type: 'unhandledrejection', listener: (event: PromiseRejectionEvent) => void): void;
  crossOriginIsolated: boolean;
  navigator: { hardwareConcurrency: number };
  /** Called by the engine once a token, so that a message to stop gets through. */
  huatuoYield: () => Promise<void>;
}

const scope = self as unknown as WorkerScope;
scope.huatuoYield = yieldToEventLoop;

const store = new ModelStore();
let engine: Engine | null = null;
let wasm: WasmPackage | null = null;
let base = '';
let gpu: GraphicsProcessor | null = null;
/** Ends when the consultation before has ended: the engine runs one at a time. */
let turn: Promise<unknown> = Promise.resolve();
let running: number | null = null;
const abortedWhileQueued = new Set<number>();

async function start(request: Extract<ToWorker, { type: 'start' }>): Promise<Capabilities> {
  const { base: given, build, threads, crashChannel, device, gpuMemoryBytes, keepIndex, decoys = 0 } = request;
  const began = performance.now();
  if (!hasSimd()) throw new ConsultError('unsupported', 'this browser has no WebAssembly SIMD: update it');
  const { chosen, bytes, running } = await startFirst(chooseBuilds(build ?? null), (chosen, bytes) =>
    startBuild(chosen, bytes, threads ?? null, crashChannel),
  );
  [wasm, base] = [running.wasm, given];
  engine = new running.wasm.Engine(base) as unknown as Engine;
  engine.setDecoys(decoys);
  const files = keepIndex === false ? null : await openBlockFiles();
  if (files) engine.keepBlocks(...files, BLOCK_FILES_BYTES);
  gpu = await GraphicsProcessor.find(device ?? 'auto', gpuMemoryBytes);
  if (gpu.name) gpu.take(await store.tuning(gpu.name));
  return {
    build: chosen.name,
    instructionSet: running.wasm.instructionSet(),
    threads: running.threads,
    gpu: gpu.name,
    decoys,
    crossOriginIsolated: scope.crossOriginIsolated,
    logicalProcessors: scope.navigator.hardwareConcurrency,
    wasmBytes: bytes.byteLength,
    startMilliseconds: performance.now() - began,
  };
}

/** Starts the first build that this device can start: shared memory may be more than it gives. */
async function startFirst(
  [chosen, ...others]: Build[],
  start: (build: Build, bytes: ArrayBuffer) => Promise<Running>,
): Promise<{ chosen: Build; bytes: ArrayBuffer; running: Running }> {
  if (!chosen) throw new ConsultError('internal', 'there is no build to start');
  const bytes = await fetchWasm(chosen.url);
  try {
    return { chosen, bytes, running: await start(chosen, bytes) };
  } catch (error) {
    if (others.length > 0) return startFirst(others, start);
    // The bytes came over a checked connection: what fails to compile uses something this browser doesn't have.
    throw new ConsultError('unsupported', `this browser can't run the wasm package, update it: ${String(error)}`);
  }
}

async function fetchWasm(url: string): Promise<ArrayBuffer> {
  let response: Response;
  try {
    response = await fetch(url);
    if (response.ok) return await response.arrayBuffer();
  } catch (error) {
    throw new ConsultError('network', `the wasm package could not be fetched: ${String(error)}`);
  }
  const code = response.status === 404 ? 'not_found' : 'network';
  throw new ConsultError(code, `the wasm package could not be fetched: status ${response.status}`);
}

function started(): Engine {
  if (!engine) throw new ConsultError('internal', 'the engine has not been started');
  return engine;
}

async function addRetriever(progress: (progress: Progress) => void): Promise<void> {
  const engine = started();
  if (!engine.hasEncoder() && wasm && gpu) {
    const load = loadEncoder.bind(null, wasm, store, base, gpu);
    engine.setEncoder(await load(0, progress), (losses) => load(losses, () => {}));
  }
  await engine.openIndex(progress);
}

async function addGenerator(progress: (progress: Progress) => void): Promise<void> {
  const engine = started();
  if (engine.hasGenerator() || !wasm || !gpu) return;
  const load = loadGenerator.bind(null, wasm, store, base, gpu);
  const { loader, tokenizer, sha256 } = await load(0, progress);
  engine.setGenerator(loader, tokenizer, async (losses) => {
    const again = await load(losses, () => {});
    if (again.sha256 === sha256) return again.loader;
    again.loader.free(); // the site has another model by now: the answer can't go on with it
    throw new ConsultError('not_found', 'the model was replaced while its device was lost');
  });
  const tuning = await engine.tune();
  if (tuning && gpu.name) {
    gpu.take(tuning);
    await store.keepTuning(gpu.name, tuning);
  }
  const read = await engine.warmUp(await store.beginning(sha256));
  if (read) await store.keepBeginning(sha256, read);
}

async function consult(request: Extract<ToWorker, { type: 'consult' }>): Promise<Consultation> {
  const { id, question, history, options } = request;
  const before = turn;
  let end = (): void => {};
  turn = new Promise<void>((resolve) => (end = resolve));
  try {
    await before;
    if (abortedWhileQueued.delete(id)) throw new ConsultError('internal', 'stopped before it began');
    running = id;
    return await started().consult(question, history, options, (event) =>
      scope.postMessage({ type: 'event', id, event }),
    );
  } finally {
    running = null;
    end();
  }
}

/** The models on this device, and what is kept of the index. */
async function storedModels(): Promise<StoredModel[]> {
  const blocks = started().keptBlocks();
  const models = await store.list();
  return blocks ? [...models, { model: 'index', files: 2, bytes: BLOCK_FILES_BYTES, stored: blocks.bytes }] : models;
}

function abort(id: number): void {
  if (running === id) started().abort();
  else abortedWhileQueued.add(id);
}

async function answer(request: Exclude<ToWorker, { type: 'abort' }>): Promise<Requests[RequestName]['reply']> {
  const progress = (progress: Progress): void => scope.postMessage({ type: 'progress', id: request.id, progress });
  switch (request.type) {
    case 'start':
      return start(request);
    case 'loadRetriever':
      await addRetriever(progress);
      return null;
    case 'loadGenerator':
      await addGenerator(progress);
      return null;
    case 'models':
      return storedModels();
    case 'deleteModel':
      if (request.model === 'index') started().forgetBlocks();
      else await store.delete(request.model);
      return null;
    case 'storage':
      return store.measure();
    case 'loseGpu':
      gpu?.lose();
      return null;
    case 'redFlags':
      return started().redFlags(request.question, request.history);
    case 'consult':
      return consult(request);
  }
}

function failureOf(error: unknown): Failure {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  const known = ERROR_CODES.find((known) => known === code) ?? 'internal';
  return { code: known, message: typeof message === 'string' ? message : String(error) };
}

/** After a trap the instance's memory can't be trusted: the page has to start a new worker. */
function crash(error: unknown): void {
  scope.postMessage({ type: 'crash', message: String(error) });
}

scope.addEventListener('message', ({ data: request }) => {
  if (request.type === 'abort') {
    abort(request.id);
    return;
  }
  answer(request).then(
    (value) => scope.postMessage({ type: 'reply', id: request.id, value }),
    (error: unknown) => {
      if (error instanceof WebAssembly.RuntimeError) crash(error);
      else scope.postMessage({ type: 'failure', id: request.id, failure: failureOf(error) });
    },
  );
});
// A trap inside a future polled by wasm-bindgen surfaces here: its promise never settles.
scope.addEventListener('error', (event) => crash(event.error ?? event.message));
scope.addEventListener('unhandledrejection', (event) => crash(event.reason));
