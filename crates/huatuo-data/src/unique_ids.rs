//! Ids that tell each record from the others, in a few bytes a record.

use std::num::NonZeroU32;

use xxhash_rust::xxh3::xxh3_64;

use crate::compact_table::CompactTable;

/// The ids given so far, as hashes of 63 bits: two ids of one hash make a number after the second, nothing worse.
#[derive(Debug, Default)]
pub(crate) struct UniqueIds {
    seen: CompactTable,
}

impl UniqueIds {
    /// The id itself the first time, then `id#2`, `id#3` and so on.
    pub(crate) fn unique(&mut self, id: String) -> String {
        if self.insert(&id) {
            return id;
        }
        let copy = |number: u32| format!("{id}#{number}");
        // Numbers are given in order, so the first free one is found by doubling and halving, not one by one.
        let (mut taken, mut free) = (1, 2);
        while self.contains(&copy(free)) {
            (taken, free) = (free, free.saturating_mul(2));
        }
        while free - taken > 1 {
            let middle = taken + (free - taken) / 2;
            if self.contains(&copy(middle)) { taken = middle } else { free = middle }
        }
        let id = copy(free);
        self.insert(&id);
        id
    }

    fn contains(&self, id: &str) -> bool {
        let (hash, low) = hash(id);
        self.seen.values(hash).any(|value| value == low)
    }

    fn insert(&mut self, id: &str) -> bool {
        let new = !self.contains(id);
        if new {
            let (hash, low) = hash(id);
            self.seen.insert(hash, low);
        }
        new
    }
}

/// The hash and its low half as a value, for the table keeps the high half.
fn hash(id: &str) -> (u64, NonZeroU32) {
    let hash = xxh3_64(id.as_bytes());
    (hash, NonZeroU32::MIN | hash as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_id_is_numbered_from_two() {
        let mut ids = UniqueIds::default();
        let given: Vec<_> = ["a", "b", "a", "a", "a#2", "a"].iter().map(|id| ids.unique((*id).to_owned())).collect();
        assert_eq!(given, ["a", "b", "a#2", "a#3", "a#2#2", "a#4"]);
    }

    #[test]
    fn a_hundred_thousand_records_of_one_id_get_the_numbers_in_order() {
        let mut ids = UniqueIds::default();
        let last = (0..100_000).map(|_| ids.unique("x".to_owned())).last().unwrap();
        assert_eq!(last, "x#100000");
    }
}
