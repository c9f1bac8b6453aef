//! An open index: fetches, checks and keeps blocks, and gives records.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::future::{join, join_all};
use huatuo_fetch::clock::now_ms;
use huatuo_fetch::{FetchError, Source};

use crate::cache::BlockCache;
use crate::directory::Directory;
use crate::error::Malformed;
use crate::root::{Entry, Root};
use crate::{BlockAt, IndexError, Kind, Manifest, Record, Statistics, block, texts};

/// Bytes of decoded blocks kept in memory unless the caller says otherwise.
pub const DEFAULT_CACHE_BYTES: usize = 64 << 20;

/// An open index. Searches may run at the same time; they share the block cache.
#[derive(Debug)]
pub struct Index {
    source: Source,
    manifest: Manifest,
    pub(crate) directory: Directory,
    cache: Mutex<BlockCache>,
    /// Kept apart from the cache, because every block of texts may need it.
    dictionary: OnceLock<Arc<Vec<u8>>>,
    opening: Statistics,
}

impl Index {
    /// Opens an index in two dependent trips: the manifest, then the root.
    ///
    /// # Errors
    /// [`IndexError::Fetch`] when bytes can't be had, [`IndexError::Manifest`] or
    /// [`IndexError::UnsupportedVersion`] for the manifest, and those of a damaged block for the root.
    pub async fn open(source: Source) -> Result<Self, IndexError> {
        Self::open_with_cache(source, DEFAULT_CACHE_BYTES).await
    }

    /// Opens an index that keeps at most `cache_bytes` of decoded blocks; 0 keeps none.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub async fn open_with_cache(source: Source, cache_bytes: usize) -> Result<Self, IndexError> {
        let start = now_ms();
        let (manifest, manifest_bytes) = Manifest::fetch(&source).await?;
        let (root, at) = fetch_root(&source, &manifest).await?;
        let directory = Directory::new(root, &manifest).map_err(|rule| at.corrupt(rule))?;
        let opening = Statistics {
            bytes: manifest_bytes as u64 + u64::from(manifest.root.length),
            requests: 2,
            trips: 2,
            fetch_ms: now_ms() - start,
            ..Statistics::default()
        };
        let cache = Mutex::new(BlockCache::new(cache_bytes));
        Ok(Self { source, manifest, directory, cache, dictionary: OnceLock::new(), opening })
    }

    /// The manifest that was opened.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What opening cost; checking and decoding the root counts as fetching.
    pub fn opening(&self) -> Statistics {
        self.opening
    }

    /// The records of some rows, in the order asked for, in one trip for the blocks that are not in memory.
    ///
    /// # Errors
    /// [`IndexError::NoSuchRow`]; [`IndexError::VersionMix`] when a pack is gone; those of a damaged block.
    pub async fn records(&self, rows: &[u32]) -> Result<(Vec<Record>, Statistics), IndexError> {
        let mut statistics = Statistics::default();
        // One entry a block, in the order of rows, however many rows share it.
        let mut wanted = BTreeMap::new();
        for &row in rows {
            let missing = IndexError::NoSuchRow { row, records: self.directory.corpus.records };
            let entry = self.directory.text_of(row).ok_or(missing)?;
            wanted.insert(entry.first, entry);
        }
        let entries: Vec<Entry> = wanted.into_values().collect();
        let payloads = self.blocks(&entries, &mut statistics).await?;
        let start = now_ms();
        let mut blocks = Vec::with_capacity(entries.len());
        for (entry, payload) in entries.iter().zip(&payloads) {
            let parsed = texts::parse_block(payload).and_then(|(first, records)| {
                check_rows(entry, first, records.len())?;
                Ok(records)
            });
            blocks.push((entry.first, parsed.map_err(|rule| self.at(entry).corrupt(rule))?));
        }
        let record = |row: u32| {
            let (first, records) = &blocks[blocks.partition_point(|(first, _)| *first <= row) - 1];
            records[(row - first) as usize].clone()
        };
        let records = rows.iter().map(|row| record(*row)).collect();
        statistics.decode_ms += now_ms() - start;
        Ok((records, statistics))
    }

    /// The records of some rows as [`Index::records`] gives them. `on_first` runs with the first one as soon as its
    /// block is here, while the others are still on their way.
    ///
    /// # Errors
    /// As [`Index::records`].
    pub async fn records_first(
        &self,
        rows: &[u32],
        on_first: impl AsyncFnOnce(&Record),
    ) -> Result<(Vec<Record>, Statistics), IndexError> {
        let block_of = |row: u32| self.directory.text_of(row).map(|entry| entry.first);
        let Some(&first) = rows.first() else { return Ok((Vec::new(), Statistics::default())) };
        let (near, far): (Vec<u32>, Vec<u32>) = rows.iter().partition(|row| block_of(**row) == block_of(first));
        let first_block = async {
            let found = self.records(&near).await?;
            on_first(&found.0[0]).await;
            Ok::<_, IndexError>(found)
        };
        // The others are asked for first: `on_first` may compute long before it lets anything else run.
        let (others, found) = join(self.records(&far), first_block).await;
        let ((near_records, mut statistics), (far_records, of_others)) = (found?, others?);
        let trips = statistics.trips.max(of_others.trips); // both ran together
        statistics += of_others;
        statistics.trips = trips;
        let (mut near_records, mut far_records) = (near_records.into_iter(), far_records.into_iter());
        let in_order = rows.iter().filter_map(|row| match block_of(*row) == block_of(first) {
            true => near_records.next(),
            false => far_records.next(),
        });
        Ok((in_order.collect(), statistics))
    }

    /// Fetches what the first block of texts will need, unless it is here, so that it can come beside a search.
    ///
    /// # Errors
    /// Those of a damaged block.
    pub async fn prepare_texts(&self) -> Result<Statistics, IndexError> {
        let mut statistics = Statistics::default();
        if let Some(entry) = self.directory.dictionary.filter(|_| self.dictionary.get().is_none()) {
            for bytes in self.fetch(&[entry], &mut statistics).await {
                self.keep_dictionary(&entry, &bytes?)?;
            }
        }
        Ok(statistics)
    }

    fn keep_dictionary(&self, entry: &Entry, bytes: &[u8]) -> Result<(), IndexError> {
        let payload = block::open(bytes, &self.at(entry), None)?;
        self.dictionary.get_or_init(|| Arc::new(payload));
        Ok(())
    }

    /// Decoded payloads of some distinct blocks, in order. What is not in memory is fetched together, in one trip,
    /// with the dictionary where texts need it. One block's failure does not lose the others: they are kept.
    pub(crate) async fn blocks(
        &self,
        entries: &[Entry],
        statistics: &mut Statistics,
    ) -> Result<Vec<Arc<Vec<u8>>>, IndexError> {
        let mut payloads: Vec<_> = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            entries.iter().map(|entry| cache.get(entry)).collect()
        };
        let missing: Vec<usize> = (0..entries.len()).filter(|position| payloads[*position].is_none()).collect();
        if missing.is_empty() {
            return Ok(payloads.into_iter().flatten().collect());
        }
        let needs_dictionary = missing.iter().any(|position| entries[*position].kind == Kind::TEXTS);
        let dictionary = self.directory.dictionary.filter(|_| needs_dictionary && self.dictionary.get().is_none());
        let fetching: Vec<Entry> = dictionary.into_iter().chain(missing.iter().map(|at| entries[*at])).collect();
        let mut fetched = self.fetch(&fetching, statistics).await.into_iter();

        let start = now_ms();
        if let (Some(entry), Some(bytes)) = (dictionary, dictionary.and_then(|_| fetched.next())) {
            self.keep_dictionary(&entry, &bytes?)?;
        }
        let mut failure = None;
        for (position, bytes) in missing.into_iter().zip(fetched) {
            match bytes.and_then(|bytes| self.decode(&entries[position], &bytes)) {
                Ok(payload) => payloads[position] = Some(payload),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        statistics.decode_ms += now_ms() - start;
        match failure {
            Some(error) => Err(error),
            None => Ok(payloads.into_iter().flatten().collect()),
        }
    }

    /// Reads blocks together.
    async fn fetch(&self, entries: &[Entry], statistics: &mut Statistics) -> Vec<Result<Vec<u8>, IndexError>> {
        let start = now_ms();
        let fetched = join_all(entries.iter().map(|entry| read_block(&self.source, &self.manifest, *entry))).await;
        statistics.fetch_ms += now_ms() - start;
        statistics.trips += 1;
        statistics.requests += entries.len() as u64;
        statistics.bytes += fetched.iter().flatten().map(|bytes| bytes.len() as u64).sum::<u64>();
        fetched
    }

    fn decode(&self, entry: &Entry, bytes: &[u8]) -> Result<Arc<Vec<u8>>, IndexError> {
        let dictionary = self.dictionary.get().filter(|_| entry.kind == Kind::TEXTS);
        let payload = Arc::new(block::open(bytes, &self.at(entry), dictionary.map(|payload| payload.as_slice()))?);
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(entry, payload.clone());
        Ok(payload)
    }

    /// Names a block for an error.
    pub(crate) fn at(&self, entry: &Entry) -> BlockAt {
        block_at(&self.manifest, entry)
    }
}

/// Names a block for an error.
pub(crate) fn block_at(manifest: &Manifest, entry: &Entry) -> BlockAt {
    let pack = manifest.packs.get(entry.pack as usize).map(|pack| pack.name.clone()).unwrap_or_default();
    BlockAt { pack, offset: entry.offset, kind: entry.kind }
}

/// Requires that a block covers the rows that the directory says.
pub(crate) fn check_rows(entry: &Entry, first: u32, count: usize) -> Result<(), Malformed> {
    if first == entry.first && count == entry.count as usize {
        Ok(())
    } else {
        Err(Malformed("it covers other rows than the directory says"))
    }
}

/// Reads and decodes the root; the second trip of opening an index.
pub(crate) async fn fetch_root(source: &Source, manifest: &Manifest) -> Result<(Root, BlockAt), IndexError> {
    let entry = root_entry(manifest);
    let at = block_at(manifest, &entry);
    let bytes = read_block(source, manifest, entry).await?;
    let payload = block::open(&bytes, &at, None)?;
    let root = Root::decode(&payload).map_err(|rule| at.corrupt(rule))?;
    Ok((root, at))
}

/// The root as an entry of the directory that it can't be in.
pub(crate) fn root_entry(manifest: &Manifest) -> Entry {
    let root = manifest.root;
    Entry { kind: Kind::ROOT, pack: root.pack, offset: root.offset, length: root.length, first: 0, count: 0 }
}

async fn read_block(source: &Source, manifest: &Manifest, entry: Entry) -> Result<Vec<u8>, IndexError> {
    let at = block_at(manifest, &entry);
    let range = entry.offset..entry.offset + u64::from(entry.length);
    source.read(&at.pack, Some(range)).await.map_err(|error| match error {
        // A named pack that is gone means that the manifest was replaced and this one is stale.
        FetchError::NotFound { .. } => IndexError::VersionMix { pack: at.pack },
        FetchError::Truncated { expected, found, .. } => IndexError::Truncated { at, expected, found },
        other => IndexError::Fetch(other),
    })
}
