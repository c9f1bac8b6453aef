/** The encoder's files from `models/manifest.json`, through the store, into the engine. */

import type { WasmPackage } from './builds.ts';
import { modelFiles } from './model-manifest.ts';
import type { ModelStore } from './model-store.ts';
import type { Progress } from './types.ts';

/** An encoder that has arrived, for {@link Engine.setEncoder}. */
export type LoadedEncoder = InstanceType<WasmPackage['EncoderFiles']>;

/** Reads the encoder's files; after an error, another call goes on with what is stored. */
export async function loadEncoder(
  wasm: WasmPackage,
  store: ModelStore,
  base: string,
  progress: (progress: Progress) => void,
): Promise<LoadedEncoder> {
  const files = await modelFiles(base, 'retriever');
  const encoder = new wasm.EncoderFiles();
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
