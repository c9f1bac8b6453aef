/**
 * Two files in the origin's private file system that the engine keeps blocks of the index in between visits. A file that is open belongs
 * to one worker, so each tab has a pair of its own, up to {@link PAIRS}; a tab beyond them keeps nothing.
 */

const FOLDER = 'huatuo-index';
const PAIRS = 3;
/** Bytes of a pair: about a hundred different questions. */
export const BLOCK_FILES_BYTES = 48 << 20;

/** Present in workers; TypeScript's DOM library knows only windows. */
interface WorkerFileHandle extends FileSystemFileHandle {
  createSyncAccessHandle(): Promise<FileSystemSyncAccessHandle>;
}

/** Opens the first pair that no other tab has open; `null` where there is none, or no private file system. */
export async function openBlockFiles(): Promise<[FileSystemSyncAccessHandle, FileSystemSyncAccessHandle] | null> {
  try {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle(FOLDER, { create: true });
    for (let pair = 0; pair < PAIRS; pair++) {
      const first = await openFile(folder, `${pair}-a.blocks`);
      if (!first) continue;
      const second = await openFile(folder, `${pair}-b.blocks`);
      if (second) return [first, second];
      first.close();
    }
  } catch {
    // some private windows have no such file system
  }
  return null;
}

async function openFile(folder: FileSystemDirectoryHandle, name: string): Promise<FileSystemSyncAccessHandle | null> {
  const file = (await folder.getFileHandle(name, { create: true })) as WorkerFileHandle;
  return file.createSyncAccessHandle().catch(() => null);
}
