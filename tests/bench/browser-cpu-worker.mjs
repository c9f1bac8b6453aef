// The engine's decoder in a worker of the benchmark's page, where it may wait for its threads.

let test;

async function start({ build, threads, model }) {
  const bindings = await import(`/ours/${build}/huatuo_wasm.js`);
  const module = await WebAssembly.compileStreaming(fetch(`/ours/${build}/huatuo_wasm_bg.wasm`));
  const { memory } = await bindings.default({ module_or_path: module });
  for (const thread of bindings.addThreads(threads - 1)) {
    const worker = new Worker('/bench/browser-cpu-thread.mjs', { type: 'module' });
    worker.postMessage({ build, module, memory, handle: thread.intoHandle() });
  }
  const before = performance.now();
  const response = await fetch(model);
  const bytes = Number(response.headers.get('content-length'));
  const loader = new bindings.ModelLoader(bytes);
  for await (const piece of response.body) loader.push(piece);
  test = new bindings.BareDecoder(loader);
  const heap = memory.buffer.byteLength; // it never shrinks, so this is the peak
  return { load: performance.now() - before, bytes, heap, instructions: bindings.instructionSet() };
}

self.onmessage = async ({ data }) => {
  try {
    const value = data.type === 'start' ? await start(data) : test[data.type](data.tokens);
    self.postMessage({ value });
  } catch (error) {
    self.postMessage({ error: String(error?.stack ?? error) });
  }
};
