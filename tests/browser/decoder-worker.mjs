// A decoder of the wasm package in a worker of a bare page, where it may wait for its threads.
import { startBuild } from './build.mjs';

let decoder;

async function start({ build, threads, model }) {
  const { bindings, memory, instantiate } = await startBuild(build, threads);
  const beforeLoad = performance.now();
  const response = await fetch(model);
  const bytes = Number(response.headers.get('content-length'));
  const loader = new bindings.ModelLoader(bytes);
  for await (const piece of response.body) loader.push(piece);
  decoder = new bindings.BareDecoder(loader);
  const heap = memory.buffer.byteLength; // it never shrinks, so this is the peak
  return { instantiate, load: performance.now() - beforeLoad, bytes, heap, instructions: bindings.instructionSet() };
}

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ value: data.start ? await start(data.start) : decoder[data.call](...data.arguments) });
  } catch (error) {
    self.postMessage({ error: String(error?.stack ?? error) });
  }
};
