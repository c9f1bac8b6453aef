// Loads a model onto the graphics processor again and again, and counts what stays behind: in the heap and on the device.
import { startBuild } from './build.mjs';

const TIMES = 300;

/** Bytes of buffers that were made and not destroyed. */
let live = 0;
const create = GPUDevice.prototype.createBuffer;
GPUDevice.prototype.createBuffer = function (descriptor) {
  const buffer = create.call(this, descriptor);
  live += buffer.size;
  const destroy = buffer.destroy.bind(buffer);
  let isLive = true;
  buffer.destroy = () => {
    if (isLive) live -= buffer.size;
    isLive = false;
    destroy();
  };
  return buffer;
};

self.onmessage = async ({ data: { build, model } }) => {
  try {
    const { bindings, memory } = await startBuild(build, 1);
    const bytes = new Uint8Array(await (await fetch(model)).arrayBuffer());
    const gpu = await bindings.GpuDevice.request(true, null);
    const result = { heaps: [], live: [] };
    for (let i = 0; i < TIMES; i++) {
      const loader = bindings.ModelLoader.onGpu(bytes.length, gpu);
      loader.push(bytes);
      const decoder = new bindings.BareDecoder(loader);
      await decoder.greedy(Uint32Array.of(1, 2, 3), 2);
      decoder.free();
      result.heaps.push(memory.buffer.byteLength);
      result.live.push(live);
    }
    self.postMessage({ value: result });
  } catch (error) {
    self.postMessage({ error: String(error?.stack ?? error) });
  }
};
