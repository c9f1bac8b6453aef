//! Checks a whole index: every byte against its hash, and every rule of the format.

use std::collections::{BTreeMap, HashMap};

use huatuo_fetch::{FetchError, Source};

use crate::cell::{self, Cell, cell_bytes};
use crate::error::Malformed;
use crate::format::HEADER_BYTES;
use crate::manifest::pack_name;
use crate::node::Node;
use crate::postings::{INLINE_POSTINGS, MAX_TAILS, Posting, Shard, TAIL_POSTINGS, parse_any_tail};
use crate::rabitq::QueryTable;
use crate::segment::{Place, Segment};
use crate::terms::shard_of;
use crate::{BlockAt, Index, IndexError, Kind, block, document_length, texts, tombstones};

/// What a sound index consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Packs.
    pub packs: u64,
    /// Bytes of all packs.
    pub bytes: u64,
    /// Blocks, roots included.
    pub blocks: u64,
    /// Records, deleted ones included.
    pub records: u64,
    /// Records that were deleted.
    pub deleted: u64,
    /// Lists.
    pub lists: u64,
    /// Entries of all lists: above the number of records by those that stand in two lists.
    pub entries: u64,
    /// Distinct terms, those of each segment counted by themselves.
    pub terms: u64,
    /// Postings of all terms.
    pub postings: u64,
}

/// Reads every pack whole and checks sizes, hashes, checksums and every rule of `SPEC.md`.
///
/// # Errors
/// The first thing found wrong: [`IndexError::Pack`] for a pack that is not what its name says,
/// [`IndexError::VersionMix`] for a missing one, and those of a damaged block.
pub async fn verify(source: Source) -> Result<Report, IndexError> {
    let index = Index::open_with_cache(source, 0).await?;
    let mut report = Report::default();
    for segment in &index.segments {
        let mut check = Check::new(segment, read_dictionary(&index, segment).await?);
        for number in 0..segment.entry.packs.len() {
            check.pack(number as u16, &read_pack(&index.origin.source, segment, number).await?, &mut report)?;
        }
        check.finish(&mut report)?;
    }
    Ok(report)
}

async fn read_pack(source: &Source, segment: &Segment, number: usize) -> Result<Vec<u8>, IndexError> {
    let pack = &segment.entry.packs[number];
    let bytes = source.read(&pack.name, None).await.map_err(|error| match error {
        FetchError::NotFound { .. } => IndexError::VersionMix { pack: pack.name.clone() },
        other => IndexError::Fetch(other),
    })?;
    let wrong = |detail: String| Err(IndexError::Pack { pack: pack.name.clone(), detail });
    if bytes.len() as u64 != pack.bytes {
        return wrong(format!("has {} bytes, the manifest says {}", bytes.len(), pack.bytes));
    }
    let name = pack_name(&bytes);
    if name != pack.name { wrong(format!("has content that belongs to {name}")) } else { Ok(bytes) }
}

async fn read_dictionary(index: &Index, segment: &Segment) -> Result<Option<Vec<u8>>, IndexError> {
    let Some(place) = segment.dictionary() else { return Ok(None) };
    let payloads = index.blocks(&[place], &mut crate::Statistics::default()).await?;
    Ok(payloads.into_iter().next().map(|payload| payload.to_vec()))
}

/// Where a block begins: pack and offset.
type Start = (u16, u64);

/// What was seen of a segment so far.
struct Check<'a> {
    segment: &'a Segment,
    dictionary: Option<Vec<u8>>,
    /// Kind and length of the blocks that something tells of.
    told: HashMap<Start, (Kind, u32)>,
    /// The same of the blocks there are.
    seen: BTreeMap<Start, (Kind, u32)>,
    /// Whether each row belongs to a list.
    listed: Vec<bool>,
    /// Rows of each block of texts, and the block that each row's cell names.
    texts: HashMap<Start, std::ops::Range<u32>>,
    text_of: Vec<Start>,
    /// Key, number and postings of each tail as a shard says, and as it is.
    told_tails: HashMap<Start, (u64, u32, u32)>,
    tails: HashMap<Start, (u64, u32, u32)>,
    /// Terms of each row, as its postings add up; its length byte as they say, and as its cell does.
    lengths: Vec<(u64, Option<u8>, u8)>,
    is_pruned: bool,
}

impl<'a> Check<'a> {
    fn new(segment: &'a Segment, dictionary: Option<Vec<u8>>) -> Self {
        let records = segment.entry.records as usize;
        let entry = &segment.entry;
        let located = [(Kind::ROOT, Some(entry.root)), (Kind::TOMBSTONES, entry.tombstones)];
        let located =
            located.iter().filter_map(|(kind, at)| at.map(|at| ((at.pack as u16, at.offset), (*kind, at.length))));
        let root = &segment.root;
        let nodes = (0..root.nodes.len() as u32).map(|number| segment.node(number));
        let shards = (0..root.shards.len() as u32).filter_map(|number| segment.shard(number));
        let cells =
            root.cells.iter().map(|(span, _)| ((span.pack, u64::from(span.offset)), (Kind::CELLS, span.length)));
        let places = nodes
            .chain(shards)
            .chain(segment.dictionary())
            .map(|place| ((place.pack, place.offset), (place.kind, place.length)));
        Self {
            segment,
            dictionary,
            told: located.chain(cells).chain(places).collect(),
            seen: BTreeMap::new(),
            listed: vec![false; records],
            texts: HashMap::new(),
            text_of: vec![(0, 0); records],
            told_tails: HashMap::new(),
            tails: HashMap::new(),
            lengths: vec![(0, None, 0); records],
            is_pruned: false,
        }
    }

    /// Walks the blocks of a pack; they must fill it.
    fn pack(&mut self, pack: u16, bytes: &[u8], report: &mut Report) -> Result<(), IndexError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = (bytes.len() - rest.len()) as u64;
            let mut place = Place { segment: 0, kind: Kind::ROOT, pack, offset, length: 0, number: 0 };
            let (header, payload) = block::split(rest, &self.segment.at(&place))?;
            place.kind = header.kind;
            let length = HEADER_BYTES + header.stored_bytes as usize;
            let Some((block, after)) = rest.split_at_checked(length) else {
                let (expected, found) = (u64::from(header.stored_bytes), payload.len() as u64);
                return Err(IndexError::Truncated { at: self.segment.at(&place), expected, found });
            };
            place.length = length as u32;
            self.block(&place, block, report)?;
            rest = after;
        }
        report.packs += 1;
        report.bytes += bytes.len() as u64;
        Ok(())
    }

    fn block(&mut self, place: &Place, bytes: &[u8], report: &mut Report) -> Result<(), IndexError> {
        let at = self.segment.at(place);
        let dictionary = self.dictionary.as_deref().filter(|_| place.kind == Kind::TEXTS);
        let payload = block::open(bytes, &at, dictionary)?;
        let start = (place.pack, place.offset);
        let checked = match place.kind {
            Kind::NODES => self.node(start, &payload, report),
            Kind::LISTS => self.list(&payload, report),
            Kind::CELLS => self.cells(start, &payload, &at)?,
            Kind::TERMS => self.terms(&payload, report),
            Kind::POSTINGS => self.tail(start, &payload, report),
            Kind::TEXTS => texts::parse_block(&payload).map(|(first, rows)| {
                self.texts.insert(start, first..first.saturating_add(rows.len() as u32));
            }),
            Kind::TOMBSTONES => tombstones::parse(&payload).map(|rows| report.deleted += rows.len() as u64),
            // The root and the dictionary were used to get here; of a later version's kinds only the checksum is known.
            _ => Ok(()),
        };
        checked.map_err(|rule| at.corrupt(rule))?;
        self.seen.insert(start, (place.kind, place.length));
        report.blocks += 1;
        Ok(())
    }

    fn tell(&mut self, start: Start, kind: Kind, length: u32) -> Result<(), Malformed> {
        self.segment.told(kind, u32::from(start.0), start.1, length)?;
        match self.told.insert(start, (kind, length)) {
            Some(other) if kind != Kind::TEXTS || other != (kind, length) => {
                Err(Malformed("it tells of a block that another one has"))
            }
            _ => Ok(()),
        }
    }

    fn node(&mut self, start: Start, payload: &[u8], report: &mut Report) -> Result<(), Malformed> {
        let node = Node::parse(payload, self.segment.rotation.code_bytes())?;
        let span = self.segment.root.nodes.get(node.number as usize);
        if span.is_none_or(|span| (span.pack, u64::from(span.offset)) != start) {
            return Err(Malformed("it is no node of the root"));
        }
        let pack = u16::try_from(node.pack).map_err(|_| Malformed("it tells of a block outside the packs"))?;
        node.lists.iter().try_for_each(|(_, offset, length)| self.tell((pack, *offset), Kind::LISTS, *length))?;
        report.lists += node.lists.len() as u64;
        Ok(())
    }

    fn list(&mut self, payload: &[u8], report: &mut Report) -> Result<(), Malformed> {
        let list = self.segment.parse_list(payload)?;
        for row in list.first_row..list.first_row + list.own {
            if std::mem::replace(&mut self.listed[row as usize], true) {
                return Err(Malformed("a row belongs to two lists"));
            }
        }
        let query = vec![0.0; self.segment.dimensions];
        let mut entries = Vec::new();
        list.scan(&query, &QueryTable::new(&self.segment.rotation, &query), &mut entries)?;
        report.entries += entries.len() as u64;
        Ok(())
    }

    fn cells(&mut self, start: Start, payload: &[u8], at: &BlockAt) -> Result<Result<(), Malformed>, IndexError> {
        let (mut first, root) = (0, &self.segment.root);
        let block = root.cells.iter().find(|(span, rows)| {
            first += rows;
            (span.pack, u64::from(span.offset)) == start
        });
        let Some((_, rows)) = block else { return Ok(Err(Malformed("it is no block of cells of the root"))) };
        let bytes = cell_bytes(self.segment.dimensions, root.neighbours);
        for (row, bytes) in (first - rows..first).zip(payload.chunks_exact(bytes)) {
            cell::check(row, bytes).map_err(|(expected, found)| IndexError::Checksum {
                at: at.clone(),
                expected,
                found,
            })?;
            if let Err(rule) = self.cell(row, bytes) {
                return Ok(Err(rule));
            }
        }
        Ok(Ok(()))
    }

    fn cell(&mut self, row: u32, bytes: &[u8]) -> Result<(), Malformed> {
        let cell = Cell::parse(bytes, self.segment.dimensions)?;
        if cell.neighbours().any(|neighbour| neighbour >= self.segment.entry.records || neighbour == row) {
            return Err(Malformed("a neighbour's row does not exist, or is the row itself"));
        }
        let start = (cell.text.pack, u64::from(cell.text.offset));
        self.tell(start, Kind::TEXTS, cell.text.length)?;
        self.text_of[row as usize] = start;
        self.lengths[row as usize].2 = cell.length_byte;
        Ok(())
    }

    fn terms(&mut self, payload: &[u8], report: &mut Report) -> Result<(), Malformed> {
        let shard = Shard::parse(payload)?;
        for term in &shard.terms {
            if shard_of(term.key, self.segment.root.shards.len() as u32) != shard.number {
                return Err(Malformed("a term belongs to another shard"));
            }
            let postings = term.postings(self.segment.entry.records)?;
            self.postings(&postings, report)?;
            let mut left = term.documents - postings.len() as u32;
            let (mut offset, pack) = (term.tails.offset, term.tails.pack);
            let pack = u16::try_from(pack).map_err(|_| Malformed("it tells of a block outside the packs"))?;
            for (length, number) in term.tails.lengths.iter().zip(0..) {
                self.tell((pack, offset), Kind::POSTINGS, *length)?;
                let count = left.min(TAIL_POSTINGS);
                self.told_tails.insert((pack, offset), (term.key, number, count));
                left -= count;
                offset += u64::from(*length);
            }
            self.is_pruned |= term.documents > INLINE_POSTINGS + MAX_TAILS * TAIL_POSTINGS;
        }
        report.terms += shard.terms.len() as u64;
        Ok(())
    }

    fn tail(&mut self, start: Start, payload: &[u8], report: &mut Report) -> Result<(), Malformed> {
        let (key, number, postings) = parse_any_tail(payload, self.segment.entry.records)?;
        self.postings(&postings, report)?;
        self.tails.insert(start, (key, number, postings.len() as u32));
        Ok(())
    }

    fn postings(&mut self, postings: &[Posting], report: &mut Report) -> Result<(), Malformed> {
        report.postings += postings.len() as u64;
        for posting in postings {
            let (terms, length_byte, _) = &mut self.lengths[posting.row as usize];
            *terms += u64::from(posting.frequency);
            if length_byte.replace(posting.length_byte).is_some_and(|other| other != posting.length_byte) {
                return Err(Malformed("two postings of a row differ in its length"));
            }
        }
        Ok(())
    }

    fn finish(self, report: &mut Report) -> Result<(), IndexError> {
        let known = |kind: Kind| (Kind::ROOT.0..=Kind::TOMBSTONES.0).contains(&kind.0);
        let at = |start: &Start, kind: Kind| {
            self.segment.at(&Place { segment: 0, kind, pack: start.0, offset: start.1, length: 0, number: 0 })
        };
        for (start, (kind, length)) in &self.told {
            if self.seen.get(start) != Some(&(*kind, *length)) {
                return Err(at(start, *kind).corrupt(Malformed("it is not where another block says")));
            }
        }
        if let Some((start, (kind, _))) =
            self.seen.iter().find(|(start, (kind, _))| known(*kind) && !self.told.contains_key(start))
        {
            return Err(at(start, *kind).corrupt(Malformed("nothing tells of it")));
        }
        let root = &self.segment.entry.root;
        let root = at(&(root.pack as u16, root.offset), Kind::ROOT);
        let check = |holds: bool, rule| if holds { Ok(()) } else { Err(root.corrupt(Malformed(rule))) };
        check(self.listed.iter().all(|listed| *listed), "a row belongs to no list")?;
        check(self.told_tails == self.tails, "a tail is not the one that its shard tells of")?;
        let has_text = |(row, start): (u32, &Start)| self.texts.get(start).is_some_and(|rows| rows.contains(&row));
        check((0..).zip(&self.text_of).all(has_text), "a row's text is not where its cell says")?;
        let of_cell = self.lengths.iter().all(|(_, byte, of_cell)| byte.unwrap_or(*of_cell) == *of_cell);
        check(of_cell, "a row's postings and its cell differ in its length")?;
        if !self.is_pruned {
            let code = |terms: u64| document_length::to_byte(u32::try_from(terms).unwrap_or(u32::MAX));
            check(
                self.lengths.iter().all(|(terms, _, byte)| *byte == code(*terms)),
                "a row's postings do not add up to its length",
            )?;
            let total = self.lengths.iter().map(|(terms, _, _)| terms).sum::<u64>();
            check(total == self.segment.root.total_terms, "the postings do not add up to its total of terms")?;
        }
        report.records += u64::from(self.segment.entry.records);
        Ok(())
    }
}
