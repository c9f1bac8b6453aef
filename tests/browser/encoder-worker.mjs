// An encoder of the wasm package in a worker of a bare page.
import { startBuild } from './build.mjs';

let encoder;

async function start({ build, threads, config, weights, int8 }) {
  const { bindings } = await startBuild(build, threads);
  const [shape, bytes] = await Promise.all([config, weights].map(async (url) => (await fetch(url)).arrayBuffer()));
  encoder = new bindings.BareEncoder(new Uint8Array(shape), new Uint8Array(bytes), int8);
  return { instructions: bindings.instructionSet() };
}

/** Runs of one shape, milliseconds each, and what they give. */
async function measure({ ids, length, runs }) {
  const tokens = Uint32Array.from(ids);
  const times = [];
  let output;
  for (let run = 0; run < runs; run++) {
    const before = performance.now();
    output = await encoder.hiddenStates(tokens, length);
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
