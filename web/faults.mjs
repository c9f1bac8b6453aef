/** Ways in which the server misbehaves on purpose, so that tests see what a patient on a bad network sees. */

import { setTimeout as sleep } from 'node:timers/promises';

/**
 * @typedef {object} Fault
 * @property {RegExp} url paths it applies to
 * @property {boolean} [ignoreRanges] answers 200 with the whole file
 * @property {boolean} [missing] answers 404
 * @property {boolean} [unreachable] answers nothing
 * @property {number} [cutAfterBytes] breaks the connection after so many bytes of one response, once
 * @property {number} [flipAt] inverts the lowest bit of this byte of the file
 * @property {number} [flipInResponse] inverts the lowest bit of this byte of each response
 * @property {number} [latencyMs] waits before answering
 * @property {number} [bytesPerSecond] sends no faster
 */

const MILLISECONDS = 1000;

/** All faults for a path as one; `spent()` removes those that happen once. */
export function byFault(faults, path) {
  const active = faults.filter((fault) => fault.url.test(path));
  const spent = () => {
    for (const fault of active.filter((fault) => fault.cutAfterBytes !== undefined)) {
      faults.splice(faults.indexOf(fault), 1);
    }
  };
  return Object.assign({}, ...active, { spent });
}

/** Waits; no time for `undefined`. */
export async function waitFor(milliseconds) {
  if (milliseconds) await sleep(milliseconds);
}

/** Inverts one bit at `at`, counted from the start of the file; the stream begins at byte `start`. */
export function flipByte(at, start) {
  return async function* (chunks) {
    let offset = start;
    for await (const chunk of chunks) {
      if (at !== undefined && at >= offset && at < offset + chunk.length) chunk[at - offset] ^= 1;
      offset += chunk.length;
      yield chunk;
    }
  };
}

/** Sends pieces no faster than a rate. */
export function limitRate(bytesPerSecond) {
  return async function* (chunks) {
    for await (const chunk of chunks) {
      if (bytesPerSecond) await sleep((chunk.length / bytesPerSecond) * MILLISECONDS);
      yield chunk;
    }
  };
}
