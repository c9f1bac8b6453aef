/** Requests to the worker as promises. */

import type { FromWorker, RequestName, Requests, ToWorker } from './protocol.ts';
import { ConsultError } from './types.ts';
import type { ConsultEvent, Progress } from './types.ts';

/** Where a request's messages go before its reply. */
export interface Listeners {
  onEvent?: (event: ConsultEvent) => void;
  onProgress?: (progress: Progress) => void;
  /** Called at once with the request's number, by which it can be aborted. */
  onId?: (id: number) => void;
}

interface Pending extends Listeners {
  resolve: (value: never) => void;
  reject: (error: ConsultError) => void;
}

/** One worker. After a crash every request fails with code `internal` and `onCrash` is called once. */
export class WorkerClient {
  readonly #worker: Worker;
  readonly #onCrash: (error: ConsultError) => void;
  readonly #pending = new Map<number, Pending>();
  readonly #crashes: BroadcastChannel;
  #nextId = 1;
  #closed: ConsultError | null = null;

  constructor(worker: Worker, onCrash: (error: ConsultError) => void) {
    this.#worker = worker;
    this.#crashes = new BroadcastChannel(`huatuo-${crypto.randomUUID()}`);
    this.#crashes.onmessage = ({ data }) => this.#crash(new ConsultError('internal', `a thread ended: ${String(data)}`));
    this.#onCrash = onCrash;
    worker.addEventListener('message', (event: MessageEvent<FromWorker>) => this.#receive(event.data));
    worker.addEventListener('error', (event) => {
      // No message: the worker's own script could not be fetched. A trap is reported by the worker itself.
      const code = event.message ? 'internal' : 'network';
      this.#crash(new ConsultError(code, event.message || 'the worker script could not be loaded'));
    });
  }

  /** Name of the channel on which the engine's threads report that they ended. */
  get crashChannel(): string {
    return this.#crashes.name;
  }

  /** Sends a request; rejects with {@link ConsultError}. */
  call<Name extends RequestName>(
    type: Name,
    args: Requests[Name]['args'],
    listeners: Listeners = {},
  ): Promise<Requests[Name]['reply']> {
    if (this.#closed) return Promise.reject(this.#closed);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { ...listeners, resolve, reject });
      listeners.onId?.(id);
      this.#worker.postMessage({ type, id, ...args } as unknown as ToWorker);
    });
  }

  /** Ends a running consultation within one token, or one that waits before it begins. */
  abort(id: number): void {
    const message: ToWorker = { type: 'abort', id };
    if (!this.#closed) this.#worker.postMessage(message);
  }

  /** Ends the worker; what is pending fails. */
  close(reason: ConsultError): void {
    if (this.#closed) return;
    this.#closed = reason;
    this.#crashes.close();
    this.#worker.terminate();
    for (const pending of this.#pending.values()) pending.reject(reason);
    this.#pending.clear();
  }

  #receive(message: FromWorker): void {
    if (message.type === 'crash') {
      this.#crash(new ConsultError('internal', message.message));
      return;
    }
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    switch (message.type) {
      case 'progress':
        pending.onProgress?.(message.progress);
        return;
      case 'event':
        pending.onEvent?.(message.event);
        return;
      case 'reply':
        this.#pending.delete(message.id);
        pending.resolve(message.value as never);
        return;
      case 'failure':
        this.#pending.delete(message.id);
        pending.reject(new ConsultError(message.failure.code, message.failure.message));
    }
  }

  #crash(error: ConsultError): void {
    if (this.#closed) return;
    this.close(error);
    this.#onCrash(error);
  }
}
