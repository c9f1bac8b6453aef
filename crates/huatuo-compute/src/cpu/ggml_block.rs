//! ggml's quantized blocks taken apart, one row block of 32 weights at a time.
//!
//! Layouts: <https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>. Every bit pattern is a valid block.

use half::f16;

pub(crate) use super::format::{BLOCK, RowBlock};
use crate::Encoding;

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// The row blocks of one ggml block; `bytes` is a whole block of a quantized encoding.
pub(crate) fn row_blocks(encoding: Encoding, bytes: &[u8], mut take: impl FnMut(RowBlock)) {
    match encoding {
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => unreachable!("not quantized"),
        Encoding::Q8_0 => {
            let mut quants = [0; BLOCK];
            quants.copy_from_slice(&bytes[2..34]);
            take(RowBlock { quants, scales: [half(bytes); 2], minimum: 0.0 });
        }
        Encoding::Q4_0 => {
            let quants = std::array::from_fn(|i| bytes[2 + i % 16] >> (i / 16 * 4) & 15);
            take(RowBlock { quants, scales: [half(bytes); 2], minimum: 0.0 });
        }
        Encoding::Q4K => {
            for j in 0..8 {
                let (scale, minimum) = scale_and_minimum(bytes, j);
                let quants = std::array::from_fn(|i| k_nibble(&bytes[16..], j, i));
                take(RowBlock { quants, scales: [scale; 2], minimum });
            }
        }
        Encoding::Q5K => {
            for j in 0..8 {
                let (scale, minimum) = scale_and_minimum(bytes, j);
                let quants = std::array::from_fn(|i| k_nibble(&bytes[48..], j, i) | (bytes[16 + i] >> j & 1) << 4);
                take(RowBlock { quants, scales: [scale; 2], minimum });
            }
        }
        Encoding::Q6K => {
            let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
            let d = half(&bytes[208..]);
            for j in 0..8 {
                // Each half of 128 weights: 64 bytes of nibbles (first the low, then the high ones), 32 bytes of
                // pairs of high bits.
                let (part, quarter) = (j / 4, j % 4);
                let quants = std::array::from_fn(|i| {
                    let nibble = low[part * 64 + quarter % 2 * 32 + i] >> (quarter / 2 * 4) & 15;
                    nibble | (high[part * 32 + i] >> (quarter * 2) & 3) << 4
                });
                let scale = |half: usize| d * f32::from(scales[2 * j + half] as i8);
                take(RowBlock { quants, scales: [scale(0), scale(1)], minimum: 0.0 });
            }
        }
    }
}

/// Low nibbles of 32 bytes, then their high nibbles, four times.
fn k_nibble(bytes: &[u8], j: usize, i: usize) -> u8 {
    bytes[j / 2 * 32 + i] >> (j % 2 * 4) & 15
}

/// Scale and minimum of sub-block `j` of a Q4_K or Q5_K block: 6 bits each, in 12 bytes.
fn scale_and_minimum(bytes: &[u8], j: usize) -> (f32, f32) {
    let (d, d_minimum, packed) = (half(bytes), half(&bytes[2..]), &bytes[4..16]);
    let (scale, minimum) = match j {
        0..4 => (packed[j] & 63, packed[j + 4] & 63),
        _ => (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4),
    };
    (d * f32::from(scale), d_minimum * f32::from(minimum))
}

/// The numbers of one row block.
pub(super) fn numbers(encoding: Encoding, block: &RowBlock) -> [f32; BLOCK] {
    std::array::from_fn(|i| {
        let stored = match encoding {
            Encoding::Q8_0 => f32::from(block.quants[i] as i8),
            Encoding::Q4_0 => f32::from(block.quants[i]) - 8.0,
            Encoding::Q6K => f32::from(block.quants[i]) - 32.0,
            _ => f32::from(block.quants[i]),
        };
        block.scales[i / (BLOCK / 2)] * stored - block.minimum
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::quantized::k_quants::{BlockQ4_0, BlockQ4K, BlockQ5K, BlockQ6K, BlockQ8_0, GgmlType};

    /// Candle's blocks and what candle reads out of them.
    fn candle<T: GgmlType>(numbers: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let mut blocks = vec![T::zeros(); numbers.len() / T::BLCK_SIZE];
        T::from_float(numbers, &mut blocks);
        let mut out = vec![0.0; numbers.len()];
        T::to_float(&blocks, &mut out);
        let len = std::mem::size_of_val(blocks.as_slice());
        // SAFETY: plain repr(C) blocks without padding, read as bytes.
        (unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast::<u8>(), len) }.to_vec(), out)
    }

    #[test]
    fn blocks_mean_what_candle_reads_in_them() {
        let wave: Vec<f32> = (0..512).map(|i| (i as f32 * 0.37).sin() * (1.0 + i as f32 / 100.0)).collect();
        for (encoding, (bytes, wanted)) in [
            (Encoding::Q8_0, candle::<BlockQ8_0>(&wave)),
            (Encoding::Q4_0, candle::<BlockQ4_0>(&wave)),
            (Encoding::Q4K, candle::<BlockQ4K>(&wave)),
            (Encoding::Q5K, candle::<BlockQ5K>(&wave)),
            (Encoding::Q6K, candle::<BlockQ6K>(&wave)),
        ] {
            let mut got = Vec::new();
            for block in bytes.chunks_exact(encoding.block_bytes()) {
                row_blocks(encoding, block, |row| got.extend(numbers(encoding, &row)));
            }
            assert_eq!(got.len(), wanted.len());
            for (i, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
                assert!((got - wanted).abs() <= 1e-5 * wanted.abs().max(1.0), "{encoding:?} {i}: {got} {wanted}");
            }
        }
    }
}
