/** What goes in and out of the engine. Field names are those of the wasm package, which `huatuo ask --json` shares. */

/** Parts that are loaded, in this order. */
export type PartName = 'encoder' | 'index' | 'generator';

/** How far a part has been read, in bytes of all its files; `file` is the one being read. */
export interface Progress {
  part: PartName;
  file: string;
  done: number;
  total: number;
}

/** One utterance of an earlier round. */
export interface Turn {
  role: 'patient' | 'assistant';
  text: string;
}

/** Settings of one consultation; all optional. One that is out of range is an error with the code `options`. */
export interface ConsultOptions {
  /** Same seed, same question, same references: same answer. */
  seed?: number;
  /** 0, the default, is greedy; at most 100. */
  temperature?: number;
  /** Likeliest tokens considered, 40 by default; 0 considers all. Used with a temperature, as the next two. */
  topK?: number;
  /** Probability mass considered, 0 to 1, 0.9 by default. */
  topP?: number;
  /** Probability a token must have as a share of the likeliest one's, 0 to 1, 0 by default. */
  minP?: number;
  /** Above 1, tokens that the answer has already become less likely; 0.01 to 100, 1 by default. */
  repetitionPenalty?: number;
  /** Last tokens that the penalty meets, 64 by default. */
  repetitionWindow?: number;
  /** Whether the penalty meets tokens of the prompt as well, references included; not by default. */
  repetitionInPrompt?: boolean;
  /** Longest answer, in tokens. */
  maxTokens?: number;
  /** Texts that end the answer; neither they nor anything behind them is shown. */
  stop?: string[];
  /** Retrieve and judge, but write no answer. */
  referencesOnly?: boolean;
  /** References retrieved and given to the generator; 4 unless said otherwise. */
  references?: number;
  /** Characters of their answers that the generator is given, in whole sentences; 240 unless said otherwise. */
  promptCharacters?: number;
  /** Read everything anew and nothing ahead, for comparisons. */
  withoutReuse?: boolean;
}

/** A danger sign and what to do at once, in Chinese and English. */
export interface RedFlag {
  id: string;
  advice: string;
  advice_en: string;
}

/** A retrieved record; `n` is the number by which the answer cites it, from 1. */
export interface Reference {
  n: number;
  id: string;
  question: string;
  answer: string;
  source: string;
  department: string;
  related_diseases: string[];
  /** How close the record is to the question, 0 to 1. */
  score: number;
}

/**
 * What the index cost: bytes and requests on the network, bytes that were kept on this device, dependent trips, milliseconds by
 * stage.
 */
export interface Statistics {
  bytes: number;
  requests: number;
  stored_bytes: number;
  trips: number;
  /** Lists of vectors scanned. */
  lists: number;
  milliseconds: Record<string, number>;
}

/** A sentence of the answer after the grounding check. */
export interface Sentence {
  text: string;
  supported: boolean;
  /** Numbers of the references that support it; empty when none does. */
  citations: number[];
}

/**
 * What the engine reports while it consults; `red_flags`, if any, is always first. `query` is what was searched for (a
 * follow-up is completed from the conversation), `weak` whether the references are too far from it to answer from.
 */
export type ConsultEvent =
  | { type: 'red_flags'; flags: RedFlag[] }
  | { type: 'references'; references: Reference[]; query: string; weak: boolean }
  | { type: 'text'; text: string }
  | ({ type: 'sentence' } & Sentence)
  | { type: 'notice'; text: string };

/** What {@link HuatuoConsult.ask} reports: the engine's events, and for what it waits. */
export type AskEvent = ConsultEvent | { type: 'waiting'; for: 'retriever' | 'generator' } | { type: 'working' };

/** Milliseconds by stage; what ran while references were on their way is not counted in `retrieve`. */
export interface Timings {
  /** The question's vector. */
  embed: number;
  /** Index and ranking. */
  retrieve: number;
  /** Choosing sentences of the references. */
  excerpt: number;
  /** Reading the prompt's beginning before all references had come. */
  read_ahead: number;
  /** Reading the rest of the prompt. */
  prefill: number;
  /** From the question to the first piece of the answer; 0 where there is none. */
  first_token: number;
  /** Writing the answer. */
  decode: number;
}

/** The whole result of one question. */
export interface Consultation {
  answer: string;
  sentences: Sentence[];
  references: Reference[];
  safety: { red_flags: RedFlag[]; notices: string[] };
  abstained: boolean;
  aborted: boolean;
  tokens: number;
  /** Tokens of the prompt, and how many of them did not have to be read any more when it was whole. */
  prompt_tokens: number;
  cached_tokens: number;
  timings_ms: Timings;
  statistics: Statistics;
}

/** Kinds of failure that a host may treat differently. */
export const ERROR_CODES = [
  'question',
  'options',
  'network',
  'ranges_ignored',
  'not_found',
  'corrupt',
  'unsupported',
  'storage',
  'internal',
] as const;

/** See {@link ERROR_CODES}. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** A failure with its kind; the message says what happened, to what, and what can be done. */
export class ConsultError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.name = 'ConsultError';
    this.code = code;
  }
}

/** The wasm builds, slowest first: SIMD alone, with relaxed SIMD, with threads on shared memory as well. */
export type BuildName = 'simd' | 'relaxed' | 'threads';

/** What the worker found out about the device. */
export interface Capabilities {
  /** The wasm build in use. */
  build: BuildName;
  /** Instructions that the hot loops use. */
  instructionSet: string;
  /** Threads the engine uses. */
  threads: number;
  /** The graphics processor that models may be brought to; `null` where there is none or none was asked for. */
  gpu: string | null;
  /** Searches for nothing that go with each question, so that the host does not see what it is about. */
  decoys: number;
  crossOriginIsolated: boolean;
  logicalProcessors: number;
  /** Size of the wasm package, in bytes. */
  wasmBytes: number;
  /** Milliseconds to fetch, compile and start the wasm package. */
  startMilliseconds: number;
}

/** What the generator computes on. `auto`: a real graphics processor, where there is one, for models that gain by it. */
export type DeviceName = 'auto' | 'cpu' | 'gpu';

/** Models, as `models/manifest.json` names them. */
export type ModelName = 'retriever' | 'generator';

/** What is kept on this device: models, and blocks of the index. */
export type StoredName = ModelName | 'index';

/**
 * A model on this device: `stored` of the `bytes` of its files are here. Of the index, `stored` bytes of blocks that were read before, of
 * the `bytes` that they may take.
 */
export interface StoredModel {
  model: StoredName;
  files: number;
  bytes: number;
  stored: number;
}

/** Bytes that this origin uses and may use, and how many of them are models. */
export interface StorageUse {
  usage: number;
  quota: number;
  models: number;
}

/** Loading of one part: bytes, bytes per second, seconds left (null while unknown). */
export interface PartStatus {
  part: PartName;
  state: 'waiting' | 'loading' | 'ready';
  file: string;
  done: number;
  total: number;
  bytesPerSecond: number | null;
  secondsLeft: number | null;
}

/** The state of the engine as a whole. */
export interface Status {
  phase: 'starting' | 'loading' | 'ready' | 'error';
  retrieverReady: boolean;
  generatorReady: boolean;
  parts: PartStatus[];
  /** Set in phase `error`; what is loaded stays loaded, {@link HuatuoConsult.retry} goes on. */
  error: ConsultError | null;
  capabilities: Capabilities | null;
}
