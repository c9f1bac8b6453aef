//! The two files that blocks of the index are kept in between visits.

use huatuo_index::BlockStore;
use web_sys::FileSystemSyncAccessHandle;

/// Files that the page has opened, and how many bytes they may hold together.
#[derive(Clone)]
#[cfg_attr(not(target_arch = "wasm32"), expect(dead_code, reason = "only a browser has such files"))]
pub struct BlockFiles {
    pub files: [FileSystemSyncAccessHandle; 2],
    pub limit_bytes: u64,
}

impl BlockFiles {
    /// Takes up what they hold. Files that can't be used are no reason to do without the index.
    #[cfg(target_arch = "wasm32")]
    pub fn store(self) -> Option<BlockStore> {
        BlockStore::open(self.files.map(huatuo_fetch::KeptFile::new), self.limit_bytes).ok()
    }

    /// Only a browser has such files.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn store(self) -> Option<BlockStore> {
        None
    }
}
