/**
 * Model files kept on this device, in the origin's private file system.
 *
 * A file is read in pieces, each verified before it is used: from the device where it is stored, else from the network,
 * and then stored as it comes. So a download that breaks off goes on at the byte where it stopped, a second start needs
 * no network, and a damaged piece is fetched anew. Runs in a worker: only there can files be written in place.
 */

import { RangeStream } from './range-stream.ts';
import { ConsultError } from './types.ts';
import type { ModelName, StorageUse, StoredModel } from './types.ts';

/** A file as `models/manifest.json` describes it. */
export interface ModelFile {
  model: ModelName;
  name: string;
  url: string;
  bytes: number;
  sha256: string;
  /** SHA-256 of each piece of {@link PIECE_BYTES}. */
  piece_sha256: string[];
}

/** Bytes of a piece; `cargo xtask build-web` hashes the same. */
export const PIECE_BYTES = 4 << 20;
/** Room that must stay beside a download: the index cache and what the browser itself keeps. */
const SPARE_BYTES = 1 << 20;
const FOLDER = 'huatuo-models';

/** Present in workers; TypeScript's DOM library knows only windows. */
interface WorkerFileHandle extends FileSystemFileHandle {
  createSyncAccessHandle(): Promise<FileSystemSyncAccessHandle>;
}

/** What was written down of a stored file. */
type Label = Pick<ModelFile, 'model' | 'name' | 'bytes' | 'sha256'>;

/** Gets the pieces of each file in order. */
export type Take = (file: ModelFile, piece: Uint8Array) => void;
/** Hears of the file that is being read, and of how many bytes of all files are here. */
export type Report = (file: ModelFile, done: number, total: number) => void;

/** Storage of model files; without a private file system (some private windows) nothing is kept. */
export class ModelStore {
  readonly #folder: Promise<FileSystemDirectoryHandle | null>;

  constructor() {
    this.#folder = openFolder();
  }

  /** The stored models, whole and partial. */
  async list(): Promise<StoredModel[]> {
    const models = new Map<ModelName, StoredModel>();
    for (const { model, bytes, sha256 } of await this.#labels()) {
      const known = models.get(model) ?? { model, files: 0, bytes: 0, stored: 0 };
      const stored = known.stored + (await this.#storedBytes(sha256));
      models.set(model, { model, files: known.files + 1, bytes: known.bytes + bytes, stored });
    }
    return [...models.values()].sort((a, b) => a.model.localeCompare(b.model));
  }

  /** Removes the stored files of a model; one that is not there is no error. */
  async delete(model: ModelName): Promise<void> {
    for (const label of await this.#labels()) if (label.model === model) await this.#remove(label.sha256);
  }

  /** What a model made of the beginning of all prompts, as {@link keepBeginning} kept it. */
  beginning(sha256: string): Promise<Uint8Array | null> {
    return this.#kept(beginningOf(sha256));
  }

  /** Keeps what a model made of the beginning of all prompts, deleted with the model; without room nothing is kept. */
  keepBeginning(sha256: string, bytes: Uint8Array): Promise<void> {
    return this.#keep(beginningOf(sha256), bytes);
  }

  /** What was found out about a graphics adapter, as {@link keepTuning} kept it. */
  async tuning(adapter: string): Promise<string | null> {
    const bytes = await this.#kept(tuningOf(adapter));
    return bytes ? new TextDecoder().decode(bytes) : null;
  }

  /** Keeps what was found out about a graphics adapter; without room nothing is kept. */
  keepTuning(adapter: string, tuning: string): Promise<void> {
    return this.#keep(tuningOf(adapter), new TextEncoder().encode(tuning));
  }

  async #kept(name: string): Promise<Uint8Array | null> {
    const folder = await this.#folder;
    const bytes = folder ? await bytesOf(await storedFile(folder, name)) : null;
    return bytes?.length ? bytes : null;
  }

  async #keep(name: string, bytes: Uint8Array): Promise<void> {
    const folder = await this.#folder;
    if (!folder) return;
    try {
      const file = await openFile(folder, name);
      try {
        file.truncate(0);
        file.write(bytes, { at: 0 });
      } finally {
        file.close();
      }
    } catch {
      // no room, or another tab is writing the same: it is read anew next time, and a half-written one is not used
    }
  }

  /** What this origin uses and may use. */
  async measure(): Promise<StorageUse> {
    const { usage = 0, quota = 0 } = await navigator.storage.estimate();
    return { usage, quota, models: (await this.list()).reduce((sum, model) => sum + model.stored, 0) };
  }

  /**
   * Reads files in verified pieces, one file after the other. Throws `storage` before anything is fetched when there is no
   * room for what is missing of them all, and the errors of {@link RangeStream}; what has come until then stays stored.
   */
  async read(files: readonly ModelFile[], take: Take, report: Report): Promise<void> {
    const total = files.reduce((sum, file) => sum + file.bytes, 0);
    let missing = 0;
    for (const { bytes, sha256 } of files) missing += Math.max(0, bytes - (await this.#storedBytes(sha256)));
    let before = 0;
    for (const file of files) {
      const stored = Math.min(file.bytes, await this.#storedBytes(file.sha256));
      const progress = (done: number): void => report(file, before + done, total);
      progress(0);
      await this.#readFile(file, missing, (piece) => take(file, piece), progress);
      before += file.bytes;
      missing -= file.bytes - stored;
    }
  }

  /** Reads one of files of which `missing` bytes are not stored yet. */
  async #readFile(
    file: ModelFile,
    missing: number,
    take: (piece: Uint8Array) => void,
    progress: (done: number) => void,
  ): Promise<void> {
    const folder = await this.#folder;
    const stored = folder ? await storedFile(folder, file.sha256) : new Blob();
    const writer = new Writer(folder, file, missing);
    const network = new RangeStream(file.url, file.bytes);
    try {
      for (let start = 0, index = 0; start < file.bytes; start += PIECE_BYTES, index++) {
        const piece = new Uint8Array(Math.min(PIECE_BYTES, file.bytes - start));
        const wanted = file.piece_sha256[index];
        const kept = await bytesOf(stored.slice(start, start + piece.length));
        piece.set(kept);
        const isWhole = kept.length === piece.length && (await sha256(piece)) === wanted;
        if (!isWhole) await this.#fetch(piece, start, kept.length % piece.length, wanted, network, writer, progress);
        take(piece);
        progress(start + piece.length);
      }
    } finally {
      await network.close();
      writer.close();
    }
  }

  /** Fills a piece from byte `from` on and stores what comes. */
  async #fetch(
    piece: Uint8Array<ArrayBuffer>,
    start: number,
    from: number,
    wanted: string | undefined,
    network: RangeStream,
    writer: Writer,
    progress: (done: number) => void,
  ): Promise<void> {
    for (let at = from; at < piece.length; ) {
      await writer.open();
      const bytes = await network.next(start + at, piece.length - at);
      piece.set(bytes, at);
      writer.write(bytes, start + at);
      at += bytes.length;
      progress(start + at);
    }
    if ((await sha256(piece)) === wanted) return;
    if (from > 0) return this.#fetch(piece, start, 0, wanted, network, writer, progress); // the stored part was bad
    writer.truncate(start);
    const end = start + piece.length;
    throw new ConsultError('corrupt', `${writer.name}: bytes ${start} to ${end} don't match their SHA-256`);
  }

  async #labels(): Promise<Label[]> {
    const folder = await this.#folder;
    if (!folder) return [];
    const labels: Label[] = [];
    for await (const name of (folder as unknown as { keys(): AsyncIterable<string> }).keys()) {
      const label = name.endsWith('.json') ? await readLabel(folder, name) : null;
      if (label) labels.push(label);
    }
    return labels;
  }

  async #storedBytes(sha256: string): Promise<number> {
    const folder = await this.#folder;
    return folder ? (await storedFile(folder, sha256)).size : 0;
  }

  async #remove(sha256: string): Promise<void> {
    const folder = await this.#folder;
    for (const name of [beginningOf(sha256), sha256, `${sha256}.json`]) {
      // The label goes last: a file that can't be removed now, being read in another tab, stays listed.
      await folder?.removeEntry(name).catch((error: unknown) => {
        if (!(error instanceof DOMException && error.name === 'NotFoundError')) throw error;
      });
    }
  }
}

/** The bytes of a part of a stored file, none when it changed since it was opened. */
async function bytesOf(part: Blob): Promise<Uint8Array> {
  return new Uint8Array(await part.arrayBuffer().catch(() => new ArrayBuffer(0)));
}

/** Writes to a stored file, opened with the first byte that comes over the network. */
class Writer {
  readonly #folder: FileSystemDirectoryHandle | null;
  readonly #file: ModelFile;
  readonly #missing: number;
  #handle: FileSystemSyncAccessHandle | null | undefined;

  /** @param missing bytes that are to be stored from now on, of this file and of those behind it */
  constructor(folder: FileSystemDirectoryHandle | null, file: ModelFile, missing: number) {
    this.#folder = folder;
    this.#file = file;
    this.#missing = missing;
  }

  get name(): string {
    return this.#file.name;
  }

  /** Labels the file, opens it and checks that there is room for what is missing; once. What can't be kept still loads. */
  async open(): Promise<void> {
    if (this.#handle !== undefined || !this.#folder) return;
    const { model, name, bytes, sha256 } = this.#file;
    try {
      const label = await openFile(this.#folder, `${sha256}.json`);
      label.truncate(0);
      label.write(new TextEncoder().encode(JSON.stringify({ model, name, bytes, sha256 } satisfies Label)), { at: 0 });
      label.close();
      this.#handle = await openFile(this.#folder, sha256);
    } catch {
      this.#handle = null; // another tab may be writing the same file
      return;
    }
    if (hasRoom(this.#handle, this.#missing + SPARE_BYTES)) return;
    const { usage = 0 } = await navigator.storage.estimate();
    throw new ConsultError(
      'storage',
      `the ${model} needs ${this.#missing} bytes of storage beside the ${usage} in use, more than this browser gives: ` +
        'free some, or delete a stored model',
    );
  }

  write(bytes: Uint8Array, at: number): void {
    try {
      // A full disk is an exception in some browsers, a nonsensical count in others.
      if (this.#handle?.write(bytes, { at }) === bytes.length) return;
    } catch {
      // as below
    }
    this.close(); // the model still loads, it is only not kept whole
  }

  truncate(bytes: number): void {
    this.#handle?.truncate(bytes);
  }

  close(): void {
    const handle = this.#handle;
    this.#handle = null;
    try {
      handle?.flush();
    } catch {
      // a full disk: what could not be written is fetched anew
    } finally {
      handle?.close();
    }
  }
}

/** A file that can be written in place, in every browser that has a private file system. */
async function openFile(folder: FileSystemDirectoryHandle, name: string): Promise<FileSystemSyncAccessHandle> {
  return ((await folder.getFileHandle(name, { create: true })) as WorkerFileHandle).createSyncAccessHandle();
}

/**
 * Whether a file may grow by so many bytes. Growing it asks for the room itself: estimates are rounded up on purpose by some
 * browsers, and some leave a file that may not grow as it was instead of failing.
 */
function hasRoom(handle: FileSystemSyncAccessHandle, bytes: number): boolean {
  const stored = handle.getSize();
  try {
    handle.truncate(stored + bytes);
    return handle.getSize() === stored + bytes;
  } catch {
    return false;
  } finally {
    handle.truncate(stored);
  }
}

async function openFolder(): Promise<FileSystemDirectoryHandle | null> {
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(FOLDER, { create: true });
  } catch {
    return null;
  }
}

const beginningOf = (sha256: string): string => `${sha256}.beginning`;
const tuningOf = (adapter: string): string => `${adapter.replace(/[^a-z0-9]+/giu, '-')}.tuning`;

async function storedFile(folder: FileSystemDirectoryHandle, name: string): Promise<Blob> {
  try {
    return await (await folder.getFileHandle(name)).getFile();
  } catch {
    return new Blob();
  }
}

async function readLabel(folder: FileSystemDirectoryHandle, name: string): Promise<Label | null> {
  try {
    const label = JSON.parse(await (await (await folder.getFileHandle(name)).getFile()).text()) as Partial<Label>;
    const { name: shown, bytes, sha256 } = label;
    // Before the encoder was stored as well, labels named no model.
    const model = label.model === 'retriever' ? 'retriever' : 'generator';
    return typeof shown === 'string' && typeof bytes === 'number' && typeof sha256 === 'string'
      ? { model, name: shown, bytes, sha256 }
      : null;
  } catch {
    return null; // a label that was cut off while it was written: the file counts as not stored
  }
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
