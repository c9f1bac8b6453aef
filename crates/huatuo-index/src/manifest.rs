//! The one mutable file of an index: its segments, which packs each has and where its root lies.

use huatuo_fetch::Source;
use serde::{Deserialize, Serialize};

use crate::IndexError;
use crate::format::{MAX_DIMENSIONS, MAX_MANIFEST_BYTES, MAX_PACKS};

/// The manifest's file name.
pub const MANIFEST_NAME: &str = "manifest.json";
/// The value of `format`.
const FORMAT: &str = "huatuo-index";
/// Latest format version that is read, and the one that is written.
const VERSION: u64 = 1;
/// A pack is named after 32 hexadecimal digits of its content's hash.
pub(crate) const PACK_SUFFIX: &str = ".pack";

/// What `manifest.json` says. Fields that a reader does not know are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always `huatuo-index`.
    pub format: String,
    /// Format version.
    pub version: u64,
    /// Number of records of all segments, deleted ones included.
    pub records: u32,
    /// Numbers in each vector.
    pub dimensions: usize,
    /// Which text of a record its vector stands for.
    pub embed: Embed,
    /// What made the vectors.
    pub encoder: Encoder,
    /// The segments: what was built first, and what was added since.
    pub segments: Vec<SegmentEntry>,
}

/// A part of an index that was written at once. Its rows follow those of the segments before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Number of records.
    pub records: u32,
    /// The packs; blocks refer to them by position.
    pub packs: Vec<PackEntry>,
    /// Where the root block lies.
    pub root: Location,
    /// Where the list of deleted rows lies, if any was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tombstones: Option<Location>,
}

/// Which text of a record its vector stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Embed {
    /// The question.
    Question,
    /// The answer.
    Answer,
    /// Question and answer together.
    Both,
}

/// The encoder that made the vectors; questions must be encoded by the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoder {
    /// Its name.
    pub name: String,
    /// SHA-256 of its weights in hexadecimal digits.
    pub sha256: String,
}

/// A pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackEntry {
    /// File name: XXH3-128 of its content in 32 hexadecimal digits, and `.pack`.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Where a block lies that the manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Position of its pack in `packs`.
    pub pack: u32,
    /// First byte of its header in the pack.
    pub offset: u64,
    /// Bytes of header and payload.
    pub length: u32,
}

/// What is read first, so that a later version is reported as such even where its other fields differ.
#[derive(Deserialize)]
struct Envelope {
    format: String,
    version: u64,
}

impl Manifest {
    #[cfg(feature = "write")]
    pub(crate) fn new(dimensions: usize, embed: Embed, encoder: Encoder, segments: Vec<SegmentEntry>) -> Self {
        let records = segments.iter().map(|segment| segment.records).sum();
        Self { format: FORMAT.to_owned(), version: VERSION, records, dimensions, embed, encoder, segments }
    }

    /// All packs of all segments, in order.
    pub fn packs(&self) -> impl Iterator<Item = &PackEntry> {
        self.segments.iter().flat_map(|segment| &segment.packs)
    }

    /// Reads the manifest of a source; the first trip of opening an index.
    pub(crate) async fn fetch(source: &Source) -> Result<(Self, usize), IndexError> {
        let bytes = source.read(MANIFEST_NAME, None).await?;
        Ok((Self::parse(&bytes)?, bytes.len()))
    }

    /// Parses and checks a manifest.
    ///
    /// # Errors
    /// [`IndexError::UnsupportedVersion`], [`IndexError::Limit`], or [`IndexError::Manifest`] for all else.
    pub fn parse(json: &[u8]) -> Result<Self, IndexError> {
        if json.len() as u64 > MAX_MANIFEST_BYTES {
            let what = MANIFEST_NAME.to_owned();
            return Err(IndexError::Limit { what, found: json.len() as u64, limit: MAX_MANIFEST_BYTES });
        }
        let invalid = |error: serde_json::Error| refuse(format!("it is not as expected: {error}"));
        let envelope: Envelope = serde_json::from_slice(json).map_err(invalid)?;
        if envelope.format != FORMAT {
            return Err(refuse(format!("its format is {:?} instead of {FORMAT:?}", envelope.format)));
        }
        if envelope.version > VERSION {
            return Err(IndexError::UnsupportedVersion { found: envelope.version, supported: VERSION });
        }
        let manifest: Self = serde_json::from_slice(json).map_err(invalid)?;
        manifest.check()?;
        Ok(manifest)
    }

    #[cfg(feature = "write")]
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, IndexError> {
        let mut json = serde_json::to_vec_pretty(self).map_err(|error| refuse(error.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }

    fn check(&self) -> Result<(), IndexError> {
        if !(1..=MAX_DIMENSIONS).contains(&self.dimensions) {
            return Err(refuse(format!("dimensions is {}, not 1 to {MAX_DIMENSIONS}", self.dimensions)));
        }
        if let Some(pack) = self.packs().find(|pack| !is_pack_name(&pack.name)) {
            return Err(refuse(format!("{:?} is not the name of a pack", pack.name)));
        }
        let total = self.segments.iter().try_fold(0u32, |sum, segment| sum.checked_add(segment.records));
        if total != Some(self.records) {
            return Err(refuse(format!("its segments do not have {} records together", self.records)));
        }
        self.segments.iter().try_for_each(SegmentEntry::check)
    }
}

impl SegmentEntry {
    fn check(&self) -> Result<(), IndexError> {
        if self.packs.len() > MAX_PACKS || self.packs.iter().any(|pack| pack.bytes > u64::from(u32::MAX)) {
            return Err(refuse(format!("a segment has more than {MAX_PACKS} packs, or one of 4 GiB or more")));
        }
        let inside = |location: &Location| {
            let end = location.offset.checked_add(u64::from(location.length));
            self.packs.get(location.pack as usize).zip(end).is_some_and(|(pack, end)| end <= pack.bytes)
        };
        match inside(&self.root) && self.tombstones.iter().all(inside) {
            true => Ok(()),
            false => Err(refuse("its root or its tombstones lie outside the packs".to_owned())),
        }
    }
}

fn refuse(detail: String) -> IndexError {
    IndexError::Manifest { detail }
}

fn is_pack_name(name: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.strip_suffix(PACK_SUFFIX).is_some_and(|hash| hash.len() == 32 && hash.bytes().all(digit))
}

/// The name that a pack with this content must have.
pub(crate) fn pack_name(content: &[u8]) -> String {
    huatuo_fetch::xxh3_128_hex(content) + PACK_SUFFIX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(replace: &str, with: &str) -> Vec<u8> {
        let text = r#"{"format": "huatuo-index", "version": 1, "records": 1, "dimensions": 2, "embed": "both",
            "encoder": {"name": "e", "sha256": ""}, "later": [],
            "segments": [{"records": 1, "packs": [{"name": "00112233445566778899aabbccddeeff.pack", "bytes": 100, "later": 1}],
            "root": {"pack": 0, "offset": 40, "length": 60}}]}"#;
        assert!(text.contains(replace));
        text.replace(replace, with).into_bytes()
    }

    #[test]
    fn unknown_fields_are_ignored() {
        assert_eq!(Manifest::parse(&json("later", "later")).unwrap().embed, Embed::Both);
    }

    #[test]
    fn a_later_version_asks_for_an_update_whatever_else_it_says() {
        let error = Manifest::parse(br#"{"format": "huatuo-index", "version": 2, "embed": "all"}"#).unwrap_err();
        assert_eq!(error, IndexError::UnsupportedVersion { found: 2, supported: 1 });
        assert!(error.to_string().ends_with("update the program"));
    }

    #[test]
    fn what_cannot_be_true_is_refused() {
        let wrong = [
            (r#""huatuo-index""#, r#""pmtiles""#),
            (r#""dimensions": 2"#, r#""dimensions": 0"#),
            (r#""dimensions": 2"#, r#""dimensions": 99999"#),
            ("00112233445566778899aabbccddeeff.pack", "../../etc/passwd.pack"),
            (r#""pack": 0"#, r#""pack": 1"#),
            (r#""length": 60"#, r#""length": 61"#),
            (r#""offset": 40"#, r#""offset": 18446744073709551615"#),
            (r#""records": 1"#, r#""records": -1"#),
            (r#""records": 1, "dim"#, r#""records": 2, "dim"#),
        ];
        for (replace, with) in wrong {
            assert!(matches!(Manifest::parse(&json(replace, with)), Err(IndexError::Manifest { .. })), "{with}");
        }
    }
}
