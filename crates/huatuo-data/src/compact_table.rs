//! A multimap from 64-bit hashes to 32-bit values, in 9.4 to 11.8 bytes an entry at any size above a few thousand.
//!
//! The standard map doubles, and holds the old and the new table while it does; tens of millions of records would need
//! three times the memory. This one is cut into parts that grow one at a time, by a quarter.

use std::num::NonZeroU32;

/// Parts; each grows alone, so that a growing table needs hardly more memory than a grown one.
const PARTS: usize = 1024;
/// Slots of a part's first table.
const FIRST_SLOTS: usize = 16;
/// A part with more than 85 % of its slots taken grows.
const FULL_PERCENT: usize = 85;

/// The table. Of a hash it keeps the high half; the part it lies in tells ten bits more.
#[derive(Debug)]
pub(crate) struct CompactTable {
    parts: Vec<Part>,
}

/// Open addressing with linear probing. A slot is the hash's high half above the value, 0 when free.
#[derive(Clone, Debug, Default)]
struct Part {
    slots: Box<[u64]>,
    used: usize,
}

impl Default for CompactTable {
    fn default() -> Self {
        Self { parts: vec![Part::default(); PARTS] }
    }
}

impl CompactTable {
    /// Adds an entry.
    pub(crate) fn insert(&mut self, hash: u64, value: NonZeroU32) {
        let part = &mut self.parts[part_of(hash)];
        if (part.used + 1) * 100 > part.slots.len() * FULL_PERCENT {
            part.grow();
        }
        part.place((hash >> 32 << 32) | u64::from(value.get()));
        part.used += 1;
    }

    /// The values of a hash, in the order in which they were added; rarely, one of another hash is among them.
    pub(crate) fn values(&self, hash: u64) -> impl Iterator<Item = NonZeroU32> + '_ {
        let slots = &self.parts[part_of(hash)].slots;
        let home = home(hash, slots.len());
        let run = slots[home..].iter().chain(&slots[..home]).take_while(|slot| **slot != 0);
        run.filter(move |slot| **slot >> 32 == hash >> 32).filter_map(|slot| NonZeroU32::new(*slot as u32))
    }
}

impl Part {
    fn place(&mut self, slot: u64) {
        let mut at = home(slot, self.slots.len());
        while self.slots[at] != 0 {
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let larger = (self.slots.len() / 4 * 5).max(FIRST_SLOTS);
        let old = std::mem::replace(&mut self.slots, vec![0; larger].into());
        // From behind a free slot, so that a run that goes round the end keeps its order.
        let start = old.iter().position(|slot| *slot == 0).unwrap_or(0);
        for slot in old[start..].iter().chain(&old[..start]).filter(|slot| **slot != 0) {
            self.place(*slot);
        }
    }
}

fn part_of(hash: u64) -> usize {
    hash as usize % PARTS
}

/// Where the search for a slot begins: its high half, scaled to the number of slots.
fn home(slot: u64, slots: usize) -> usize {
    (((slot >> 32) * slots as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use xxhash_rust::xxh3::xxh3_64;

    fn hash(n: u32) -> u64 {
        xxh3_64(&n.to_le_bytes())
    }

    #[test]
    fn every_entry_is_found_in_the_order_it_was_added() {
        let mut table = CompactTable::default();
        let mut expected: HashMap<u64, Vec<u32>> = HashMap::new();
        for n in 1..=200_000 {
            let key = hash(n % 70_000);
            table.insert(key, NonZeroU32::new(n).unwrap());
            expected.entry(key).or_default().push(n);
        }
        for (key, values) in expected {
            assert_eq!(table.values(key).map(NonZeroU32::get).collect::<Vec<_>>(), values);
        }
        assert_eq!(table.values(hash(1_000_000)).count(), 0);
    }

    #[test]
    fn an_entry_takes_less_than_twelve_bytes_while_the_table_grows() {
        let mut table = CompactTable::default();
        for n in 1..=1_000_000u32 {
            table.insert(hash(n), NonZeroU32::new(n).unwrap());
            if n % 50_000 == 0 {
                let bytes: usize = table.parts.iter().map(|part| size_of_val(&*part.slots)).sum();
                assert!(bytes < 12 * n as usize, "{bytes} bytes for {n}");
            }
        }
    }
}
