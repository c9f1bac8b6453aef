/** Conversations kept in this browser (IndexedDB). Where it is blocked the page works without history. */

import type { StoredConversation } from './round.ts';

const DATABASE = 'huatuo';
const STORE = 'conversations';

/** Keeps a conversation, in place of its earlier form. */
export async function saveConversation(conversation: StoredConversation): Promise<void> {
  await request('readwrite', (store) => store.put(conversation)).catch(() => {}); // history is a convenience
}

/** All conversations, the latest first. */
export async function listConversations(): Promise<StoredConversation[]> {
  const all: StoredConversation[] = await request('readonly', (store) => store.getAll()).catch(() => []);
  return all.sort((a, b) => b.updatedAt.localeCompare(a.updatedAt));
}

/** One conversation. */
export async function loadConversation(id: string): Promise<StoredConversation | undefined> {
  return request('readonly', (store) => store.get(id)).catch(() => undefined) as Promise<
    StoredConversation | undefined
  >;
}

/** Removes one conversation for good. */
export async function deleteConversation(id: string): Promise<void> {
  await request('readwrite', (store) => store.delete(id)).catch(() => {});
}

/** Removes every conversation for good. */
export async function deleteAllConversations(): Promise<void> {
  await request('readwrite', (store) => store.clear()).catch(() => {});
}

async function request<T>(mode: IDBTransactionMode, run: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const database = await open();
  try {
    return await settled(run(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

function open(): Promise<IDBDatabase> {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: 'id' });
  return settled(opening);
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error('the history could not be opened'));
  });
}
