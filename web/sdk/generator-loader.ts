/** The generator's files from `models/manifest.json`, through the store, into the engine. */

import type { WasmPackage } from './builds.ts';
import type { GraphicsProcessor } from './gpu.ts';
import { modelFiles } from './model-manifest.ts';
import type { ModelStore } from './model-store.ts';
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

/** Reads the model's files onto the best device; after an error, another call goes on with what is stored. */
export async function loadGenerator(
  wasm: WasmPackage,
  store: ModelStore,
  base: string,
  gpu: GraphicsProcessor,
  losses: number,
  progress: (progress: Progress) => void,
): Promise<LoadedGenerator> {
  const files = await modelFiles(base, 'generator');
  const model = files.find(({ name }) => name === MODEL);
  if (!model) throw new ConsultError('corrupt', `models/manifest.json names no ${MODEL}`);
  const described = files.find(({ name }) => name === TOKENIZER);
  const tokenizer = described ? new Uint8Array(described.bytes) : null;
  const device = await gpu.deviceFor(wasm, model.bytes, losses);
  const loader = device ? wasm.ModelLoader.onGpu(model.bytes, device) : new wasm.ModelLoader(model.bytes);
  let at = 0;
  try {
    await store.read(
      described ? [described, model] : [model],
      (file, piece) => {
        if (file === model) return loader.push(piece);
        tokenizer?.set(piece, at);
        at += piece.length;
      },
      (file, done, total) => progress({ part: 'generator', file: file.name, done, total }),
    );
    return { loader, tokenizer, sha256: model.sha256 };
  } catch (error) {
    // After a trap the instance is lost with all it holds, and a loader that it was in can't be freed.
    if (!(error instanceof WebAssembly.RuntimeError)) loader.free();
    throw error;
  }
}
