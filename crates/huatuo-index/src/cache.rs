//! Decoded blocks kept in memory, so that the next question reads less.

use std::collections::HashMap;
use std::sync::Arc;

use crate::segment::Place;

/// Least recently used blocks are dropped first. A block larger than the whole cache is not kept.
#[derive(Debug)]
pub(crate) struct BlockCache {
    limit_bytes: usize,
    held_bytes: usize,
    /// Counts uses; a block's last one is its age.
    clock: u64,
    blocks: HashMap<Place, (Arc<Vec<u8>>, u64)>,
}

impl BlockCache {
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, held_bytes: 0, clock: 0, blocks: HashMap::new() }
    }

    pub fn get(&mut self, place: &Place) -> Option<Arc<Vec<u8>>> {
        self.clock += 1;
        let (payload, used) = self.blocks.get_mut(place)?;
        *used = self.clock;
        Some(payload.clone())
    }

    pub fn insert(&mut self, place: &Place, payload: Arc<Vec<u8>>) {
        if payload.len() > self.limit_bytes {
            return;
        }
        self.clock += 1;
        self.held_bytes += payload.len();
        if let Some((replaced, _)) = self.blocks.insert(*place, (payload, self.clock)) {
            self.held_bytes -= replaced.len();
        }
        while self.held_bytes > self.limit_bytes {
            // At most some thousands of blocks are held, so looking at each is cheaper than a second structure.
            let Some(oldest) = self.blocks.iter().min_by_key(|(_, (_, used))| *used).map(|(place, _)| *place) else {
                break;
            };
            self.held_bytes -= self.blocks.remove(&oldest).map_or(0, |(payload, _)| payload.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn place(offset: u64) -> Place {
        Place { segment: 0, kind: Kind::TEXTS, pack: 0, offset, length: 0, number: 0 }
    }

    #[test]
    fn the_least_recently_used_block_goes_first() {
        let mut cache = BlockCache::new(100);
        cache.insert(&place(1), Arc::new(vec![0; 40]));
        cache.insert(&place(2), Arc::new(vec![0; 40]));
        assert!(cache.get(&place(1)).is_some());
        cache.insert(&place(3), Arc::new(vec![0; 40]));
        assert!(cache.get(&place(2)).is_none());
        assert!(cache.get(&place(1)).is_some() && cache.get(&place(3)).is_some());
        assert_eq!(cache.held_bytes, 80);
    }

    #[test]
    fn a_block_larger_than_the_cache_drops_nothing() {
        let mut cache = BlockCache::new(100);
        cache.insert(&place(1), Arc::new(vec![0; 40]));
        cache.insert(&place(2), Arc::new(vec![0; 101]));
        assert!(cache.get(&place(1)).is_some() && cache.get(&place(2)).is_none());
    }
}
