// A build of the wasm package with its threads, for a worker of a bare page, where it may wait for them.

/** Starts a build; gives its bindings, its memory and the milliseconds that took. */
export async function startBuild(build, threads) {
  const bindings = await import(`/ours/${build}/huatuo_wasm.js`);
  const before = performance.now();
  const module = await WebAssembly.compileStreaming(fetch(`/ours/${build}/huatuo_wasm_bg.wasm`));
  const { memory } = await bindings.default({ module_or_path: module });
  const instantiate = performance.now() - before;
  for (const thread of bindings.addThreads(threads - 1)) {
    const worker = new Worker('/browser/engine-thread.mjs', { type: 'module' });
    worker.postMessage({ build, module, memory, handle: thread.intoHandle() });
  }
  return { bindings, memory, instantiate };
}
