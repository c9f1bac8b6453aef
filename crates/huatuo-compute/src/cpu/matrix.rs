//! Weight matrices and their product with activations.

use candle_core::quantized::k_quants::{self, BlockQ4_0, BlockQ8_0, GgmlType};
use candle_core::{Device as CandleDevice, Tensor};
use half::{bf16, f16};

use crate::{ComputeError, Encoding, TensorView};

/// A weight matrix `[rows, columns]` on the CPU.
///
/// Half-precision weights are widened when they are loaded: no CPU target here multiplies them directly.
pub struct CpuMatrix {
    rows: usize,
    columns: usize,
    weights: Weights,
}

enum Weights {
    /// Kept transposed `[columns, rows]` for candle's gemm, and as rows for look-ups.
    F32 {
        rows: Vec<f32>,
        transposed: Tensor,
    },
    Q8_0(Vec<BlockQ8_0>),
    Q4_0(Vec<BlockQ4_0>),
}

impl CpuMatrix {
    /// Takes over a tensor's numbers; `F16` and `Bf16` become `F32`.
    pub fn new(tensor: &TensorView<'_>) -> Result<Self, ComputeError> {
        tensor.validate()?;
        let &[rows, columns] = tensor.shape else {
            return Err(ComputeError::NotAMatrix { name: tensor.name.to_owned(), shape: tensor.shape.to_vec() });
        };
        let weights = match tensor.encoding {
            Encoding::Q8_0 => Weights::Q8_0(blocks(tensor.bytes)),
            Encoding::Q4_0 => Weights::Q4_0(blocks(tensor.bytes)),
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => {
                let rows_f32 = to_f32(tensor);
                let transposed = Tensor::from_slice(&rows_f32, (rows, columns), &CandleDevice::Cpu)
                    .and_then(|t| t.t())
                    .expect("the shape was validated");
                Weights::F32 { rows: rows_f32, transposed }
            }
        };
        Ok(Self { rows, columns, weights })
    }

    /// Outputs of the product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of the product.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// `out[n, rows] = x[n, columns] · selfᵀ`; activations are quantized to 8 bits where the weights are quantized.
    pub(super) fn multiply(&self, x: &[f32], n: usize, out: &mut [f32]) {
        let shape = (n, self.columns, self.rows);
        match &self.weights {
            Weights::Q8_0(blocks) => quantized(shape, x, blocks, out),
            Weights::Q4_0(blocks) => quantized(shape, x, blocks, out),
            Weights::F32 { rows, .. } if n == 1 => {
                k_quants::matmul::<f32>(shape, x, rows, out).expect("sizes were checked");
            }
            Weights::F32 { transposed, .. } => {
                let product = Tensor::from_slice(x, (n, self.columns), &CandleDevice::Cpu)
                    .and_then(|x| x.matmul(transposed))
                    .and_then(|y| y.flatten_all()?.to_vec1::<f32>())
                    .expect("sizes were checked");
                out.copy_from_slice(&product);
            }
        }
    }

    /// Dequantizes one row.
    pub(super) fn read_row(&self, row: usize, out: &mut [f32]) {
        let span = |per_block: usize| {
            let blocks = self.columns / per_block;
            row * blocks..(row + 1) * blocks
        };
        match &self.weights {
            Weights::F32 { rows, .. } => out.copy_from_slice(&rows[span(1)]),
            Weights::Q8_0(blocks) => BlockQ8_0::to_float(&blocks[span(32)], out),
            Weights::Q4_0(blocks) => BlockQ4_0::to_float(&blocks[span(32)], out),
        }
    }
}

fn quantized<T: GgmlType>(shape: (usize, usize, usize), x: &[f32], blocks: &[T], out: &mut [f32]) {
    k_quants::matmul(shape, x, blocks, out).expect("sizes were checked");
}

/// ggml's blocks from their bytes.
fn blocks<T: GgmlType>(bytes: &[u8]) -> Vec<T> {
    let count = bytes.len() / size_of::<T>();
    let mut blocks: Vec<T> = Vec::with_capacity(count);
    // SAFETY: `TensorView::validate` has made `bytes` a whole number of blocks; `BlockQ8_0` and `BlockQ4_0`, the only
    // types used, are `repr(C)` records of integers and f16 bits, for which every bit pattern is valid.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), blocks.as_mut_ptr().cast::<u8>(), count * size_of::<T>());
        blocks.set_len(count);
    }
    blocks
}

/// All numbers of a validated tensor as f32.
pub(super) fn to_f32(tensor: &TensorView<'_>) -> Vec<f32> {
    let bytes = tensor.bytes;
    let dequantized = |numbers: usize, fill: &dyn Fn(&mut [f32])| {
        let mut out = vec![0.0; numbers];
        fill(&mut out);
        out
    };
    match tensor.encoding {
        Encoding::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Encoding::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Encoding::Bf16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Encoding::Q8_0 => dequantized(bytes.len() / 34 * 32, &|out| BlockQ8_0::to_float(&blocks(bytes), out)),
        Encoding::Q4_0 => dequantized(bytes.len() / 18 * 32, &|out| BlockQ4_0::to_float(&blocks(bytes), out)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u32, len: usize) -> Vec<f32> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 - 0.5
        };
        (0..len).map(|_| next()).collect()
    }

    fn encode(encoding: Encoding, numbers: &[f32]) -> Vec<u8> {
        fn bytes_of<T: GgmlType>(numbers: &[f32]) -> Vec<u8> {
            let mut blocks = vec![T::zeros(); numbers.len() / T::BLCK_SIZE];
            T::from_float(numbers, &mut blocks);
            let len = std::mem::size_of_val(blocks.as_slice());
            // SAFETY: plain repr(C) blocks without padding, read as bytes.
            unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast::<u8>(), len) }.to_vec()
        }
        match encoding {
            Encoding::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Encoding::F16 => numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            Encoding::Bf16 => numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            Encoding::Q8_0 => bytes_of::<BlockQ8_0>(numbers),
            Encoding::Q4_0 => bytes_of::<BlockQ4_0>(numbers),
        }
    }

    #[test]
    fn products_agree_with_the_naive_product_of_the_dequantized_matrix() {
        let encodings = [Encoding::F32, Encoding::F16, Encoding::Bf16, Encoding::Q8_0, Encoding::Q4_0];
        for (encoding, n) in encodings.into_iter().flat_map(|e| [(e, 1), (e, 3), (e, 17)]) {
            let (rows, columns) = (37, 96);
            let bytes = encode(encoding, &noise(7, rows * columns));
            let view = TensorView { name: "w", shape: &[rows, columns], encoding, bytes: &bytes };
            let matrix = CpuMatrix::new(&view).unwrap();
            let weights = to_f32(&view);
            let x = noise(9, n * columns);
            let mut out = vec![0.0; n * rows];
            matrix.multiply(&x, n, &mut out);
            for (i, got) in out.iter().enumerate() {
                let (a, b) = (i / rows * columns, i % rows * columns);
                let wanted: f32 = (0..columns).map(|k| x[a + k] * weights[b + k]).sum();
                // quantizing the activations to 8 bits costs up to 1/254 of each product
                assert!((got - wanted).abs() < 0.05, "{encoding:?} n={n} {i}: {got} against {wanted}");
            }
        }
    }

    #[test]
    fn a_row_is_read_as_it_was_stored() {
        let numbers = noise(3, 4 * 64);
        let bytes = encode(Encoding::F32, &numbers);
        let matrix =
            CpuMatrix::new(&TensorView { name: "w", shape: &[4, 64], encoding: Encoding::F32, bytes: &bytes }).unwrap();
        let mut row = vec![0.0; 64];
        matrix.read_row(2, &mut row);
        assert_eq!(row, numbers[128..192]);
    }

    #[test]
    fn wrong_sizes_are_typed_errors() {
        let view = |shape: &'static [usize], bytes: &'static [u8]| {
            CpuMatrix::new(&TensorView { name: "w", shape, encoding: Encoding::Q8_0, bytes }).err().unwrap()
        };
        assert!(matches!(view(&[2, 32], &[0; 34]), ComputeError::WrongLength { expected: 68, found: 34, .. }));
        assert!(matches!(view(&[2, 33], &[0; 34]), ComputeError::PartialBlock { columns: 33, .. }));
        assert!(matches!(view(&[32], &[0; 34]), ComputeError::NotAMatrix { .. }));
        assert!(matches!(view(&[usize::MAX, 32], &[0; 34]), ComputeError::WrongLength { .. }));
    }
}
