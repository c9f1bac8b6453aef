//! Which encoding a tensor gets, and encoding itself.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use huatuo_compute::Encoding;

use super::ConvertError;
use crate::gguf_writer::ggml_type;

/// How a model's matrices are stored; vectors stay in F32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixture {
    /// All the same.
    Uniform(Encoding),
    /// llama.cpp's Q4_K_M: Q6_K for the output head and, in half of the blocks, for values and the last
    /// feed-forward matrix; Q5_K for fused queries, keys and values; Q4_K for the rest.
    Q4KM,
}

impl Mixture {
    /// All mixtures with their names.
    pub const ALL: [(&'static str, Self); 9] = [
        ("F32", Self::Uniform(Encoding::F32)),
        ("F16", Self::Uniform(Encoding::F16)),
        ("BF16", Self::Uniform(Encoding::Bf16)),
        ("Q8_0", Self::Uniform(Encoding::Q8_0)),
        ("Q4_0", Self::Uniform(Encoding::Q4_0)),
        ("Q4_K", Self::Uniform(Encoding::Q4K)),
        ("Q5_K", Self::Uniform(Encoding::Q5K)),
        ("Q6_K", Self::Uniform(Encoding::Q6K)),
        ("Q4_K_M", Self::Q4KM),
    ];

    /// A mixture by its name, in any case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, mixture)| *mixture)
    }

    /// The encoding of a tensor, and whether it is a fallback: rows that don't divide into blocks of 256 are stored in
    /// Q8_0, rows that don't divide into blocks of 32 in F16.
    pub(super) fn choose(self, name: &str, shape: &[usize], layers: usize, tied: bool) -> (Encoding, bool) {
        let &[_, columns] = shape else { return (Encoding::F32, false) };
        let wanted = match self {
            Self::Uniform(encoding) => encoding,
            Self::Q4KM => q4_k_m(name, layers, tied),
        };
        let fits = |encoding: &Encoding| columns % encoding.block_len() == 0;
        let chosen = [wanted, Encoding::Q8_0, Encoding::F16].into_iter().find(fits).unwrap_or(Encoding::F16);
        (chosen, chosen != wanted)
    }
}

fn q4_k_m(name: &str, layers: usize, tied: bool) -> Encoding {
    if name == "output.weight" || (tied && name == "token_embd.weight") {
        return Encoding::Q6K;
    }
    let block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    match block.and_then(|(i, part)| Some((i.parse::<usize>().ok()?, part))) {
        Some((i, "attn_v.weight" | "ffn_down.weight")) if gets_more_bits(i, layers) => Encoding::Q6K,
        Some((_, "attn_qkv.weight")) => Encoding::Q5K,
        _ => Encoding::Q4K,
    }
}

/// The first and last eighth of the blocks, and every third between.
fn gets_more_bits(block: usize, blocks: usize) -> bool {
    let eighth = blocks / 8;
    block < eighth || block >= 7 * blocks / 8 || (block - eighth) % 3 == 2
}

/// Encodes whole rows of `columns` numbers; `first` is the number of the first row, for messages.
pub(super) fn encode(
    name: &str,
    numbers: Vec<f32>,
    columns: usize,
    first: usize,
    encoding: Encoding,
) -> Result<Vec<u8>, ConvertError> {
    let most = match encoding {
        Encoding::F32 => f32::MAX,
        Encoding::Bf16 => 3.38e38,
        // Halves, which the scales of blocks are too, end at 65504; what rounds above it would become infinite.
        _ => 65_519.0,
    };
    if let Some(at) = numbers.iter().position(|x| x.is_nan() || x.abs() > most) {
        let (row, encoding) = (first + at / columns, ggml_type(encoding).1);
        return Err(ConvertError::BadNumber { name: name.to_owned(), row, value: numbers[at], encoding });
    }
    let kind = match encoding {
        Encoding::F32 => return Ok(numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Encoding::F16 => GgmlDType::F16,
        Encoding::Bf16 => GgmlDType::BF16,
        Encoding::Q8_0 => GgmlDType::Q8_0,
        Encoding::Q4_0 => GgmlDType::Q4_0,
        Encoding::Q4K => GgmlDType::Q4K,
        Encoding::Q5K => GgmlDType::Q5K,
        Encoding::Q6K => GgmlDType::Q6K,
    };
    let rows = numbers.len() / columns;
    Tensor::from_vec(numbers, (rows, columns), &Device::Cpu)
        .and_then(|tensor| QTensor::quantize(&tensor, kind))
        .and_then(|tensor| Ok(tensor.data()?.into_owned()))
        .map_err(|error| ConvertError::Encode { name: name.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixture_is_that_of_llama_cpp() {
        let of = |name: &str| Mixture::Q4KM.choose(name, &[512, 256], 32, false).0;
        let values: Vec<usize> = (0..32).filter(|i| of(&format!("blk.{i}.attn_v.weight")) == Encoding::Q6K).collect();
        assert_eq!(values, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        assert_eq!(of("output.weight"), Encoding::Q6K);
        assert_eq!(of("token_embd.weight"), Encoding::Q4K);
        assert_eq!(Mixture::Q4KM.choose("token_embd.weight", &[512, 256], 32, true).0, Encoding::Q6K);
        assert_eq!(of("blk.3.attn_qkv.weight"), Encoding::Q5K);
        assert_eq!(of("blk.3.attn_q.weight"), Encoding::Q4K);
    }

    #[test]
    fn rows_that_are_no_whole_blocks_fall_back() {
        let q4k = Mixture::Uniform(Encoding::Q4K);
        assert_eq!(q4k.choose("w", &[2, 96], 1, false), (Encoding::Q8_0, true));
        assert_eq!(q4k.choose("w", &[2, 24], 1, false), (Encoding::F16, true));
        assert_eq!(q4k.choose("w", &[96], 1, false), (Encoding::F32, false));
    }

    #[test]
    fn numbers_that_no_encoding_holds_are_refused_with_their_row() {
        let error = encode("w", vec![1.0, 2.0, f32::NAN, 0.0], 2, 10, Encoding::F32).unwrap_err();
        assert!(matches!(error, ConvertError::BadNumber { row: 11, .. }));
        assert!(encode("w", vec![1e5], 1, 0, Encoding::F16).is_err());
    }
}
