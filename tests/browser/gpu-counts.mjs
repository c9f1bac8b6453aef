// Counts what a worker asks of WebGPU. Imported before what is counted; answers `{counts: true}` with what came since.

const counts = { dispatches: 0, submits: 0 };

function counted(of, method, what) {
  const original = of[method];
  of[method] = function (...given) {
    counts[what]++;
    return original.apply(this, given);
  };
}

if (globalThis.GPUQueue) {
  counted(GPUComputePassEncoder.prototype, 'dispatchWorkgroups', 'dispatches');
  counted(GPUComputePassEncoder.prototype, 'dispatchWorkgroupsIndirect', 'dispatches');
  counted(GPUQueue.prototype, 'submit', 'submits');
}

self.addEventListener('message', (event) => {
  if (!event.data.counts) return;
  event.stopImmediatePropagation(); // the worker itself doesn't know this message
  self.postMessage({ value: { ...counts } });
  counts.dispatches = counts.submits = 0;
});
