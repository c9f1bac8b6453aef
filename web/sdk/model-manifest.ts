/**
 * What `models/manifest.json` says of the models. It is asked at each start, since the site may have been replaced; what
 * it said last is kept, so that a start without a network finds the stored models.
 */

import { PIECE_BYTES } from './model-store.ts';
import type { ModelFile } from './model-store.ts';
import { ConsultError } from './types.ts';
import type { ModelName } from './types.ts';

const NAME = 'models/manifest.json';
/** The browser's cache that the last answer is kept in. */
const KEPT = 'huatuo-manifest';
/** A host that has not sent these few kilobytes by then is taken as lost. */
const PATIENCE_MS = 30_000;

/** The files of a model, in the manifest's order. */
export async function modelFiles(base: string, model: ModelName): Promise<ModelFile[]> {
  const described = (await manifest(new URL(NAME, base).href)) as Record<string, unknown> | null;
  const entries = Object.entries(described?.[model] ?? {});
  if (entries.length === 0) throw new ConsultError('corrupt', `${NAME} names no files of the ${model}`);
  return entries.map(([name, entry]) => {
    return modelFile(model, name, new URL(`models/${model}/${name}`, base).href, entry);
  });
}

/** The manifest as the site has it, or where the site can't be reached as it had it last. */
async function manifest(url: string): Promise<unknown> {
  try {
    const text = await ask(url);
    const found = parsed(text);
    if (found) await keepManifest(url, text);
    return found;
  } catch (error) {
    const kept = error instanceof ConsultError && error.code === 'network' ? await keptManifest(url) : null;
    if (kept) return kept;
    throw error;
  }
}

async function ask(url: string): Promise<string> {
  let response: Response;
  try {
    response = await fetch(url, { cache: 'no-cache', signal: AbortSignal.timeout(PATIENCE_MS) });
    if (response.ok) return await response.text();
  } catch (error) {
    throw new ConsultError('network', `${NAME}: ${String(error)}`);
  }
  throw new ConsultError(response.status === 404 ? 'not_found' : 'network', `${NAME}: status ${response.status}`);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function keptManifest(url: string): Promise<unknown> {
  try {
    const kept = await (await caches.open(KEPT)).match(url);
    return kept ? await kept.json() : null;
  } catch {
    return null; // some private windows have no caches
  }
}

async function keepManifest(url: string, text: string): Promise<void> {
  try {
    await (await caches.open(KEPT)).put(url, new Response(text));
  } catch {
    // the models load all the same, only not without a network
  }
}

/** Checks an entry before anything is allocated for it. */
function modelFile(model: ModelName, name: string, url: string, entry: unknown): ModelFile {
  const { bytes, sha256, piece_sha256: pieces } = (entry ?? {}) as Record<string, unknown>;
  const isHash = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
  if (Number.isSafeInteger(bytes) && (bytes as number) > 0 && isHash(sha256) && Array.isArray(pieces)) {
    const size = bytes as number;
    if (pieces.length === Math.ceil(size / PIECE_BYTES) && pieces.every(isHash)) {
      return { model, name, url, bytes: size, sha256, piece_sha256: pieces };
    }
  }
  throw new ConsultError('corrupt', `${NAME}: the entry of ${name} is not whole`);
}
