/** Medical consultation on the reader's own device: retrieval and generation in a Web Worker. */

import { Draft } from './draft.ts';
import { Gate } from './gate.ts';
import { LoadingMeter } from './loading.ts';
import { ConsultError } from './types.ts';
import type { AskEvent, BuildName, Capabilities, Consultation, ConsultOptions, DeviceName, Status, StorageUse, StoredModel, StoredName, Turn } from './types.ts';
import { WorkerClient } from './worker-client.ts';

export * from './types.ts';

/** Where the files lie and who hears of the state. */
export interface HuatuoOptions {
  /** URL under which `models/manifest.json` and `index/manifest.json` lie. */
  base: string | URL;
  /** The wasm build to run, for tests and measurements; else the fastest that this browser can run. */
  build?: BuildName;
  /** Threads to compute with, in the build that has them; else as many as the device has processors, up to 8. */
  threads?: number;
  /** What the generator computes on; `auto` without it. */
  device?: DeviceName;
  /** Most memory of the graphics processor that models may take; what doesn't fit is refused before it is loaded. */
  gpuMemoryBytes?: number;
  /**
   * Searches for nothing that go with each question, so that the host of the index does not see which of them it is about; 0 unless said
   * otherwise. Each reads about as much as the question.
   */
  decoys?: number;
  /** Whether blocks of the index are kept on this device between visits; unless said otherwise they are. */
  keepIndex?: boolean;
  /** Called after each change. */
  onStatus?: (status: Status) => void;
}

/** One question. */
export interface AskOptions extends ConsultOptions {
  /** Earlier rounds, oldest first. */
  history?: Turn[];
  /** Called for each event in order; emergency advice comes before anything else. */
  onEvent?: (event: AskEvent) => void;
  /** Aborting it is the same as {@link HuatuoConsult.stop}. */
  signal?: AbortSignal;
}

/** After so many crashes in a row nothing is restarted before {@link HuatuoConsult.retry} is called. */
const MAX_RESTARTS = 2;
/** A stopped engine answers within one token; one that hangs in a network request is not waited for longer. */
const STOP_GRACE_MS = 500;

/** The engine. Create one a page, call {@link load}, then {@link ask}. */
export class HuatuoConsult {
  readonly #base: string;
  readonly #engine: Pick<HuatuoOptions, 'build' | 'threads' | 'device' | 'gpuMemoryBytes' | 'keepIndex' | 'decoys'>;
  readonly #onStatus: (status: Status) => void;
  readonly #started = new Gate();
  readonly #retriever = new Gate();
  readonly #generator = new Gate();
  #client: WorkerClient | null = null;
  #meter = new LoadingMeter();
  #loading: Promise<void> | null = null;
  #error: ConsultError | null = null;
  #capabilities: Capabilities | null = null;
  #asking: AbortController | null = null;
  #crashes = 0;
  #disposed = false;

  constructor(options: HuatuoOptions) {
    const base = new URL(options.base, location.href).href;
    this.#base = base.endsWith('/') ? base : `${base}/`;
    this.#engine = definedOnly({
      build: options.build,
      threads: options.threads,
      device: options.device,
      gpuMemoryBytes: options.gpuMemoryBytes,
      keepIndex: options.keepIndex,
      decoys: options.decoys,
    });
    this.#onStatus = options.onStatus ?? (() => {});
  }

  /** The present state. */
  get status(): Status {
    const ready = this.#retriever.isOpen && this.#generator.isOpen;
    const phase = this.#error ? 'error' : ready ? 'ready' : this.#started.isOpen ? 'loading' : 'starting';
    return {
      phase,
      retrieverReady: this.#retriever.isOpen,
      generatorReady: this.#generator.isOpen,
      parts: this.#meter.parts(),
      error: this.#error,
      capabilities: this.#capabilities,
    };
  }

  /** Loads retriever, then generator. Called again after an error it goes on where it stopped. */
  load(): Promise<void> {
    this.#loading ??= this.#loadAll().finally(() => (this.#loading = null));
    return this.#loading;
  }

  /** The same as {@link load}, for a button. */
  retry(): Promise<void> {
    this.#crashes = 0;
    return this.load();
  }

  /**
   * Answers a question. It may be asked at any time: danger signs are reported as soon as the engine has started,
   * references as soon as the retriever is there, the answer when the generator is there. A question that is asked
   * while another one is being answered stops that one. Rejects with {@link ConsultError}.
   */
  async ask(question: string, options: AskOptions = {}): Promise<Consultation> {
    this.stop();
    const asking = new AbortController();
    this.#asking = asking;
    options.signal?.addEventListener('abort', () => asking.abort(), { once: true });
    if (options.signal?.aborted) asking.abort();
    const draft = new Draft();
    const emit = (event: AskEvent): void => {
      if (!asking.signal.aborted && draft.take(event)) options.onEvent?.(event);
    };
    try {
      return await this.#answer(question, options, draft, emit, asking.signal);
    } catch (error) {
      if (asking.signal.aborted) return draft.aborted();
      throw error;
    } finally {
      if (this.#asking === asking) this.#asking = null;
    }
  }

  /** Stops the running answer within one token; its promise resolves with `aborted: true`. */
  stop(): void {
    this.#asking?.abort();
    this.#asking = null;
  }

  /** The models on this device, whole and partial, and what is kept of the index. */
  async storedModels(): Promise<StoredModel[]> {
    await this.#started.wait(new AbortController().signal);
    return this.#call().call('models', {});
  }

  /** Removes a model, or what is kept of the index, from this device; what is in use stays in memory. */
  async deleteModel(model: StoredName): Promise<void> {
    await this.#started.wait(new AbortController().signal);
    await this.#call().call('deleteModel', { model });
  }

  /** Loses the graphics processor, to try what happens then. */
  async loseGpu(): Promise<void> {
    await this.#started.wait(new AbortController().signal);
    await this.#call().call('loseGpu', {});
  }

  /** What this origin stores and may store. */
  async storageUse(): Promise<StorageUse> {
    await this.#started.wait(new AbortController().signal);
    return this.#call().call('storage', {});
  }

  /** Ends the worker and frees its memory. */
  dispose(): void {
    this.#disposed = true;
    this.stop();
    this.#client?.close(new ConsultError('internal', 'the engine was disposed of'));
    this.#client = null;
  }

  async #answer(
    question: string,
    options: AskOptions,
    draft: Draft,
    emit: (event: AskEvent) => void,
    signal: AbortSignal,
  ): Promise<Consultation> {
    const { history = [], onEvent: _, signal: __, referencesOnly: ___, ...given } = options;
    const settings = definedOnly<ConsultOptions>(given);
    await this.#started.wait(signal);
    emit({ type: 'red_flags', flags: await this.#call().call('redFlags', { question, history }) });
    if (!this.#retriever.isOpen) {
      emit({ type: 'waiting', for: 'retriever' });
      await this.#retriever.wait(signal);
    }
    if (options.referencesOnly || !this.#generator.isOpen) {
      const only = { ...settings, referencesOnly: true };
      const references = draft.withCost(await this.#consult(question, history, only, emit, signal));
      if (options.referencesOnly || references.abstained || references.aborted) return references;
      emit({ type: 'waiting', for: 'generator' });
      await this.#generator.wait(signal);
    }
    return draft.withCost(await this.#consult(question, history, settings, emit, signal));
  }

  async #consult(
    question: string,
    history: Turn[],
    options: ConsultOptions,
    emit: (event: AskEvent) => void,
    signal: AbortSignal,
  ): Promise<Consultation> {
    signal.throwIfAborted();
    const client = this.#call();
    let abort = (): void => {};
    const stopped = new Promise<never>((_, reject) => {
      abort = () => setTimeout(() => reject(signal.reason as Error), STOP_GRACE_MS);
    });
    const onId = (id: number): void =>
      signal.addEventListener('abort', () => (client.abort(id), abort()), { once: true });
    // Notices of a run without an answer would come twice.
    const onEvent = options.referencesOnly ? (event: AskEvent) => event.type !== 'notice' && emit(event) : emit;
    emit({ type: 'working' });
    const result = client.call('consult', { question, history, options }, { onEvent, onId });
    const consultation = await Promise.race([result, stopped]);
    this.#crashes = 0;
    if (options.referencesOnly && consultation.abstained) {
      for (const text of consultation.safety.notices) emit({ type: 'notice', text });
    }
    return consultation;
  }

  async #loadAll(): Promise<void> {
    this.#error = null;
    this.#changed();
    try {
      await this.#start();
      const onProgress = (progress: Parameters<LoadingMeter['report']>[0]): void => {
        this.#meter.report(progress, performance.now());
        this.#changed();
      };
      if (!this.#retriever.isOpen) {
        await this.#call().call('loadRetriever', {}, { onProgress });
        this.#meter.ready('encoder', 'index');
        this.#retriever.open();
        this.#changed();
      }
      if (!this.#generator.isOpen) {
        await this.#call().call('loadGenerator', {}, { onProgress });
        this.#meter.ready('generator');
        this.#generator.open();
      }
    } catch (error) {
      this.#error = error instanceof ConsultError ? error : new ConsultError('internal', String(error));
      throw this.#error;
    } finally {
      this.#meter.pause();
      this.#changed();
    }
  }

  async #start(): Promise<void> {
    if (this.#started.isOpen) return;
    this.#client ??= new WorkerClient(newWorker(), (error) => this.#crashed(error));
    try {
      this.#capabilities = await this.#client.call('start', {
        base: this.#base,
        crashChannel: this.#client.crashChannel,
        ...this.#engine,
      });
    } catch (error) {
      // A worker that could not start has nothing worth keeping; the next try begins with a new one.
      this.#client?.close(new ConsultError('internal', 'the engine could not start'));
      this.#client = null;
      throw error;
    }
    this.#started.open();
    this.#changed();
  }

  #call(): WorkerClient {
    if (!this.#client) throw new ConsultError('internal', 'the engine is not running');
    return this.#client;
  }

  /** The instance is gone with all it had loaded; a new one is started and loaded again. */
  #crashed(error: ConsultError): void {
    console.error(`huatuo: the engine crashed: ${error.message}`);
    this.#client = null;
    this.#started.close();
    this.#retriever.close();
    this.#generator.close();
    this.#meter = new LoadingMeter();
    this.#error = error;
    this.#crashes += 1;
    this.#changed();
    if (this.#disposed || this.#crashes > MAX_RESTARTS || error.code !== 'internal') return;
    const settled = this.#loading?.catch(() => {}) ?? Promise.resolve();
    void settled.then(() => this.load()).catch(() => {}); // the status says it
  }

  #changed(): void {
    if (!this.#disposed) this.#onStatus(this.status);
  }
}

function newWorker(): Worker {
  return new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'huatuo' });
}

/** The options without those that were not given: the engine has its own defaults. */
function definedOnly<Options extends object>(options: { [Key in keyof Options]: Options[Key] | undefined }): Options {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Options;
}
