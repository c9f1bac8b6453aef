//! Quantized weights as the kernels read them: blocks of 32 columns, the rows of a group interleaved.
//!
//! A group block is `ROWS · DATA` bytes of weights, then `SCALES · ROWS` half-precision scales, then, where the format
//! has them, `ROWS` half-precision minimums. A weight is `scale · (stored − OFFSET) − minimum`.
//! Chunk `j` of a block, its columns `4j` to `4j + 3`, is a vector: byte `4 · row + column % 4`. Fields of fewer than
//! 8 bits share vectors: the low nibbles of vector `j` are chunk `j`, the high ones chunk `j + 4`; a plane of high bits
//! holds chunk `j`'s in the bits `j · width` of its byte, counted on through its vectors.

use super::lanes::Lanes;

/// Columns of a block.
pub(crate) const BLOCK: usize = 32;
/// Chunks of four columns in a block.
pub(super) const CHUNKS: usize = 8;

/// A block of one row, taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RowBlock {
    /// Stored weights, 0 to 63, or signed bytes for [`I8`].
    pub quants: [u8; BLOCK],
    /// Scale of the first and the second half; equal where a block has one.
    pub scales: [f32; 2],
    /// What is subtracted in the end.
    pub minimum: f32,
}

/// How the weights of a matrix are stored.
pub(super) trait Format: Copy + 'static {
    /// Bytes of a row's 32 weights.
    const DATA: usize;
    /// Scales of a row's block, 1 or 2.
    const SCALES: usize;
    /// Whether a minimum is subtracted.
    const HAS_MINIMUM: bool;
    /// What is subtracted from each stored weight.
    const OFFSET: i32;
    /// Whether the stored weights are signed bytes.
    const SIGNED: bool;

    /// Bytes of a group block of so many rows.
    fn bytes(rows: usize) -> usize {
        rows * (Self::DATA + 2 * (Self::SCALES + usize::from(Self::HAS_MINIMUM)))
    }

    /// Writes one row's weights into a zeroed group block.
    fn pack(quants: &[u8; BLOCK], row: usize, rows: usize, out: &mut [u8]);

    /// Reads one row's weights back.
    fn unpack(block: &[u8], row: usize, rows: usize) -> [u8; BLOCK];

    /// Chunk `chunk` of a group block.
    ///
    /// # Safety
    ///
    /// That of [`Lanes`]; `block` is readable for the group block.
    unsafe fn chunk<L: Lanes>(block: *const u8, chunk: usize) -> L::Bytes;
}

/// Where a vector's byte for a column of a row stands.
fn byte(vector: usize, row: usize, rows: usize, column: usize) -> usize {
    vector * 4 * rows + 4 * row + column % 4
}

/// Nibbles: Q4_0 (offset 8), and Q4_K (a minimum).
#[derive(Clone, Copy)]
pub(super) struct U4<const OFFSET: i32, const HAS_MINIMUM: bool>;
/// Nibbles and a plane of fifth bits: Q5_K.
#[derive(Clone, Copy)]
pub(super) struct U5;
/// Nibbles and a plane of two more bits, a scale for each half: Q6_K.
#[derive(Clone, Copy)]
pub(super) struct U6;
/// Signed bytes: Q8_0.
#[derive(Clone, Copy)]
pub(super) struct I8;

fn pack_nibbles(quants: &[u8; BLOCK], row: usize, rows: usize, out: &mut [u8]) {
    for (column, quant) in quants.iter().enumerate() {
        let chunk = column / 4;
        out[byte(chunk % 4, row, rows, column)] |= (quant & 15) << (chunk / 4 * 4);
    }
}

fn nibble(block: &[u8], row: usize, rows: usize, column: usize) -> u8 {
    let chunk = column / 4;
    block[byte(chunk % 4, row, rows, column)] >> (chunk / 4 * 4) & 15
}

#[inline(always)]
unsafe fn nibbles<L: Lanes>(block: *const u8, chunk: usize) -> L::Bytes {
    // SAFETY: the caller's.
    unsafe {
        let bytes = L::load(block.add(chunk % 4 * 4 * L::ROWS));
        if chunk < 4 { L::and(bytes, 15) } else { L::and(L::down::<4>(bytes), 15) }
    }
}

impl<const OFFSET: i32, const HAS_MINIMUM: bool> Format for U4<OFFSET, HAS_MINIMUM> {
    const DATA: usize = 16;
    const SCALES: usize = 1;
    const HAS_MINIMUM: bool = HAS_MINIMUM;
    const OFFSET: i32 = OFFSET;
    const SIGNED: bool = false;

    fn pack(quants: &[u8; BLOCK], row: usize, rows: usize, out: &mut [u8]) {
        pack_nibbles(quants, row, rows, out);
    }

    fn unpack(block: &[u8], row: usize, rows: usize) -> [u8; BLOCK] {
        std::array::from_fn(|column| nibble(block, row, rows, column))
    }

    #[inline(always)]
    unsafe fn chunk<L: Lanes>(block: *const u8, chunk: usize) -> L::Bytes {
        // SAFETY: the caller's.
        unsafe { nibbles::<L>(block, chunk) }
    }
}

impl Format for U5 {
    const DATA: usize = 20;
    const SCALES: usize = 1;
    const HAS_MINIMUM: bool = true;
    const OFFSET: i32 = 0;
    const SIGNED: bool = false;

    fn pack(quants: &[u8; BLOCK], row: usize, rows: usize, out: &mut [u8]) {
        pack_nibbles(quants, row, rows, out);
        for (column, quant) in quants.iter().enumerate() {
            out[byte(4, row, rows, column)] |= (quant >> 4) << (column / 4);
        }
    }

    fn unpack(block: &[u8], row: usize, rows: usize) -> [u8; BLOCK] {
        std::array::from_fn(|column| {
            let high = block[byte(4, row, rows, column)] >> (column / 4) & 1;
            nibble(block, row, rows, column) | high << 4
        })
    }

    #[inline(always)]
    unsafe fn chunk<L: Lanes>(block: *const u8, chunk: usize) -> L::Bytes {
        // SAFETY: the caller's.
        unsafe {
            let plane = L::load(block.add(16 * L::ROWS));
            let high = match chunk {
                0 => L::up::<4>(plane),
                1 => L::up::<3>(plane),
                2 => L::up::<2>(plane),
                3 => L::up::<1>(plane),
                4 => plane,
                5 => L::down::<1>(plane),
                6 => L::down::<2>(plane),
                _ => L::down::<3>(plane),
            };
            L::or(nibbles::<L>(block, chunk), L::and(high, 16))
        }
    }
}

impl Format for U6 {
    const DATA: usize = 24;
    const SCALES: usize = 2;
    const HAS_MINIMUM: bool = false;
    const OFFSET: i32 = 32;
    const SIGNED: bool = false;

    fn pack(quants: &[u8; BLOCK], row: usize, rows: usize, out: &mut [u8]) {
        pack_nibbles(quants, row, rows, out);
        for (column, quant) in quants.iter().enumerate() {
            let chunk = column / 4;
            out[byte(4 + chunk / 4, row, rows, column)] |= (quant >> 4) << (chunk % 4 * 2);
        }
    }

    fn unpack(block: &[u8], row: usize, rows: usize) -> [u8; BLOCK] {
        std::array::from_fn(|column| {
            let chunk = column / 4;
            let high = block[byte(4 + chunk / 4, row, rows, column)] >> (chunk % 4 * 2) & 3;
            nibble(block, row, rows, column) | high << 4
        })
    }

    #[inline(always)]
    unsafe fn chunk<L: Lanes>(block: *const u8, chunk: usize) -> L::Bytes {
        // SAFETY: the caller's.
        unsafe {
            let plane = L::load(block.add((16 + chunk / 4 * 4) * L::ROWS));
            let high = match chunk % 4 {
                0 => L::up::<4>(plane),
                1 => L::up::<2>(plane),
                2 => plane,
                _ => L::down::<2>(plane),
            };
            L::or(nibbles::<L>(block, chunk), L::and(high, 48))
        }
    }
}

impl Format for I8 {
    const DATA: usize = 32;
    const SCALES: usize = 1;
    const HAS_MINIMUM: bool = false;
    const OFFSET: i32 = 0;
    const SIGNED: bool = true;

    fn pack(quants: &[u8; BLOCK], row: usize, rows: usize, out: &mut [u8]) {
        for (column, quant) in quants.iter().enumerate() {
            out[byte(column / 4, row, rows, column)] = *quant;
        }
    }

    fn unpack(block: &[u8], row: usize, rows: usize) -> [u8; BLOCK] {
        std::array::from_fn(|column| block[byte(column / 4, row, rows, column)])
    }

    #[inline(always)]
    unsafe fn chunk<L: Lanes>(block: *const u8, chunk: usize) -> L::Bytes {
        // SAFETY: the caller's.
        unsafe { L::load(block.add(chunk * 4 * L::ROWS)) }
    }
}
