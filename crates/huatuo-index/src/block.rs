//! A block: its header, and its payload as it is stored.

use huatuo_fetch::xxh3_64;
use ruzstd::decoding::{Dictionary, FrameDecoder};

use crate::error::Malformed;
use crate::format::{Codec, HEADER_BYTES, Header, HeaderFault, MAX_DECOMPRESSED_BYTES, MAX_PAYLOAD_BYTES};
use crate::{BlockAt, IndexError};

/// Puts the header before a stored payload.
#[cfg(feature = "write")]
pub(crate) fn seal(kind: crate::Kind, codec: Codec, raw_bytes: usize, stored: &[u8]) -> Result<Vec<u8>, IndexError> {
    let size = |bytes: usize| match u32::try_from(bytes) {
        Ok(size) if size <= MAX_PAYLOAD_BYTES => Ok(size),
        _ => Err(IndexError::Limit {
            what: format!("a {kind} block"),
            found: bytes as u64,
            limit: u64::from(MAX_PAYLOAD_BYTES),
        }),
    };
    let (stored_bytes, raw_bytes) = (size(stored.len())?, size(raw_bytes)?);
    let header = Header { kind, codec, stored_bytes, raw_bytes, checksum: xxh3_64(stored) };
    Ok([&header.to_bytes(), stored].concat())
}

/// Writes the payload of a block that is a run of rows: its first row, how many, and their bytes.
#[cfg(feature = "write")]
pub(crate) fn encode_rows(first_row: u32, rows: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 10);
    crate::varint::put(&mut out, u64::from(first_row));
    crate::varint::put(&mut out, u64::from(rows));
    out.extend_from_slice(bytes);
    out
}

/// Checks a whole block and decodes its payload; `dictionary` is the decoded payload of the index's dictionary.
pub(crate) fn open(block: &[u8], at: &BlockAt, dictionary: Option<&[u8]>) -> Result<Vec<u8>, IndexError> {
    let (header, stored) = split(block, at)?;
    if header.kind != at.kind {
        return Err(IndexError::WrongKind { at: at.clone(), found: header.kind });
    }
    check_size(stored.len() as u64, u64::from(header.stored_bytes), at)?;
    decode(&header, stored, at, dictionary)
}

/// Parses the header at the start of some bytes; what follows it is the payload and perhaps more.
pub(crate) fn split<'a>(bytes: &'a [u8], at: &BlockAt) -> Result<(Header, &'a [u8]), IndexError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(IndexError::Truncated { at: at.clone(), expected: HEADER_BYTES as u64, found: bytes.len() as u64 });
    };
    let header = Header::parse(header).map_err(|fault| match fault {
        HeaderFault::Magic(found) => IndexError::BadMagic { at: at.clone(), found },
        HeaderFault::Codec(found) => IndexError::UnsupportedCodec { at: at.clone(), found },
        HeaderFault::Reserved => at.corrupt(Malformed("a reserved byte of its header is not zero")),
    })?;
    let most_raw = if header.codec == Codec::Raw { MAX_PAYLOAD_BYTES } else { MAX_DECOMPRESSED_BYTES };
    for (size, limit) in [(header.stored_bytes, MAX_PAYLOAD_BYTES), (header.raw_bytes, most_raw)] {
        if size > limit {
            let (found, limit) = (u64::from(size), u64::from(limit));
            return Err(IndexError::Limit { what: format!("the {at}"), found, limit });
        }
    }
    Ok((header, rest))
}

/// Verifies the checksum of a stored payload, then decompresses it.
pub(crate) fn decode(
    header: &Header,
    stored: &[u8],
    at: &BlockAt,
    dictionary: Option<&[u8]>,
) -> Result<Vec<u8>, IndexError> {
    let found = xxh3_64(stored);
    if found != header.checksum {
        return Err(IndexError::Checksum { at: at.clone(), expected: header.checksum, found });
    }
    let raw = match (header.codec, dictionary) {
        (Codec::Raw, _) => stored.to_vec(),
        (Codec::Zstd, _) => decompress(header, stored, at, None)?,
        (Codec::ZstdDictionary, Some(dictionary)) => decompress(header, stored, at, Some(dictionary))?,
        (Codec::ZstdDictionary, None) => return Err(at.corrupt(Malformed("it needs a dictionary the index has not"))),
    };
    check_size(raw.len() as u64, u64::from(header.raw_bytes), at)?;
    Ok(raw)
}

fn decompress(header: &Header, stored: &[u8], at: &BlockAt, dictionary: Option<&[u8]>) -> Result<Vec<u8>, IndexError> {
    let failed = |detail: String| IndexError::Decompress { at: at.clone(), detail };
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(u64::from(MAX_DECOMPRESSED_BYTES));
    if let Some(dictionary) = dictionary {
        let dictionary = Dictionary::decode_dict(dictionary).map_err(|error| failed(error.to_string()))?;
        decoder.add_dict(dictionary).map_err(|error| failed(error.to_string()))?;
    }
    let mut raw = vec![0; header.raw_bytes as usize];
    let written = decoder.decode_all(stored, &mut raw).map_err(|error| failed(error.to_string()))?;
    raw.truncate(written);
    Ok(raw)
}

fn check_size(found: u64, expected: u64, at: &BlockAt) -> Result<(), IndexError> {
    if found == expected { Ok(()) } else { Err(IndexError::Truncated { at: at.clone(), expected, found }) }
}
