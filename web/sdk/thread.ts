/** A worker that computes on another worker's memory. Work goes on without it should it fail to start. */

import { initSync, Thread } from './wasm/threads/huatuo_wasm.js';
import type { ThreadStart } from './builds.ts';

self.addEventListener('message', ({ data }: MessageEvent<ThreadStart>) => {
  initSync({ module: data.module, memory: data.memory });
  try {
    Thread.run(data.handle); // returns when the memory's owner has ended
  } catch (error) {
    new BroadcastChannel(data.crashChannel).postMessage(String(error)); // the worker that waits for us can't hear us
    throw error;
  }
});
