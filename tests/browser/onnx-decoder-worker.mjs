// The same in onnxruntime-web on WebGPU: an ONNX graph of the same weights, its caches kept on the device.
import './gpu-counts.mjs';

/** The package's two implementations of WebGPU, and whether attention writes into the caches that it reads. */
const BACKENDS = {
  native: { script: '/ort/ort.webgpu.min.mjs', shared: true },
  jsep: { script: '/ort/ort.min.mjs', shared: false },
};
/** Tokens that shared caches have room for. */
const ROOM = 256;

let ort, session, shared, caches, length;

async function start({ backend, model }) {
  shared = BACKENDS[backend].shared;
  ort = await import(BACKENDS[backend].script);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = '/ort/';
  const beforeLoad = performance.now();
  session = await ort.InferenceSession.create(model, {
    executionProviders: ['webgpu'],
    graphOptimizationLevel: 'all',
    preferredOutputLocation: 'gpu-buffer',
  });
  const device = await ort.env.webgpu.device;
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const roomy = (dims) =>
    ort.Tensor.fromGpuBuffer(device.createBuffer({ size: product(dims) * 4, usage }), { dataType: 'float32', dims });
  caches = cachesOf((heads, width) => (shared ? roomy([1, heads, ROOM, width]) : empty(heads, 0, width)));
  return { load: performance.now() - beforeLoad };
}

const product = (numbers) => numbers.reduce((a, b) => a * b);
const int32 = (numbers, dims) => new ort.Tensor('int32', Int32Array.from(numbers), dims);
const empty = (heads, tokens, width) =>
  new ort.Tensor('float32', new Float32Array(heads * tokens * width), [1, heads, tokens, width]);

/** A cache for each of the graph's, by the name without `past.`. */
function cachesOf(make) {
  const inputs = session.inputMetadata.filter(({ name }) => name.startsWith('past.'));
  return Object.fromEntries(inputs.map(({ name, shape }) => [name.slice('past.'.length), make(shape[1], shape[3])]));
}
const ports = (side) => Object.fromEntries(Object.entries(caches).map(([name, cache]) => [`${side}.${name}`, cache]));

/** Goes on behind so many tokens, none of which was read: what a cache holds doesn't change the time. */
function place(tokens) {
  length = tokens;
  if (shared) return;
  Object.values(caches).forEach((cache) => cache.dispose());
  caches = cachesOf((heads, width) => empty(heads, tokens, width));
}

/** The scores of the token that follows. */
async function read(ids) {
  length += ids.length;
  const feeds = { ids: int32(ids, [1, ids.length]), last: int32([length - 1], [1]), total: int32([length], [1]) };
  Object.assign(feeds, ports('past'));
  if (shared) return (await session.run(feeds, { ...ports('present'), logits: null })).logits.getData(true);
  const { logits, ...present } = await session.run(feeds);
  for (const name of Object.keys(caches)) {
    caches[name].dispose();
    caches[name] = present[`present.${name}`];
  }
  return logits.getData(true);
}

async function timed(run) {
  const before = performance.now();
  await run();
  return performance.now() - before;
}

// The tokens are the ones that our side reads and writes.
const VOCABULARY = 32_000;
const calls = {
  place,
  prefill(tokens) {
    place(0);
    return timed(() => read(Array.from({ length: tokens }, (_, i) => (i * 37 + 262) % VOCABULARY)));
  },
  decode: (tokens) =>
    timed(async () => {
      for (let i = 0; i < tokens; i++) await read([(i * 11 + 300) % VOCABULARY]);
    }),
  async scores(ids) {
    place(0);
    return read(ids);
  },
};

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ value: data.start ? await start(data.start) : await calls[data.call](...data.arguments) });
  } catch (error) {
    self.postMessage({ error: String(error?.stack ?? error) });
  }
};
