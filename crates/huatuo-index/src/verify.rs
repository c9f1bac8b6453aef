//! Checks a whole index: every byte against its hash, and every rule of the format.

use std::collections::HashMap;

use huatuo_fetch::{FetchError, Source};

use crate::directory::Directory;
use crate::error::Malformed;
use crate::manifest::pack_name;
use crate::postings::{Posting, Shard};
use crate::reader::{block_at, check_rows, fetch_root, root_entry};
use crate::root::Entry;
use crate::terms::shard_of;
use crate::vectors::VectorBlock;
use crate::{BlockAt, IndexError, Kind, Manifest, block, document_length, texts};

/// What a sound index consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Packs.
    pub packs: u64,
    /// Bytes of all packs.
    pub bytes: u64,
    /// Blocks, the root included.
    pub blocks: u64,
    /// Records.
    pub records: u64,
    /// Distinct terms.
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
    let (manifest, _) = Manifest::fetch(&source).await?;
    let (root, at) = fetch_root(&source, &manifest).await?;
    let mut listed: HashMap<_, _> = root.entries.iter().map(|entry| ((entry.pack, entry.offset), *entry)).collect();
    if listed.len() != root.entries.len() {
        return Err(at.corrupt(Malformed("its directory has a block twice")));
    }
    let entry = root_entry(&manifest);
    listed.insert((entry.pack, entry.offset), entry);
    let directory = Directory::new(root, &manifest).map_err(|rule| at.corrupt(rule))?;
    let dictionary = read_dictionary(&source, &manifest, &directory).await?;
    let mut check = Check::new(&manifest, &directory, dictionary, listed);
    for number in 0..manifest.packs.len() {
        check.pack(number, &read_pack(&source, &manifest, number).await?)?;
    }
    check.finish(&at)
}

async fn read_pack(source: &Source, manifest: &Manifest, number: usize) -> Result<Vec<u8>, IndexError> {
    let pack = &manifest.packs[number];
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

async fn read_dictionary(
    source: &Source,
    manifest: &Manifest,
    directory: &Directory,
) -> Result<Option<Vec<u8>>, IndexError> {
    let Some(entry) = directory.dictionary else { return Ok(None) };
    let pack = read_pack(source, manifest, entry.pack as usize).await?;
    // The directory was checked: the entry lies in its pack, whose size was checked too.
    let bytes = &pack[entry.offset as usize..][..entry.length as usize];
    block::open(bytes, &block_at(manifest, &entry), None).map(Some)
}

/// What was seen so far.
struct Check<'a> {
    manifest: &'a Manifest,
    directory: &'a Directory,
    dictionary: Option<Vec<u8>>,
    /// Blocks that were not seen yet.
    listed: HashMap<(u32, u64), Entry>,
    /// Terms of each row, as its postings add up, and its length byte, as they say.
    lengths: Vec<(u64, Option<u8>)>,
    report: Report,
}

impl<'a> Check<'a> {
    fn new(
        manifest: &'a Manifest,
        directory: &'a Directory,
        dictionary: Option<Vec<u8>>,
        listed: HashMap<(u32, u64), Entry>,
    ) -> Self {
        let report = Report { records: u64::from(manifest.records), ..Report::default() };
        let lengths = vec![(0, None); manifest.records as usize];
        Self { manifest, directory, dictionary, listed, lengths, report }
    }

    /// Walks the blocks of a pack; they must fill it and be listed one by one.
    fn pack(&mut self, number: usize, bytes: &[u8]) -> Result<(), IndexError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = (bytes.len() - rest.len()) as u64;
            let Some(entry) = self.listed.remove(&(number as u32, offset)) else {
                let detail = format!("has something at byte {offset} that the directory does not list");
                return Err(IndexError::Pack { pack: self.manifest.packs[number].name.clone(), detail });
            };
            let at = block_at(self.manifest, &entry);
            let Some((block, after)) = rest.split_at_checked(entry.length as usize) else {
                let (expected, found) = (u64::from(entry.length), rest.len() as u64);
                return Err(IndexError::Truncated { at, expected, found });
            };
            self.block(&entry, &at, block)?;
            rest = after;
        }
        self.report.packs += 1;
        self.report.bytes += bytes.len() as u64;
        Ok(())
    }

    fn block(&mut self, entry: &Entry, at: &BlockAt, bytes: &[u8]) -> Result<(), IndexError> {
        let dictionary = self.dictionary.as_deref().filter(|_| entry.kind == Kind::TEXTS);
        let payload = block::open(bytes, at, dictionary)?;
        let checked = match entry.kind {
            Kind::VECTORS => self.vectors(entry, &payload),
            Kind::TEXTS => texts::parse_block(&payload).and_then(|(first, rows)| check_rows(entry, first, rows.len())),
            Kind::TERMS => self.terms(entry, &payload),
            // The root and the dictionary were used to get here; of a later version's kinds only the checksum is known.
            _ => Ok(()),
        };
        self.report.blocks += 1;
        checked.map_err(|rule| at.corrupt(rule))
    }

    fn vectors(&self, entry: &Entry, payload: &[u8]) -> Result<(), Malformed> {
        let block = VectorBlock::parse(payload, self.manifest.dimensions)?;
        check_rows(entry, block.first_row, block.rows as usize)?;
        block.scan(&vec![0.0; self.manifest.dimensions], &mut Vec::new())
    }

    fn terms(&mut self, entry: &Entry, payload: &[u8]) -> Result<(), Malformed> {
        let shard = Shard::parse(payload)?;
        check_rows(entry, shard.number, shard.terms.len())?;
        for term in &shard.terms {
            if shard_of(term.key, self.directory.shards) != shard.number {
                return Err(Malformed("a term belongs to another shard"));
            }
            let postings = term.postings(self.manifest.records)?;
            postings.iter().try_for_each(|posting| self.posting(*posting))?;
            self.report.postings += postings.len() as u64;
        }
        self.report.terms += shard.terms.len() as u64;
        Ok(())
    }

    fn posting(&mut self, posting: Posting) -> Result<(), Malformed> {
        let (terms, length_byte) = &mut self.lengths[posting.row as usize];
        *terms += u64::from(posting.frequency);
        match length_byte.replace(posting.length_byte) {
            Some(other) if other != posting.length_byte => Err(Malformed("two postings of a row differ in its length")),
            _ => Ok(()),
        }
    }

    fn finish(self, root: &BlockAt) -> Result<Report, IndexError> {
        if let Some(entry) = self.listed.values().min_by_key(|entry| (entry.pack, entry.offset)) {
            return Err(block_at(self.manifest, entry).corrupt(Malformed("it overlaps another block")));
        }
        let code = |terms: u64| document_length::to_byte(u32::try_from(terms).unwrap_or(u32::MAX));
        if self.lengths.iter().any(|(terms, byte)| byte.is_some_and(|byte| byte != code(*terms))) {
            return Err(root.corrupt(Malformed("a row's postings do not add up to its length")));
        }
        if self.lengths.iter().map(|(terms, _)| terms).sum::<u64>() != self.directory.corpus.total_terms {
            return Err(root.corrupt(Malformed("the postings do not add up to its total of terms")));
        }
        Ok(self.report)
    }
}
