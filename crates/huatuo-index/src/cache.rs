//! Decoded blocks kept in memory, so that the next question reads less.

use std::collections::HashMap;
use std::sync::Arc;

use crate::root::Entry;

/// Pack and offset name a block.
type Key = (u32, u64);

/// Least recently used blocks are dropped first. A block larger than the whole cache is not kept.
#[derive(Debug)]
pub(crate) struct BlockCache {
    limit_bytes: usize,
    held_bytes: usize,
    /// Counts uses; a block's last one is its age.
    clock: u64,
    blocks: HashMap<Key, (Arc<Vec<u8>>, u64)>,
}

impl BlockCache {
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, held_bytes: 0, clock: 0, blocks: HashMap::new() }
    }

    pub fn get(&mut self, entry: &Entry) -> Option<Arc<Vec<u8>>> {
        self.clock += 1;
        let (payload, used) = self.blocks.get_mut(&key(entry))?;
        *used = self.clock;
        Some(payload.clone())
    }

    pub fn insert(&mut self, entry: &Entry, payload: Arc<Vec<u8>>) {
        if payload.len() > self.limit_bytes {
            return;
        }
        self.clock += 1;
        self.held_bytes += payload.len();
        if let Some((replaced, _)) = self.blocks.insert(key(entry), (payload, self.clock)) {
            self.held_bytes -= replaced.len();
        }
        while self.held_bytes > self.limit_bytes {
            // At most some thousands of blocks are held, so looking at each is cheaper than a second structure.
            let Some(oldest) = self.blocks.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key) else {
                break;
            };
            self.held_bytes -= self.blocks.remove(&oldest).map_or(0, |(payload, _)| payload.len());
        }
    }
}

fn key(entry: &Entry) -> Key {
    (entry.pack, entry.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn entry(offset: u64) -> Entry {
        Entry { kind: Kind::TEXTS, pack: 0, offset, length: 0, first: 0, count: 0 }
    }

    #[test]
    fn the_least_recently_used_block_goes_first() {
        let mut cache = BlockCache::new(100);
        cache.insert(&entry(1), Arc::new(vec![0; 40]));
        cache.insert(&entry(2), Arc::new(vec![0; 40]));
        assert!(cache.get(&entry(1)).is_some());
        cache.insert(&entry(3), Arc::new(vec![0; 40]));
        assert!(cache.get(&entry(2)).is_none());
        assert!(cache.get(&entry(1)).is_some() && cache.get(&entry(3)).is_some());
        assert_eq!(cache.held_bytes, 80);
    }

    #[test]
    fn a_block_larger_than_the_cache_drops_nothing() {
        let mut cache = BlockCache::new(100);
        cache.insert(&entry(1), Arc::new(vec![0; 40]));
        cache.insert(&entry(2), Arc::new(vec![0; 101]));
        assert!(cache.get(&entry(1)).is_some() && cache.get(&entry(2)).is_none());
    }
}
