/** A network that a server on this machine lacks: a round trip before each answer, and one rate that all answers share. */

import { setTimeout as sleep } from 'node:timers/promises';

const MILLISECONDS = 1000;
/** Answers take turns on the link in pieces of this size, as packets of parallel streams do. */
const PIECE_BYTES = 16 * 1024;
/** Node's timers fire up to a millisecond late; waits below that are left to the next piece. */
const LEAST_WAIT_MS = 1;

export class Link {
  #free = 0;

  /**
   * @param {object} profile
   * @param {number} profile.rttMs milliseconds from a request to the first byte of its answer; 0 waits for nothing
   * @param {number} profile.bytesPerSecond shared by all answers; 0 is unlimited
   */
  constructor({ rttMs, bytesPerSecond }) {
    Object.assign(this, { rttMs, bytesPerSecond });
  }

  /** Waits a round trip. */
  async roundTrip() {
    if (this.rttMs) await sleep(this.rttMs);
  }

  /** Waits until the link has carried so many bytes after all that were given to it before. */
  async carry(bytes) {
    if (!this.bytesPerSecond) return;
    this.#free = Math.max(this.#free, performance.now()) + (bytes / this.bytesPerSecond) * MILLISECONDS;
    const wait = this.#free - performance.now();
    if (wait > LEAST_WAIT_MS) await sleep(wait);
  }
}

/**
 * One request and its answer; times by `performance.now()`, bytes of the answer's body as sent.
 *
 * @typedef {{method: string, url: string, range: string|null, status: number, bytes: number, begin: number, end: number}} LogEntry
 *
 * What is answered to a request.
 * @typedef {{status: number, headers?: Record<string, string|number>, body?: Buffer|import('node:stream').Readable}} Answer
 */

/** Waits until an answer takes more, or was given up. */
function drained(response) {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.on('drain', done).on('close', done);
  });
}

/** A listener for `http` and `http2` servers that answers over a link, and logs. */
export function overLink(link, log, answerTo) {
  return async (request, response) => {
    const { method, url } = request;
    const entry = { method, url, range: request.headers.range ?? null, status: 0, bytes: 0, begin: performance.now(), end: Infinity };
    log.push(entry);
    let gone = false;
    response.once('close', () => (gone = true));
    try {
      await link.roundTrip();
      const { status, headers = {}, body = Buffer.alloc(0) } = await answerTo(request);
      if (gone) return;
      entry.status = status;
      response.writeHead(status, headers);
      const send = async (piece) => {
        await link.carry(piece.length);
        if (gone) return;
        entry.bytes += piece.length;
        if (!response.write(piece)) await drained(response);
      };
      for await (const chunk of Buffer.isBuffer(body) ? [body] : body) {
        for (let at = 0; at < chunk.length && !gone; at += PIECE_BYTES) await send(chunk.subarray(at, at + PIECE_BYTES));
        if (gone) break; // leaving the loop also closes a file
      }
      entry.end = performance.now();
      response.end();
    } catch {
      response.destroy();
    }
  };
}

/** Requests in the longest chain of a log, each begun after the one before had ended: the dependent round trips. */
export function dependentTrips(log) {
  const depths = [];
  for (const entry of [...log].sort((a, b) => a.begin - b.begin)) {
    const before = depths.filter(({ end }) => end <= entry.begin).map(({ depth }) => depth);
    depths.push({ end: entry.end, depth: 1 + Math.max(0, ...before) });
  }
  return Math.max(0, ...depths.map(({ depth }) => depth));
}
