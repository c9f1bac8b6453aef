/** The generator's files from `models/manifest.json`, through the store, into the engine. */

import type { WasmPackage } from './builds.ts';
import { PIECE_BYTES } from './model-store.ts';
import type { ModelFile, ModelStore } from './model-store.ts';
import { ConsultError } from './types.ts';
import type { Progress } from './types.ts';

const MODEL = 'model.gguf';
const TOKENIZER = 'tokenizer.json';

/** A model that has arrived, for {@link Engine.setGenerator}. */
export interface LoadedGenerator {
  loader: InstanceType<WasmPackage['ModelLoader']>;
  /** `tokenizer.json`, `null` where the model file's own is used. */
  tokenizer: Uint8Array | null;
  /** Of the model file. */
  sha256: string;
}

/** Reads the model's files; after an error, another call goes on with what is stored. */
export async function loadGenerator(
  wasm: WasmPackage,
  store: ModelStore,
  base: string,
  progress: (progress: Progress) => void,
): Promise<LoadedGenerator> {
  const files = await manifest(base);
  const model = files.get(MODEL);
  if (!model) throw new ConsultError('corrupt', `models/manifest.json names no ${MODEL}`);
  const total = [...files.values()].reduce((sum, file) => sum + file.bytes, 0);
  let before = 0;
  const read = async (file: ModelFile, take: (piece: Uint8Array) => void): Promise<void> => {
    const report = (done: number): void => progress({ part: 'generator', file: file.name, done: before + done, total });
    report(0);
    await store.read(file, take, report);
    before += file.bytes;
  };
  const described = files.get(TOKENIZER);
  const tokenizer = described ? new Uint8Array(described.bytes) : null;
  let at = 0;
  if (described) await read(described, (piece) => (tokenizer?.set(piece, at), (at += piece.length)));
  const loader = new wasm.ModelLoader(model.bytes);
  try {
    await read(model, (piece) => loader.push(piece));
    return { loader, tokenizer, sha256: model.sha256 };
  } catch (error) {
    // After a trap the instance is lost with all it holds, and a loader that it was in can't be freed.
    if (!(error instanceof WebAssembly.RuntimeError)) loader.free();
    throw error;
  }
}

async function manifest(base: string): Promise<Map<string, ModelFile>> {
  const url = new URL('models/manifest.json', base);
  let response: Response;
  try {
    response = await fetch(url, { cache: 'no-cache' });
  } catch (error) {
    throw new ConsultError('network', `models/manifest.json: ${String(error)}`);
  }
  if (!response.ok) {
    const code = response.status === 404 ? 'not_found' : 'network';
    throw new ConsultError(code, `models/manifest.json: status ${response.status}`);
  }
  const described = (await response.json().catch(() => null)) as { generator?: unknown } | null;
  const files = new Map<string, ModelFile>();
  for (const [name, entry] of Object.entries(described?.generator ?? {})) {
    files.set(name, modelFile(name, new URL(`models/generator/${name}`, base).href, entry));
  }
  return files;
}

/** Checks an entry before anything is allocated for it. */
function modelFile(name: string, url: string, entry: unknown): ModelFile {
  const { bytes, sha256, piece_sha256: pieces } = (entry ?? {}) as Record<string, unknown>;
  const isHash = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
  if (Number.isSafeInteger(bytes) && (bytes as number) > 0 && isHash(sha256) && Array.isArray(pieces)) {
    const size = bytes as number;
    if (pieces.length === Math.ceil(size / PIECE_BYTES) && pieces.every(isHash)) {
      return { name, url, bytes: size, sha256, piece_sha256: pieces };
    }
  }
  throw new ConsultError('corrupt', `models/manifest.json: the entry of ${name} is not whole`);
}
