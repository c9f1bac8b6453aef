//! Where an index's bytes come from: the device, for blocks that are kept there, else the source.

use std::sync::{Mutex, MutexGuard, PoisonError};

use huatuo_fetch::clock::now_ms;
use huatuo_fetch::{Source, xxh3_64};

use crate::block_store::{BlockKey, BlockStore, StoreState};
use crate::fetching::{fetch, read_block};
use crate::manifest::PACK_SUFFIX;
use crate::segment::{Place, Segment};
use crate::{BlockAt, IndexError, Kind, Statistics, block, cell};

/// A source and perhaps a store before it.
#[derive(Debug)]
pub(crate) struct Origin {
    pub source: Source,
    store: Option<Mutex<BlockStore>>,
}

impl Origin {
    pub fn new(source: Source, store: Option<BlockStore>) -> Self {
        Self { source, store: store.map(Mutex::new) }
    }

    /// What is kept on the device; nothing without a store.
    pub fn state(&self) -> Option<StoreState> {
        Some(self.store()?.state())
    }

    /// Removes what is kept on the device.
    pub fn clear(&self) -> std::io::Result<()> {
        self.store().map_or(Ok(()), |mut store| store.clear())
    }

    /// Bytes of some places, in order: those that are kept and whole, and those read together from the source, which are kept then.
    pub async fn blocks(
        &self,
        segments: &[Segment],
        places: &[Place],
        statistics: &mut Statistics,
    ) -> Vec<Result<Vec<u8>, IndexError>> {
        if self.store.is_none() {
            return fetch(&self.source, segments, places, statistics).await;
        }
        let at = |place: &Place| segments[usize::from(place.segment)].at(place);
        let named: Vec<(BlockAt, u32, u32)> =
            places.iter().map(|place| (at(place), place.length, place.number)).collect();
        let start = now_ms();
        let kept = self.kept(&named);
        statistics.fetch_ms += now_ms() - start;
        let missing: Vec<Place> =
            places.iter().zip(&kept).filter(|(_, kept)| kept.is_none()).map(|(place, _)| *place).collect();
        statistics.stored_bytes += kept.iter().flatten().map(|bytes| bytes.len() as u64).sum::<u64>();
        if missing.is_empty() {
            return kept.into_iter().flatten().map(Ok).collect();
        }
        let fetched = fetch(&self.source, segments, &missing, statistics).await;
        let named = missing.iter().map(|place| (at(place), place.number));
        self.keep(named.zip(&fetched).filter_map(|(named, bytes)| Some((named, bytes.as_ref().ok()?))));
        let mut fetched = fetched.into_iter();
        kept.into_iter().filter_map(|bytes| bytes.map(Ok).or_else(|| fetched.next())).collect()
    }

    /// One block; what reading it cost is added where it was not kept.
    pub async fn block(&self, at: &BlockAt, length: u32, statistics: &mut Statistics) -> Result<Vec<u8>, IndexError> {
        if let Some(bytes) = self.kept(&[(at.clone(), length, 0)]).pop().flatten() {
            statistics.stored_bytes += u64::from(length);
            return Ok(bytes);
        }
        statistics.bytes += u64::from(length);
        statistics.requests += 1;
        let bytes = read_block(&self.source, at, u64::from(length)).await?;
        self.keep(std::iter::once(((at.clone(), 0), &bytes)));
        Ok(bytes)
    }

    fn store(&self) -> Option<MutexGuard<'_, BlockStore>> {
        Some(self.store.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the store has of some blocks, each given with its length and number, found whole.
    fn kept(&self, named: &[(BlockAt, u32, u32)]) -> Vec<Option<Vec<u8>>> {
        let Some(mut store) = self.store() else { return named.iter().map(|_| None).collect() };
        let keys: Vec<BlockKey> = named.iter().map(|(at, length, _)| key(at, *length)).collect();
        let mut found = store.get(&keys);
        for ((bytes, key), (at, _, number)) in found.iter_mut().zip(&keys).zip(named) {
            if bytes.as_ref().is_some_and(|bytes| !is_whole(at, *number, bytes)) {
                store.forget(key);
                *bytes = None;
            }
        }
        found
    }

    fn keep<'a>(&self, blocks: impl Iterator<Item = ((BlockAt, u32), &'a Vec<u8>)>) {
        let Some(mut store) = self.store() else { return };
        let whole = blocks.filter(|((at, number), bytes)| is_whole(at, *number, bytes));
        let blocks: Vec<_> = whole.map(|((at, _), bytes)| (key(&at, bytes.len() as u32), bytes.clone())).collect();
        store.put(&blocks);
    }
}

/// A pack's name is the hash of its content: under it there is the same forever.
fn key(at: &BlockAt, length: u32) -> BlockKey {
    let hash = at.pack.strip_suffix(PACK_SUFFIX).and_then(|name| u128::from_str_radix(name, 16).ok());
    BlockKey { pack: hash.unwrap_or_default(), offset: at.offset, length }
}

/// Whether bytes are what their own checksum says.
fn is_whole(at: &BlockAt, number: u32, bytes: &[u8]) -> bool {
    match at.kind {
        Kind::CELLS => cell::check(number, bytes).is_ok(),
        _ => block::split(bytes, at).is_ok_and(|(header, stored)| {
            stored.len() == header.stored_bytes as usize && xxh3_64(stored) == header.checksum
        }),
    }
}
