/** A file of the origin's private file system, open in a worker; TypeScript's DOM library knows only windows. */
interface FileSystemSyncAccessHandle {
  read(bytes: Uint8Array, options?: { at?: number }): number;
  write(bytes: Uint8Array, options?: { at?: number }): number;
  truncate(bytes: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}
