//! How the writer stores payloads: which codec, and the dictionary for texts.

use zstd::bulk::Compressor;

use crate::block::seal;
use crate::format::{Codec, MAX_DECOMPRESSED_BYTES};
use crate::{IndexError, Kind};

/// Slower levels make Chinese consultations hardly smaller.
const LEVEL: i32 = 12;
/// A smaller payload is stored raw: it is not worth decompressing.
const LEAST_COMPRESSED_BYTES: usize = 256;
/// A payload is stored compressed only if that saves one part in this many, because readers pay for it each time.
const LEAST_SAVING: usize = 8;
/// Largest dictionary. Every reader fetches it once, so it must stay small beside what it saves.
const MAX_DICTIONARY_BYTES: usize = 32 << 10;
/// Texts must be this many times larger than their dictionary.
const TEXTS_PER_DICTIONARY: u64 = 64;
/// A dictionary smaller than this is not worth its request.
const LEAST_DICTIONARY_BYTES: usize = 4 << 10;
/// Bytes of samples for each byte of the dictionary, as zstd's manual advises.
const SAMPLES_PER_DICTIONARY: usize = 100;

/// Compresses and seals blocks.
pub(crate) struct Sealer {
    plain: Compressor<'static>,
    texts: Option<Compressor<'static>>,
}

impl Sealer {
    /// Prepares the codecs; a dictionary is used for texts.
    pub fn new(dictionary: Option<&[u8]>) -> Result<Self, IndexError> {
        let plain = Compressor::new(LEVEL).map_err(failed)?;
        let texts = dictionary.map(|bytes| Compressor::with_dictionary(LEVEL, bytes)).transpose().map_err(failed)?;
        Ok(Self { plain, texts })
    }

    /// A whole block with the payload as it is: for what is read in part, and for codes, which do not shrink.
    pub fn seal_raw(kind: Kind, payload: &[u8]) -> Result<Vec<u8>, IndexError> {
        seal(kind, Codec::Raw, payload.len(), payload)
    }

    /// A whole block with the payload in the codec that suits it.
    pub fn seal(&mut self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>, IndexError> {
        let (codec, compressor) = match &mut self.texts {
            Some(texts) if kind == Kind::TEXTS => (Codec::ZstdDictionary, texts),
            _ => (Codec::Zstd, &mut self.plain),
        };
        if (LEAST_COMPRESSED_BYTES..=MAX_DECOMPRESSED_BYTES as usize).contains(&payload.len()) {
            let stored = compressor.compress(payload).map_err(failed)?;
            if stored.len() <= payload.len() - payload.len() / LEAST_SAVING {
                return seal(kind, codec, payload.len(), &stored);
            }
        }
        seal(kind, Codec::Raw, payload.len(), payload)
    }
}

/// Trains a dictionary on serialised records, of which there are `total` bytes in the corpus; none if that is too little.
pub(crate) fn train(samples: &[&[u8]], total: u64) -> Option<Vec<u8>> {
    let size = usize::try_from(total / TEXTS_PER_DICTIONARY).unwrap_or(usize::MAX).min(MAX_DICTIONARY_BYTES);
    // Training fails on texts that have too little in common: then a dictionary would not help either.
    (size >= LEAST_DICTIONARY_BYTES).then(|| zstd::dict::from_samples(samples, size).ok()).flatten()
}

/// Bytes of samples that a dictionary is trained with.
pub(crate) const SAMPLE_BYTES: usize = MAX_DICTIONARY_BYTES * SAMPLES_PER_DICTIONARY;

fn failed(error: std::io::Error) -> IndexError {
    IndexError::Write { path: "a compressed block".to_owned(), detail: error.to_string() }
}
