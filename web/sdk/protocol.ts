/** Messages between page and worker. Every request carries an `id`; its one reply carries the same. */

import type {
  BuildName,
  Capabilities,
  ConsultEvent,
  Consultation,
  ConsultOptions,
  DeviceName,
  ErrorCode,
  Progress,
  RedFlag,
  StorageUse,
  StoredModel,
  StoredName,
  Turn,
} from './types.ts';

/** What each request asks for and what its reply holds. */
export interface Requests {
  /** Fetches and starts the wasm package. */
  start: {
    /** `crashChannel`: where a thread says that it ended, since the worker that waits for it can't. */
    args: {
      base: string;
      crashChannel: string;
      build?: BuildName;
      threads?: number;
      device?: DeviceName;
      gpuMemoryBytes?: number;
      keepIndex?: boolean;
      decoys?: number;
    };
    reply: Capabilities;
  };
  loadRetriever: { args: Record<never, never>; reply: null };
  loadGenerator: { args: Record<never, never>; reply: null };
  models: { args: Record<never, never>; reply: StoredModel[] };
  deleteModel: { args: { model: StoredName }; reply: null };
  storage: { args: Record<never, never>; reply: StorageUse };
  /** Loses the graphics processor, for tests. */
  loseGpu: { args: Record<never, never>; reply: null };
  redFlags: { args: { question: string; history: Turn[] }; reply: RedFlag[] };
  consult: { args: { question: string; history: Turn[]; options: ConsultOptions }; reply: Consultation };
}

export type RequestName = keyof Requests;

/** Page to worker. */
export type ToWorker =
  | { [Name in RequestName]: { type: Name; id: number } & Requests[Name]['args'] }[RequestName]
  | { type: 'abort'; id: number };

/** A failure as it crosses the worker boundary. */
export interface Failure {
  code: ErrorCode;
  message: string;
}

/** Worker to page. `crash` means that the wasm instance is gone and nothing more will be answered. */
export type FromWorker =
  | { type: 'reply'; id: number; value: Requests[RequestName]['reply'] }
  | { type: 'failure'; id: number; failure: Failure }
  | { type: 'progress'; id: number; progress: Progress }
  | { type: 'event'; id: number; event: ConsultEvent }
  | { type: 'crash'; message: string };
