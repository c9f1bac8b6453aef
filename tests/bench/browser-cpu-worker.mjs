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
  const bytes = new Uint8Array(await (await fetch(model)).arrayBuffer());
  const before = performance.now();
  test = new bindings.SpeedTest(bytes);
  return { load: performance.now() - before, heap: memory.buffer.byteLength, instructions: bindings.instructionSet() };
}

self.onmessage = async ({ data }) => {
  try {
    const value = data.type === 'start' ? await start(data) : test[data.type](data.tokens);
    self.postMessage({ value });
  } catch (error) {
    self.postMessage({ error: String(error?.stack ?? error) });
  }
};
