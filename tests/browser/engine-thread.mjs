// One thread of the engine.

self.onmessage = async ({ data }) => {
  const { initSync, Thread } = await import(`/ours/${data.build}/huatuo_wasm.js`);
  initSync({ module: data.module, memory: data.memory });
  Thread.run(data.handle);
};
