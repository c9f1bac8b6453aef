//! Keys and values of a prompt's beginning as bytes, so that a host can keep them beside the model's file.
//!
//! Little-endian: mark, tokens, layers, width, precision (2 or 4 bytes a number) as u32, the tokens' ids, keys and values of
//! each layer, and the SHA-256 of all before. What doesn't fit is not used: it is computed anew.

use half::f16;
use huatuo_compute::{Device, Precision};

use crate::{Decoder, GenerateError, KvCache};

const MARK: &[u8; 8] = b"HUATUOKV";
const HASH: usize = 64;

/// The keys and values of the first `ids.len()` tokens in a cache.
pub(crate) async fn save<D: Device>(
    decoder: &Decoder<D>,
    cache: &KvCache<D>,
    ids: &[u32],
) -> Result<Vec<u8>, GenerateError> {
    let precision = decoder.architecture().cache_precision;
    let mut bytes = header(decoder, ids);
    for number in decoder.recall(cache, ids.len()).await?.into_iter().flatten().flatten() {
        match precision {
            Precision::F16 => bytes.extend(f16::from_f32(number).to_le_bytes()),
            Precision::F32 => bytes.extend(number.to_le_bytes()),
        }
    }
    let hash = huatuo_fetch::sha256_hex(&bytes);
    bytes.extend(hash.as_bytes());
    Ok(bytes)
}

/// A cache of exactly these tokens; nothing where the bytes are damaged or of another model, prompt or version.
pub(crate) fn restore<D: Device>(decoder: &Decoder<D>, ids: &[u32], bytes: &[u8]) -> Option<KvCache<D>> {
    let precision = decoder.architecture().cache_precision;
    let (layers, numbers) = (decoder.architecture().layers, ids.len() * decoder.kv_width());
    let size = number_bytes(precision);
    let header = header(decoder, ids);
    let (content, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
    let stored = content.strip_prefix(&header[..])?;
    if stored.len() != layers * 2 * numbers * size || huatuo_fetch::sha256_hex(content).as_bytes() != hash {
        return None;
    }
    let mut read = stored.chunks_exact(size).map(|number| match (precision, number) {
        (Precision::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
        (_, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        _ => f32::NAN, // `chunks_exact` gives no other
    });
    let mut part = || read.by_ref().take(numbers).collect();
    let layers: Vec<[Vec<f32>; 2]> = (0..layers).map(|_| [part(), part()]).collect();
    decoder.restore(&layers, ids.len()).ok()
}

fn header<D: Device>(decoder: &Decoder<D>, ids: &[u32]) -> Vec<u8> {
    let architecture = decoder.architecture();
    let numbers = [ids.len(), architecture.layers, decoder.kv_width(), number_bytes(architecture.cache_precision)];
    let numbers = numbers.into_iter().map(|number| number as u32).chain(ids.iter().copied());
    [MARK.as_slice(), &numbers.flat_map(u32::to_le_bytes).collect::<Vec<u8>>()].concat()
}

fn number_bytes(precision: Precision) -> usize {
    match precision {
        Precision::F16 => 2,
        Precision::F32 => 4,
    }
}
