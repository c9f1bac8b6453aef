/** Bytes of one file from a range on, over one request that is read as far as it is needed. */

import { ConsultError } from './types.ts';

/** A host that sends nothing for so long is taken as lost. */
const STALL_MS = 30_000;

/** Reads onward through a file; a jump opens a new request. */
export class RangeStream {
  readonly #url: string;
  readonly #bytes: number;
  #reader: ReadableStreamDefaultReader<Uint8Array> | null = null;
  #at = 0;
  #left: Uint8Array = new Uint8Array();

  /** @param bytes length of the whole file */
  constructor(url: string, bytes: number) {
    this.#url = url;
    this.#bytes = bytes;
  }

  /** The next bytes from `at` on, at most `most`; never none. */
  async next(at: number, most: number): Promise<Uint8Array> {
    if (!this.#reader || this.#at !== at) await this.#open(at);
    while (this.#left.length === 0) this.#left = await this.#read();
    const taken = this.#left.subarray(0, most);
    this.#left = this.#left.subarray(taken.length);
    this.#at += taken.length;
    return taken;
  }

  /** Ends the request. */
  async close(): Promise<void> {
    const reader = this.#reader;
    this.#reader = null;
    this.#left = new Uint8Array();
    await reader?.cancel().catch(() => {}); // it may have failed already
  }

  async #open(at: number): Promise<void> {
    await this.close();
    const abort = new AbortController();
    const headers = { Range: `bytes=${at}-${this.#bytes - 1}` };
    const request = fetch(this.#url, { headers, cache: 'no-store', signal: abort.signal });
    const response = await orStalled(request, this.#url, () => abort.abort());
    const content = response.headers.get('content-range');
    if (response.status === 404) throw new ConsultError('not_found', `${this.#url} is missing (status 404)`);
    if (response.status === 200 || (response.status === 206 && content !== this.#contentRange(at))) {
      abort.abort(); // a whole file that was not asked for is not read to its end
      const found = response.status === 200 ? 'the whole file' : String(content);
      throw new ConsultError('ranges_ignored', `${this.#url} answered the range ${headers.Range} with ${found}`);
    }
    if (response.status !== 206 || !response.body) {
      throw new ConsultError('network', `${this.#url} answered with status ${response.status}`);
    }
    this.#reader = response.body.getReader();
    this.#at = at;
  }

  #contentRange(at: number): string {
    return `bytes ${at}-${this.#bytes - 1}/${this.#bytes}`;
  }

  async #read(): Promise<Uint8Array> {
    const reader = this.#reader;
    if (!reader) throw new ConsultError('internal', 'no request is open');
    const { done, value } = await orStalled(reader.read(), this.#url, () => void reader.cancel().catch(() => {}));
    if (done) throw new ConsultError('network', `${this.#url} ended at byte ${this.#at} of ${this.#bytes}`);
    return value;
  }
}

/** A network promise with its failures named, and given up when nothing comes. */
async function orStalled<T>(promise: Promise<T>, url: string, giveUp: () => void): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stalled = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      giveUp();
      reject(new ConsultError('network', `${url} sent nothing for ${STALL_MS / 1000} s`));
    }, STALL_MS);
  });
  try {
    return await Promise.race([promise, stalled]);
  } catch (error) {
    throw error instanceof ConsultError ? error : new ConsultError('network', `${url}: ${String(error)}`);
  } finally {
    clearTimeout(timer);
  }
}
