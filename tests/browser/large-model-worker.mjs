// Streams a made-up model of more than 4 GB through the loader. A stand-in for the device's memory drops the bytes; the
// stream is real.
import { startBuild } from './build.mjs';
import { ggufHeader } from './gguf-header.mjs';

const PIECE = new Uint8Array(4 << 20);
/** The 7B shape with a wider feed-forward layer. */
const SHAPE = { layers: 32, hidden: 4096, feedForward: 12_288, vocabulary: 32_000, heads: 32 };

/** Bytes that were sent to the device. */
let sent = 0;
const create = GPUDevice.prototype.createBuffer;
GPUDevice.prototype.createBuffer = function (descriptor) {
  return create.call(this, { ...descriptor, size: Math.min(descriptor.size, 1 << 20) });
};
GPUQueue.prototype.writeBuffer = (buffer, offset, data, start, size) => void (sent += size ?? data.byteLength);
GPUCommandEncoder.prototype.copyBufferToBuffer = () => {};

self.onmessage = async ({ data: { build } }) => {
  try {
    const { bindings, memory } = await startBuild(build, 1);
    const gpu = await bindings.GpuDevice.request(true, null);
    const { header, bytes } = ggufHeader(SHAPE);
    const loader = bindings.ModelLoader.onGpu(bytes, gpu);
    loader.push(header);
    for (let at = header.length; at < bytes; at += PIECE.length) loader.push(PIECE.subarray(0, Math.min(PIECE.length, bytes - at)));
    const decoder = new bindings.BareDecoder(loader); // refuses a file that is not whole
    decoder.free();
    self.postMessage({ value: { bytes, sent, heap: memory.buffer.byteLength } }); // it never shrinks, so this is the peak
  } catch (error) {
    self.postMessage({ error: String(error?.stack ?? error) });
  }
};
