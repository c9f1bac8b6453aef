//! How the writer stores payloads: which codec, and the dictionary for texts.

use zstd::bulk::Compressor;

use crate::block::seal;
use crate::format::Codec;
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
const TEXTS_PER_DICTIONARY: usize = 64;
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

    /// A whole block with the payload in the codec that suits it.
    pub fn seal(&mut self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>, IndexError> {
        let (codec, compressor) = match &mut self.texts {
            Some(texts) if kind == Kind::TEXTS => (Codec::ZstdDictionary, texts),
            _ => (Codec::Zstd, &mut self.plain),
        };
        if payload.len() >= LEAST_COMPRESSED_BYTES {
            let stored = compressor.compress(payload).map_err(failed)?;
            if stored.len() <= payload.len() - payload.len() / LEAST_SAVING {
                return seal(kind, codec, payload.len(), &stored);
            }
        }
        seal(kind, Codec::Raw, payload.len(), payload)
    }
}

/// Trains a dictionary on serialised records given block by block with the size of each; none if there are too few.
pub(crate) fn train(blocks: &[(&[u8], &[usize])]) -> Option<Vec<u8>> {
    let total: usize = blocks.iter().map(|(bytes, _)| bytes.len()).sum();
    let size = (total / TEXTS_PER_DICTIONARY).min(MAX_DICTIONARY_BYTES);
    if size < LEAST_DICTIONARY_BYTES {
        return None;
    }
    // Every nth block, so that samples come from the whole corpus and the same corpus gives the same samples.
    let step = total.div_ceil(size * SAMPLES_PER_DICTIONARY);
    let (mut samples, mut sizes) = (Vec::new(), Vec::new());
    for (bytes, record_sizes) in blocks.iter().step_by(step) {
        samples.extend_from_slice(bytes);
        sizes.extend_from_slice(record_sizes);
    }
    // Training fails on texts that have too little in common: then a dictionary would not help either.
    zstd::dict::from_continuous(&samples, &sizes, size).ok()
}

fn failed(error: std::io::Error) -> IndexError {
    IndexError::Write { path: "a compressed block".to_owned(), detail: error.to_string() }
}
