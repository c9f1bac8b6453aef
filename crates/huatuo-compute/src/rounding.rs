//! Weights rounded to 8 bits when they are loaded.

use half::f16;

use crate::cpu::to_f32;
use crate::{ComputeError, Encoding, TensorView};

/// Greatest stored weight.
const GREATEST: f32 = 127.0;

/// The blocks of a tensor's numbers in [`Encoding::Q8_0`]; rows must be whole blocks. A number is off by half a step at
/// most, a step being 1/127 of the block's greatest.
pub fn round_to_q8_0(tensor: &TensorView<'_>) -> Result<Vec<u8>, ComputeError> {
    tensor.validate()?;
    let (encoding, block) = (Encoding::Q8_0, Encoding::Q8_0.block_len());
    let columns = tensor.shape.last().copied().unwrap_or(1);
    if !columns.is_multiple_of(block) {
        return Err(ComputeError::PartialBlock { name: tensor.name.to_owned(), columns, block, encoding });
    }
    let numbers = to_f32(tensor);
    let mut blocks = Vec::with_capacity(numbers.len() / block * encoding.block_bytes());
    for numbers in numbers.chunks_exact(block) {
        let greatest = numbers.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let scale = f16::from_f32(greatest / GREATEST);
        blocks.extend(scale.to_le_bytes());
        // The quants are those of the scale as it is stored; a block of zeros, or of what rounds to none, stays zero.
        let step = scale.to_f32();
        let inverse = if step > 0.0 && step.is_finite() { 1.0 / step } else { 0.0 };
        blocks.extend(numbers.iter().map(|x| (x * inverse).round_ties_even().clamp(-GREATEST, GREATEST) as i8 as u8));
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(numbers: &[f32]) -> Vec<f32> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = [numbers.len() / 64, 64];
        let tensor = TensorView { name: "w", shape: &shape, encoding: Encoding::F32, bytes: &bytes };
        let blocks = round_to_q8_0(&tensor).unwrap();
        to_f32(&TensorView { encoding: Encoding::Q8_0, bytes: &blocks, ..tensor })
    }

    #[test]
    fn a_number_is_off_by_half_a_step_at_most() {
        let numbers: Vec<f32> = (0..256).map(|i| (i as f32 * 0.7).sin() * 0.01 * (i / 32 + 1) as f32).collect();
        for (block, got) in numbers.chunks(32).zip(rounded(&numbers).chunks(32)) {
            let step = block.iter().fold(0.0f32, |most, x| most.max(x.abs())) / GREATEST;
            for (x, got) in block.iter().zip(got) {
                // the step itself is rounded to half precision, which may clamp the greatest
                assert!((x - got).abs() <= 0.5 * step + GREATEST * step * 2f32.powi(-11), "{x} {got}");
            }
        }
    }

    #[test]
    fn zeros_and_tiny_numbers_become_zero() {
        assert!(rounded(&[0.0; 64]).iter().chain(&rounded(&[1e-12; 64])).all(|x| *x == 0.0));
    }

    #[test]
    fn rows_must_be_whole_blocks() {
        let tensor = TensorView { name: "w", shape: &[2, 33], encoding: Encoding::F16, bytes: &[0; 132] };
        assert!(matches!(round_to_q8_0(&tensor), Err(ComputeError::PartialBlock { columns: 33, .. })));
    }
}
