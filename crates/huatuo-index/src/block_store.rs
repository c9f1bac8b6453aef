//! Blocks kept on the device between visits, as they came over the network.
//!
//! Two files take turns: the younger one is appended to, and when it has its share of the room the older one is emptied and becomes the
//! younger. What is used of the older one is appended anew, so what nobody asks for goes first. An entry is written whole
//! or found out: each begins with a checksummed head, and a block has its own checksum, which is compared whenever it is used.

use std::collections::HashMap;
use std::io;

use huatuo_fetch::{KeptFile, xxh3_64};

/// What each file begins with, before its generation.
const MAGIC: [u8; 8] = *b"HTBLOCK1";
/// Magic and generation.
const FILE_HEAD_BYTES: u64 = 16;
/// Key, length and checksum of both.
const ENTRY_HEAD_BYTES: usize = 36;
/// Bytes between two blocks that are read in vain.
const WASTED_BYTES: u64 = 16 << 10;
/// Bytes read at once while a file is gone through.
const READ_BYTES: usize = 1 << 20;

/// Names a block whatever the version of the index: its pack by content, and where it begins there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    /// Hash of the pack's content, which is its name.
    pub pack: u128,
    pub offset: u64,
    pub length: u32,
}

/// What a store holds, and whether it still takes more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreState {
    /// Bytes on the device.
    pub bytes: u64,
    /// Whether the device has refused room: what is stored is used, and nothing is added.
    pub full: bool,
}

/// Blocks of an index on this device.
#[derive(Debug)]
pub struct BlockStore {
    young: Log,
    old: Log,
    limit_bytes: u64,
    full: bool,
}

impl BlockStore {
    /// Takes up what two files hold, or begins them; they must be of this store alone and hold `limit_bytes` together at most, one
    /// more batch of blocks aside.
    ///
    /// # Errors
    /// Those of the files.
    pub fn open(files: [KeptFile; 2], limit_bytes: u64) -> io::Result<Self> {
        let [a, b] = files;
        let (a, b) = (Log::open(a)?, Log::open(b)?);
        let (young, old) = if a.generation >= b.generation { (a, b) } else { (b, a) };
        Ok(Self { young, old, limit_bytes, full: false })
    }

    /// What it holds.
    pub fn state(&self) -> StoreState {
        StoreState { bytes: self.young.end + self.old.end, full: self.full }
    }

    /// Removes all that is stored.
    ///
    /// # Errors
    /// Those of the files.
    pub fn clear(&mut self) -> io::Result<()> {
        self.young.begin(self.young.generation + 1)?;
        self.old.begin(0)?;
        self.full = false;
        Ok(())
    }

    /// Some blocks, as they were put; nothing for those that are not here.
    pub(crate) fn get(&mut self, keys: &[BlockKey]) -> Vec<Option<Vec<u8>>> {
        let mut found = self.young.get(keys);
        let missing = keys.iter().enumerate().filter(|(position, _)| found[*position].is_none());
        let (positions, missing): (Vec<usize>, Vec<BlockKey>) = missing.map(|(at, key)| (at, *key)).unzip();
        let mut aged = Vec::new();
        for ((position, key), bytes) in positions.into_iter().zip(&missing).zip(self.old.get(&missing)) {
            aged.extend(bytes.clone().map(|bytes| (*key, bytes)));
            found[position] = bytes;
        }
        self.put(&aged);
        found
    }

    /// Keeps some blocks; where there is no room they are not kept.
    pub(crate) fn put(&mut self, blocks: &[(BlockKey, Vec<u8>)]) {
        let blocks: Vec<_> = blocks.iter().filter(|(key, _)| !self.young.places.contains_key(key)).collect();
        if blocks.is_empty() || self.full {
            return;
        }
        let bytes: u64 = blocks.iter().map(|(_, bytes)| (ENTRY_HEAD_BYTES + bytes.len()) as u64).sum();
        let turn = self.young.end + bytes > self.limit_bytes / 2 && self.young.end > FILE_HEAD_BYTES;
        let written = if turn { self.take_turns() } else { Ok(()) };
        self.full = written.and_then(|()| self.young.append(&blocks)).is_err();
    }

    fn take_turns(&mut self) -> io::Result<()> {
        self.old.begin(self.young.generation + 1)?;
        std::mem::swap(&mut self.young, &mut self.old);
        Ok(())
    }

    /// Forgets a block that turned out to be damaged.
    pub(crate) fn forget(&mut self, key: &BlockKey) {
        self.young.places.remove(key);
        self.old.places.remove(key);
    }
}

/// One of the two files.
#[derive(Debug)]
struct Log {
    file: KeptFile,
    generation: u64,
    /// Where the next entry goes.
    end: u64,
    /// Where each block's bytes begin.
    places: HashMap<BlockKey, u64>,
}

impl Log {
    fn open(file: KeptFile) -> io::Result<Self> {
        let mut log = Self { file, generation: 0, end: 0, places: HashMap::new() };
        let mut head = [0; FILE_HEAD_BYTES as usize];
        match log.file.read(0, &mut head) {
            Ok(()) if head[..8] == MAGIC => {
                log.generation = head[8..].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
                log.end = FILE_HEAD_BYTES;
                log.take_up()?;
            }
            // Empty, cut off, or of another version of this program.
            _ => log.begin(0)?,
        }
        Ok(log)
    }

    /// Goes through the entries, up to the first that was not written whole.
    fn take_up(&mut self) -> io::Result<()> {
        let size = self.file.size()?;
        let (mut buffer, mut first) = (Vec::new(), self.end);
        loop {
            let mut at = (self.end - first) as usize;
            if buffer.len() < at + ENTRY_HEAD_BYTES {
                let length = size.saturating_sub(self.end).min(READ_BYTES as u64) as usize;
                if length < ENTRY_HEAD_BYTES {
                    return Ok(());
                }
                buffer.resize(length, 0);
                self.file.read(self.end, &mut buffer)?;
                (first, at) = (self.end, 0);
            }
            let Some(key) = parse_head(&buffer[at..at + ENTRY_HEAD_BYTES]) else { return Ok(()) };
            let begin = self.end + ENTRY_HEAD_BYTES as u64;
            let end = begin + u64::from(key.length);
            if end > size {
                return Ok(());
            }
            self.places.insert(key, begin);
            self.end = end;
        }
    }

    /// Empties the file and begins it anew.
    fn begin(&mut self, generation: u64) -> io::Result<()> {
        self.places.clear();
        self.file.truncate(0)?;
        self.file.write(0, &[MAGIC, generation.to_le_bytes()].concat())?;
        (self.generation, self.end) = (generation, FILE_HEAD_BYTES);
        Ok(())
    }

    /// Some blocks; what lies close together is read at once, because each read costs a browser more than its bytes.
    fn get(&mut self, keys: &[BlockKey]) -> Vec<Option<Vec<u8>>> {
        let mut found: Vec<Option<Vec<u8>>> = keys.iter().map(|_| None).collect();
        let here = keys.iter().enumerate().filter_map(|(position, key)| Some((*self.places.get(key)?, position)));
        let mut places: Vec<(u64, usize)> = here.collect();
        places.sort_unstable();
        let end = |(begin, position): &(u64, usize)| begin + u64::from(keys[*position].length);
        for run in places.chunk_by(|a, b| b.0 <= end(a) + WASTED_BYTES) {
            let first = run[0].0;
            let last = run.iter().map(end).max().unwrap_or(first);
            let mut bytes = vec![0; (last - first) as usize];
            if self.file.read(first, &mut bytes).is_ok() {
                for place in run {
                    let own = (place.0 - first) as usize..(end(place) - first) as usize;
                    found[place.1] = Some(bytes[own].to_vec());
                }
            }
        }
        found
    }

    fn append(&mut self, blocks: &[&(BlockKey, Vec<u8>)]) -> io::Result<()> {
        let (mut written, mut places) = (Vec::new(), Vec::new());
        for (key, bytes) in blocks {
            written.extend(head(key));
            places.push((*key, self.end + written.len() as u64));
            written.extend_from_slice(bytes);
        }
        self.file.write(self.end, &written)?;
        self.end += written.len() as u64;
        self.places.extend(places);
        Ok(())
    }
}

fn head(key: &BlockKey) -> Vec<u8> {
    let head = [&key.pack.to_le_bytes()[..], &key.offset.to_le_bytes(), &key.length.to_le_bytes()].concat();
    let checksum = xxh3_64(&head).to_le_bytes();
    [head, checksum.to_vec()].concat()
}

fn parse_head(bytes: &[u8]) -> Option<BlockKey> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u128, |value, byte| value << 8 | u128::from(*byte));
    let (key, checksum) = bytes.split_at_checked(ENTRY_HEAD_BYTES - 8)?;
    if xxh3_64(key).to_le_bytes()[..] != *checksum {
        return None;
    }
    let (pack, offset, length) = (number(&key[..16]), number(&key[16..24]) as u64, number(&key[24..]) as u32);
    Some(BlockKey { pack, offset, length })
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 4096;

    fn open(folder: &Path) -> BlockStore {
        let file = |name| KeptFile::open(&folder.join(name)).unwrap();
        BlockStore::open([file("a"), file("b")], LIMIT).unwrap()
    }

    fn block(number: u64) -> (BlockKey, Vec<u8>) {
        let bytes = vec![number as u8; 100 + number as usize % 7];
        (BlockKey { pack: 7, offset: number, length: bytes.len() as u32 }, bytes)
    }

    #[test]
    fn what_was_put_is_there_at_the_next_visit() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        store.put(&[block(1), block(2)]);
        store.put(&[block(3)]);
        drop(store);
        let mut store = open(folder.path());
        let keys = [block(3).0, block(9).0, block(1).0];
        assert_eq!(store.get(&keys), [Some(block(3).1), None, Some(block(1).1)]);
        store.clear().unwrap();
        assert_eq!(store.get(&keys), [None, None, None]);
        assert_eq!(open(folder.path()).get(&keys), [None, None, None]);
    }

    #[test]
    fn room_is_bounded_and_what_is_used_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        for number in 0..1000 {
            store.put(&[block(number)]);
            assert_eq!(store.get(&[block(0).0]), [Some(block(0).1)], "after {number}");
            assert!(store.state().bytes <= LIMIT + 200, "{:?}", store.state());
        }
        assert_eq!(store.get(&[block(500).0]), [None]);
        assert_eq!(open(folder.path()).get(&[block(999).0, block(0).0]), [Some(block(999).1), Some(block(0).1)]);
    }

    #[test]
    fn an_entry_that_was_cut_off_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        store.put(&[block(1), block(2)]);
        let path = [folder.path().join("a"), folder.path().join("b")]
            .into_iter()
            .max_by_key(|path| std::fs::metadata(path).unwrap().len());
        let (path, size) = (path.unwrap(), store.young.end);
        drop(store);
        std::fs::File::options().write(true).open(path).unwrap().set_len(size - 3).unwrap();
        let mut store = open(folder.path());
        assert_eq!(store.get(&[block(1).0, block(2).0]), [Some(block(1).1), None]);
        store.put(&[block(3)]);
        assert_eq!(open(folder.path()).get(&[block(1).0, block(3).0]), [Some(block(1).1), Some(block(3).1)]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn without_room_nothing_is_added_and_nothing_fails() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        store.put(&[block(1)]);
        store.young.file = KeptFile::open(Path::new("/dev/full")).unwrap();
        store.put(&[block(2)]);
        assert!(store.state().full);
        assert_eq!(store.get(&[block(2).0]), [None]);
    }

    proptest! {
        #[test]
        fn any_file_is_taken_up(content: Vec<u8>, magic: bool) {
            let folder = tempfile::tempdir().unwrap();
            let start: &[u8] = if magic { &MAGIC } else { &[] };
            std::fs::write(folder.path().join("a"), [start, &content].concat()).unwrap();
            let mut store = open(folder.path());
            store.put(&[block(1)]);
            prop_assert_eq!(store.get(&[block(1).0]), [Some(block(1).1)]);
        }
    }
}
