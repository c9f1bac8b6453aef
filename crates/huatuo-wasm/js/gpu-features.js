// Asks for subgroups, and whether WGSL has products of bytes: wgpu's table of features does not know the browser's.

/** Has the next device made with subgroups, where they are wanted and there; `huatuoSubgroups` tells whether it was. */
export function wantSubgroups(wanted) {
  globalThis.huatuoSubgroups = false;
  // A kernel that a browser can't read costs the device.
  const language = globalThis.navigator?.gpu?.wgslLanguageFeatures;
  globalThis.huatuoPackedProducts = language?.has('packed_4x8_integer_dot_product') ?? false;
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
