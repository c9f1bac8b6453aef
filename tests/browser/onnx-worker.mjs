// The same in onnxruntime-web: an ONNX file of the same weights, in a worker of the same page.
import * as ort from '/ort/ort.wasm.min.mjs';

let session;

async function start({ threads, model }) {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = '/ort/';
  session = await ort.InferenceSession.create(model, {
    executionProviders: ['wasm'],
    graphOptimizationLevel: 'all',
  });
  return { version: ort.env.versions?.web };
}

async function measure({ ids, length, runs }) {
  const tokens = Int32Array.from(ids);
  const times = [];
  let output;
  for (let run = 0; run < runs; run++) {
    const before = performance.now();
    const results = await session.run({ ids: new ort.Tensor('int32', tokens, [ids.length / length, length]) });
    output = results.hidden.data;
    times.push(performance.now() - before);
  }
  return { times, output };
}

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ value: data.start ? await start(data.start) : await measure(data.measure) });
  } catch (error) {
    self.postMessage({ error: String(error?.stack ?? error) });
  }
};
