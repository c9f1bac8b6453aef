//! Weights as they stand in a file.

use crate::ComputeError;

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// ggml's blocks of 32: one f16 scale, 32 signed bytes.
    Q8_0,
    /// ggml's blocks of 32: one f16 scale, 32 signed nibbles.
    Q4_0,
    /// ggml's blocks of 256: 8 sub-blocks of nibbles, each with a 6-bit scale and minimum.
    Q4K,
    /// ggml's blocks of 256: 8 sub-blocks of 5 bits, each with a 6-bit scale and minimum.
    Q5K,
    /// ggml's blocks of 256: 16 sub-blocks of 6 signed bits, each with an 8-bit scale.
    Q6K,
}

impl Encoding {
    /// Each way to store numbers, in the order of declaration.
    pub const ALL: [Self; 8] =
        [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q4_0, Self::Q4K, Self::Q5K, Self::Q6K];

    /// Numbers in a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 | Self::Q4_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }
}

/// A tensor's bytes with what is needed to read them; rows are contiguous, the last dimension runs fastest.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Name in the file, for messages.
    pub name: &'a str,
    /// Dimensions, slowest first: `[rows, columns]` for a matrix.
    pub shape: &'a [usize],
    /// How the numbers are stored.
    pub encoding: Encoding,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl TensorView<'_> {
    /// Checks shape against bytes, overflow included.
    pub fn validate(&self) -> Result<(), ComputeError> {
        let expected = tensor_bytes(self.name, self.shape, self.encoding)?;
        if expected == Some(self.bytes.len()) {
            return Ok(());
        }
        Err(ComputeError::WrongLength {
            name: self.name.to_owned(),
            shape: self.shape.to_vec(),
            encoding: self.encoding,
            expected: expected.unwrap_or(usize::MAX),
            found: self.bytes.len(),
        })
    }
}

/// Bytes of a tensor, `None` when their number overflows; rows must be whole blocks.
pub(crate) fn tensor_bytes(name: &str, shape: &[usize], encoding: Encoding) -> Result<Option<usize>, ComputeError> {
    let (block, columns) = (encoding.block_len(), shape.last().copied().unwrap_or(1));
    if columns % block != 0 {
        return Err(ComputeError::PartialBlock { name: name.to_owned(), columns, block, encoding });
    }
    let numbers = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    Ok(numbers.and_then(|n| (n / block).checked_mul(encoding.block_bytes())))
}
