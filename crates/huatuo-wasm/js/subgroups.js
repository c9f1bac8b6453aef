// Asks for subgroups where the adapter has them: wgpu's table of features does not know the browser's.

/** Has the next device made with subgroups, where they are wanted and there; `huatuoSubgroups` tells whether it was. */
export function wantSubgroups(wanted) {
  globalThis.huatuoSubgroups = false;
  if (typeof GPUAdapter === 'undefined') return;
  const own = GPUAdapter.prototype.huatuoRequestDevice ?? GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.huatuoRequestDevice = own;
  GPUAdapter.prototype.requestDevice = function (descriptor = {}) {
    const there = wanted && this.features.has('subgroups');
    globalThis.huatuoSubgroups = there;
    const requiredFeatures = [...(descriptor.requiredFeatures ?? []), ...(there ? ['subgroups'] : [])];
    return own.call(this, { ...descriptor, requiredFeatures });
  };
}
