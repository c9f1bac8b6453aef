//! An open index: gives records, and the blocks that walks ask for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::future::{join, try_join_all};
use huatuo_fetch::Source;
use huatuo_fetch::clock::now_ms;

use crate::cache::BlockCache;
use crate::cell::{self, Cell};
use crate::error::Malformed;
use crate::origin::Origin;
use crate::root::Root;
use crate::segment::{Place, Segment};
use crate::{
    BlockAt, BlockStore, IndexError, Kind, Location, Manifest, Record, SegmentEntry, Statistics, StoreState, block,
    texts, tombstones,
};

/// Bytes of decoded blocks kept in memory unless the caller says otherwise.
pub const DEFAULT_CACHE_BYTES: usize = 64 << 20;

/// An open index. Searches may run at the same time; they share the block cache.
#[derive(Debug)]
pub struct Index {
    pub(crate) origin: Origin,
    manifest: Manifest,
    pub(crate) segments: Vec<Segment>,
    cache: Mutex<BlockCache>,
    /// Of each segment. Kept apart from the cache, because every block of texts may need it.
    dictionaries: Vec<OnceLock<Arc<Vec<u8>>>>,
    opening: Statistics,
}

impl Index {
    /// Opens an index in two dependent trips: the manifest, then the roots.
    ///
    /// # Errors
    /// [`IndexError::Fetch`] when bytes can't be had, [`IndexError::Manifest`] or
    /// [`IndexError::UnsupportedVersion`] for the manifest, and those of a damaged block for a root.
    pub async fn open(source: Source) -> Result<Self, IndexError> {
        Self::open_with_cache(source, DEFAULT_CACHE_BYTES).await
    }

    /// Opens an index that keeps at most `cache_bytes` of decoded blocks; 0 keeps none.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub async fn open_with_cache(source: Source, cache_bytes: usize) -> Result<Self, IndexError> {
        Self::open_with_store(source, cache_bytes, None).await
    }

    /// As [`Index::open_with_cache`]; blocks are kept in a store as well, and taken from it at the next visit. Only the manifest is
    /// read every time.
    ///
    /// # Errors
    /// As [`Index::open`]; a store that fails is none.
    pub async fn open_with_store(
        source: Source,
        cache_bytes: usize,
        store: Option<BlockStore>,
    ) -> Result<Self, IndexError> {
        let start = now_ms();
        let (manifest, manifest_bytes) = Manifest::fetch(&source).await?;
        let origin = Origin::new(source, store);
        let mut first = 0;
        let numbered = manifest.segments.iter().zip(0u16..).map(|(entry, number)| {
            let first_row = first;
            first += entry.records;
            open_segment(&origin, (number, first_row), entry.clone(), manifest.dimensions)
        });
        let opened = try_join_all(numbered.collect::<Vec<_>>()).await?;
        let mut opening = Statistics { bytes: manifest_bytes as u64, requests: 1, ..Statistics::default() };
        let mut segments = Vec::with_capacity(opened.len());
        for (segment, cost) in opened {
            opening += cost;
            segments.push(segment);
        }
        opening.trips = 1 + u64::from(opening.requests > 1);
        opening.fetch_ms = now_ms() - start;
        let cache = Mutex::new(BlockCache::new(cache_bytes));
        let dictionaries = segments.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { origin, manifest, segments, cache, dictionaries, opening })
    }

    /// What is kept on this device; nothing without a store.
    pub fn store_state(&self) -> Option<StoreState> {
        self.origin.state()
    }

    /// Removes what is kept on this device; what is in memory stays.
    ///
    /// # Errors
    /// Those of the files.
    pub fn clear_store(&self) -> std::io::Result<()> {
        self.origin.clear()
    }

    /// The manifest that was opened.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What opening cost; checking and decoding the roots counts as fetching.
    pub fn opening(&self) -> Statistics {
        self.opening
    }

    /// Number of records that can be found: those of all segments without the deleted ones.
    pub fn live_records(&self) -> u32 {
        self.segments.iter().map(|segment| segment.root.records - segment.deleted.len() as u32).sum()
    }

    /// Bytes that an open index holds in memory beside its block cache.
    pub fn resident_bytes(&self) -> u64 {
        let packs: usize = self.manifest.packs().map(|pack| pack.name.len() + size_of_val(pack)).sum();
        let dictionaries: usize = self.dictionaries.iter().filter_map(OnceLock::get).map(|bytes| bytes.len()).sum();
        // The manifest and each segment hold the names of packs.
        (2 * packs + dictionaries + self.segments.iter().map(Segment::resident_bytes).sum::<usize>()) as u64
    }

    /// Bytes of what the roots know of, by kind.
    pub fn sizes(&self) -> Vec<(&'static str, u64)> {
        let sum = |spans: &mut dyn Iterator<Item = u32>| spans.map(u64::from).sum::<u64>();
        let roots = || self.segments.iter().map(|segment| &segment.root);
        let cells = sum(&mut roots().flat_map(|root| &root.cells).map(|(span, _)| span.length));
        let nodes = sum(&mut roots().flat_map(|root| &root.nodes).map(|span| span.length));
        let shards = sum(&mut roots().flat_map(|root| &root.shards).map(|span| span.length));
        let dictionaries = sum(&mut roots().flat_map(|root| &root.dictionary).map(|span| span.length));
        let located =
            self.manifest.segments.iter().flat_map(|segment| std::iter::once(&segment.root).chain(&segment.tombstones));
        let located = sum(&mut located.map(|location| location.length));
        let all: u64 = self.manifest.packs().map(|pack| pack.bytes).sum();
        let rest = all.saturating_sub(cells + nodes + shards + dictionaries + located);
        vec![
            ("cells", cells),
            ("nodes", nodes),
            ("shards", shards),
            ("dictionaries", dictionaries),
            ("roots", located),
            ("lists, texts, tails", rest),
        ]
    }

    /// The records of some rows, in the order asked for: one trip for the texts, and one before it where a row's cell is not in
    /// memory, as it is after a search.
    ///
    /// # Errors
    /// [`IndexError::NoSuchRow`], for deleted rows too; [`IndexError::VersionMix`] when a pack is gone; those of a damaged block.
    pub async fn records(&self, rows: &[u32]) -> Result<(Vec<Record>, Statistics), IndexError> {
        let mut statistics = Statistics::default();
        let places = self.text_places(rows, &mut statistics).await?;
        let records = self.records_at(rows, &places, &mut statistics).await?;
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
        let mut statistics = Statistics::default();
        let places = self.text_places(rows, &mut statistics).await?;
        let Some(first) = rows.first().map(|row| places[row]) else { return Ok((Vec::new(), statistics)) };
        let (near, far): (Vec<u32>, Vec<u32>) = rows.iter().partition(|row| places[row] == first);
        let (mut of_first, mut of_others) = (Statistics::default(), Statistics::default());
        let first_block = async {
            let found = self.records_at(&near, &places, &mut of_first).await?;
            on_first(&found[0]).await;
            Ok::<_, IndexError>(found)
        };
        // The others are asked for first: `on_first` may compute long before it lets anything else run.
        let (others, found) = join(self.records_at(&far, &places, &mut of_others), first_block).await;
        let (mut found, mut others) = (found?.into_iter(), others?.into_iter());
        let trips = of_first.trips.max(of_others.trips); // both ran together
        of_first += of_others;
        of_first.trips = trips;
        statistics += of_first;
        let in_order = rows.iter().filter_map(|row| if places[row] == first { found.next() } else { others.next() });
        Ok((in_order.collect(), statistics))
    }

    /// Fetches what the first block of texts will need, unless it is here, so that it can come beside a search.
    ///
    /// # Errors
    /// Those of a damaged block.
    pub async fn prepare_texts(&self) -> Result<Statistics, IndexError> {
        let mut statistics = Statistics::default();
        let missing = self.segments.iter().zip(&self.dictionaries).filter(|(_, here)| here.get().is_none());
        let places: Vec<Place> = missing.filter_map(|(segment, _)| segment.dictionary()).collect();
        self.blocks(&places, &mut statistics).await?;
        Ok(statistics)
    }

    /// The segment that has a row, and the row within it.
    pub(crate) fn segment_of(&self, row: u32) -> Result<(&Segment, u32), IndexError> {
        let missing = IndexError::NoSuchRow { row, records: self.manifest.records };
        let after = self.segments.partition_point(|segment| segment.first_row <= row);
        // Segments without records begin where the next one does, so the last that begins is the one.
        let segment = self.segments[..after].last().ok_or_else(|| missing.clone())?;
        let own = row - segment.first_row;
        if own < segment.entry.records && !segment.deleted.contains(&own) { Ok((segment, own)) } else { Err(missing) }
    }

    /// Where the texts of some rows lie.
    async fn text_places(&self, rows: &[u32], statistics: &mut Statistics) -> Result<HashMap<u32, Place>, IndexError> {
        let distinct: Vec<u32> = rows.iter().copied().collect::<HashSet<_>>().into_iter().collect();
        let cells = distinct.iter().map(|row| self.segment_of(*row).map(|(segment, own)| segment.cell(own)));
        let cells: Vec<Place> = cells.collect::<Result<_, _>>()?;
        let payloads = self.blocks(&cells, statistics).await?;
        let place = |((row, cell), payload): ((u32, &Place), &Arc<Vec<u8>>)| {
            let segment = &self.segments[usize::from(cell.segment)];
            let text = Cell::parse(payload, segment.dimensions).map(|cell| cell.text);
            let place = text
                .and_then(|text| segment.told(Kind::TEXTS, u32::from(text.pack), u64::from(text.offset), text.length));
            Ok((row, place.map_err(|rule| segment.at(cell).corrupt(rule))?))
        };
        distinct.into_iter().zip(&cells).zip(&payloads).map(place).collect()
    }

    /// Where the texts of those rows lie whose cells are in memory.
    pub(crate) fn known_text_places(&self, rows: &[u32]) -> Vec<Place> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |row: &u32| {
            let (segment, own) = self.segment_of(*row).ok()?;
            let text = Cell::parse(&cache.get(&segment.cell(own))?, segment.dimensions).ok()?.text;
            segment.told(Kind::TEXTS, u32::from(text.pack), u64::from(text.offset), text.length).ok()
        };
        let places: HashSet<Place> = rows.iter().filter_map(place).collect();
        places.into_iter().collect()
    }

    async fn records_at(
        &self,
        rows: &[u32],
        places: &HashMap<u32, Place>,
        statistics: &mut Statistics,
    ) -> Result<Vec<Record>, IndexError> {
        // One entry a block, in an order of its own, however many rows share it.
        let wanted: BTreeMap<_, Place> = rows
            .iter()
            .map(|row| places[row])
            .map(|place| ((place.segment, place.pack, place.offset, place.length), place))
            .collect();
        let wanted: Vec<Place> = wanted.into_values().collect();
        let payloads = self.blocks(&wanted, statistics).await?;
        let start = now_ms();
        let mut blocks = HashMap::new();
        for (place, payload) in wanted.iter().zip(&payloads) {
            let parsed = texts::parse_block(payload).map_err(|rule| self.at(place).corrupt(rule))?;
            blocks.insert(*place, parsed);
        }
        let record = |row: &u32| {
            let (_, own) = self.segment_of(*row)?;
            let (first, records) = &blocks[&places[row]];
            let record = own.checked_sub(*first).and_then(|at| records.get(at as usize));
            record
                .cloned()
                .ok_or_else(|| self.at(&places[row]).corrupt(Malformed("it does not have the row that a cell says")))
        };
        let records = rows.iter().map(record).collect();
        statistics.decode_ms += now_ms() - start;
        records
    }

    /// Decoded payloads of some blocks, in order, if all of them are in memory.
    pub(crate) fn in_memory(&self, places: &[Place]) -> Option<Vec<Arc<Vec<u8>>>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        places.iter().map(|place| cache.get(place)).collect()
    }

    /// Decoded payloads of some blocks, in order. What is not in memory is read together, in one trip, with the dictionaries
    /// that texts need. One block's failure does not lose the others: they are kept.
    pub(crate) async fn blocks(
        &self,
        places: &[Place],
        statistics: &mut Statistics,
    ) -> Result<Vec<Arc<Vec<u8>>>, IndexError> {
        self.blocks_each(places, statistics).await.into_iter().collect()
    }

    /// The same, each for itself.
    pub(crate) async fn blocks_each(
        &self,
        places: &[Place],
        statistics: &mut Statistics,
    ) -> Vec<Result<Arc<Vec<u8>>, IndexError>> {
        let cached: Vec<_> = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            places.iter().map(|place| cache.get(place)).collect()
        };
        let missing: Vec<&Place> =
            places.iter().zip(&cached).filter(|(_, cached)| cached.is_none()).map(|(place, _)| place).collect();
        if missing.is_empty() {
            return cached.into_iter().flatten().map(Ok).collect();
        }
        let dictionaries = self.missing_dictionaries(missing.iter().copied());
        let reading: Vec<Place> = dictionaries.iter().chain(missing).copied().collect();
        let read = self.origin.blocks(&self.segments, &reading, statistics).await;
        let start = now_ms();
        let mut decoded: Vec<_> =
            reading.iter().zip(read).map(|(place, bytes)| bytes.and_then(|bytes| self.decode(place, bytes))).collect();
        statistics.decode_ms += now_ms() - start;
        // Dictionaries come first, so they are there when texts are decoded; what keeps one from coming is what texts lack.
        let texts = decoded.split_off(dictionaries.len());
        let lacking = decoded.into_iter().find_map(Result::err);
        let mut decoded = reading[dictionaries.len()..].iter().zip(texts).map(|(place, decoded)| match &lacking {
            Some(error) if place.kind == Kind::TEXTS => Err(error.clone()),
            _ => decoded,
        });
        cached.into_iter().filter_map(|cached| cached.map(Ok).or_else(|| decoded.next())).collect()
    }

    fn missing_dictionaries<'a>(&self, places: impl Iterator<Item = &'a Place>) -> Vec<Place> {
        let segments: HashSet<u16> =
            places.filter(|place| place.kind == Kind::TEXTS).map(|place| place.segment).collect();
        let missing = segments.into_iter().filter(|number| self.dictionaries[usize::from(*number)].get().is_none());
        missing.filter_map(|number| self.segments[usize::from(number)].dictionary()).collect()
    }

    /// Checks what was fetched for a place and decodes it.
    fn decode(&self, place: &Place, bytes: Vec<u8>) -> Result<Arc<Vec<u8>>, IndexError> {
        let payload = match place.kind {
            Kind::CELLS => {
                cell::check(place.number, &bytes).map_err(|(expected, found)| IndexError::Checksum {
                    at: self.at(place),
                    expected,
                    found,
                })?;
                bytes
            }
            _ => {
                let dictionary =
                    self.dictionaries[usize::from(place.segment)].get().filter(|_| place.kind == Kind::TEXTS);
                block::open(&bytes, &self.at(place), dictionary.map(|payload| payload.as_slice()))?
            }
        };
        if place.kind == Kind::DICTIONARY {
            let kept = self.dictionaries[usize::from(place.segment)].get_or_init(|| Arc::new(payload));
            return Ok(kept.clone());
        }
        let payload = Arc::new(payload);
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(place, payload.clone());
        Ok(payload)
    }

    /// Names a place for an error.
    pub(crate) fn at(&self, place: &Place) -> BlockAt {
        self.segments[usize::from(place.segment)].at(place)
    }
}

/// Reads and checks a segment's root and its tombstones, side by side; gives what that cost as well.
async fn open_segment(
    origin: &Origin,
    (number, first_row): (u16, u32),
    entry: SegmentEntry,
    dimensions: usize,
) -> Result<(Segment, Statistics), IndexError> {
    let (mut cost, mut of_tombstones) = (Statistics::default(), Statistics::default());
    let root = read_located(origin, &entry, Kind::ROOT, Some(entry.root), &mut cost);
    let deleted = read_located(origin, &entry, Kind::TOMBSTONES, entry.tombstones, &mut of_tombstones);
    let (root, deleted) = join(root, deleted).await;
    cost += of_tombstones;
    let (root, at) = root?.ok_or_else(|| IndexError::Manifest { detail: "a segment has no root".to_owned() })?;
    let root = Root::decode(&root, dimensions).map_err(|rule| at.corrupt(rule))?;
    let deleted = match deleted? {
        Some((payload, at)) => tombstones::parse(&payload).map_err(|rule| at.corrupt(rule))?,
        None => HashSet::new(),
    };
    let segment = Segment::new((number, first_row), entry, root, dimensions, deleted).map_err(|rule| at.corrupt(rule));
    Ok((segment?, cost))
}

/// Reads a block that the manifest names.
async fn read_located(
    origin: &Origin,
    entry: &SegmentEntry,
    kind: Kind,
    location: Option<Location>,
    statistics: &mut Statistics,
) -> Result<Option<(Vec<u8>, BlockAt)>, IndexError> {
    let Some(Location { pack, offset, length }) = location else { return Ok(None) };
    let at = BlockAt { pack: entry.packs[pack as usize].name.clone(), offset, kind };
    let bytes = origin.block(&at, length, statistics).await?;
    Ok(Some((block::open(&bytes, &at, None)?, at)))
}
