// A decoder of the wasm package in a worker of a bare page, where it may wait for its threads.
import { startBuild } from './build.mjs';

let decoder, gpu;

async function start({ build, threads, model, device, subgroups = true }) {
  const { bindings, memory, instantiate } = await startBuild(build, threads);
  const beforeLoad = performance.now();
  const response = await fetch(model);
  const bytes = Number(response.headers.get('content-length'));
  gpu = device === 'gpu' ? await bindings.GpuDevice.request(subgroups, null) : null;
  const loader = gpu ? bindings.ModelLoader.onGpu(bytes, gpu) : new bindings.ModelLoader(bytes);
  for await (const piece of response.body) loader.push(piece);
  decoder = new bindings.BareDecoder(loader);
  const heap = memory.buffer.byteLength; // it never shrinks, so this is the peak
  return { instantiate, load: performance.now() - beforeLoad, bytes, heap, instructions: gpu?.name ?? bindings.instructionSet() };
}

const call = ({ call, arguments: given }) => (call === 'counts' ? gpu.counts() : decoder[call](...given));

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ value: data.start ? await start(data.start) : await call(data) });
  } catch (error) {
    self.postMessage({ error: String(error?.stack ?? error) });
  }
};
