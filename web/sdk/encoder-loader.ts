/** The encoder's files from `models/manifest.json`, through the store, into the engine. */

import type { WasmPackage } from './builds.ts';
import type { GraphicsProcessor } from './gpu.ts';
import { modelFiles } from './model-manifest.ts';
import type { ModelStore } from './model-store.ts';
import type { Progress } from './types.ts';

/** An encoder that has arrived, for {@link Engine.setEncoder}. */
export type LoadedEncoder = InstanceType<WasmPackage['EncoderFiles']>;

/** Reads the encoder's files for the best device; after an error, another call goes on with what is stored. */
export async function loadEncoder(
  wasm: WasmPackage,
  store: ModelStore,
  base: string,
  gpu: GraphicsProcessor,
  losses: number,
  progress: (progress: Progress) => void,
): Promise<LoadedEncoder> {
  const files = await modelFiles(base, 'retriever');
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const device = await gpu.deviceFor(wasm, bytes, losses);
  const encoder = device ? wasm.EncoderFiles.onGpu(device) : new wasm.EncoderFiles();
  try {
    await store.read(
      files,
      (file, piece) => encoder.push(file.name, file.bytes, piece),
      (file, done, total) => progress({ part: 'encoder', file: file.name, done, total }),
    );
    return encoder;
  } catch (error) {
    // After a trap the instance is lost with all it holds, and what it was in can't be freed.
    if (!(error instanceof WebAssembly.RuntimeError)) encoder.free();
    throw error;
  }
}
