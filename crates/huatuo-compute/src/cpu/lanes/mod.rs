//! An instruction set as the kernels see it: 32-bit lanes side by side, one output row a lane.
//!
//! The kernels are written once over [`Lanes`]; each file here is the thin wrapper of one instruction set. Weights are
//! interleaved so that a vector holds four neighbouring columns of [`Lanes::ROWS`] rows: a dot product then needs no
//! sum across lanes, and the four activations it meets are one 32-bit broadcast.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(not(target_arch = "wasm32"))]
pub(super) mod portable;
#[cfg(target_arch = "wasm32")]
pub(super) mod wasm;

/// Vectors of one instruction set.
///
/// # Safety
///
/// Every method may only run on a processor that has the instruction set; pointers must be readable (writable for
/// stores) for the width that the method names.
pub(super) trait Lanes: Copy + 'static {
    /// Rows side by side, the number of 32-bit lanes.
    const ROWS: usize;
    /// Bytes of a block of 32 quantized activations in the form that the dot products read.
    const ACTIVATION_BYTES: usize;
    /// Bytes of the four activations of one chunk in that form.
    const CHUNK_BYTES: usize;
    /// What signed weights are stored with added to them, so that unsigned dot products can read them.
    const SIGNED_BIAS: i32;
    /// Tokens whose sums fit the registers beside the weights.
    const TOKENS: usize;

    /// `4 · ROWS` bytes of weights.
    type Bytes: Copy;
    /// Running integer sums, one a row, in whatever parts the instruction set adds fastest.
    type Sums: Copy;
    /// One f32 a row.
    type Floats: Copy;

    /// Writes a block of 32 activations in the form that the dot products read: as they are, where nothing else is said.
    fn arrange(quants: &[i8; 32], out: &mut [u8]) {
        out.iter_mut().zip(quants).for_each(|(o, q)| *o = *q as u8);
    }

    /// Writes the four activations of one chunk, [`Self::CHUNK_BYTES`], as [`Self::dot_unsigned`] reads them.
    #[inline(always)]
    fn arrange_chunk(quants: &[i8], out: &mut [u8]) {
        out.iter_mut().zip(quants).for_each(|(o, q)| *o = *q as u8);
    }

    /// Reads `4 · ROWS` bytes.
    unsafe fn load(at: *const u8) -> Self::Bytes;
    /// Each byte's bits under a mask.
    unsafe fn and(bytes: Self::Bytes, mask: u8) -> Self::Bytes;
    /// Both bytes' bits.
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Bits moved up inside 16-bit pairs: mask afterwards.
    unsafe fn up<const N: i32>(bytes: Self::Bytes) -> Self::Bytes;
    /// Bits moved down inside 16-bit pairs: mask afterwards.
    unsafe fn down<const N: i32>(bytes: Self::Bytes) -> Self::Bytes;

    /// No sums yet.
    unsafe fn zero() -> Self::Sums;
    /// Adds the products of four columns; weights are 0 to 127, activations -127 to 127; these stand at the start of a chunk.
    unsafe fn dot_unsigned(sums: Self::Sums, weights: Self::Bytes, activations: *const u8) -> Self::Sums;
    /// Adds the products of four columns; weights are signed bytes, stored with [`Self::SIGNED_BIAS`] added.
    unsafe fn dot_signed(sums: Self::Sums, weights: Self::Bytes, activations: *const u8) -> Self::Sums;
    /// The sums as numbers.
    unsafe fn finish(sums: Self::Sums) -> Self::Floats;

    /// One number for every row.
    unsafe fn splat(x: f32) -> Self::Floats;
    /// Reads `ROWS` numbers.
    unsafe fn load_f32(at: *const f32) -> Self::Floats;
    /// Reads `ROWS` half-precision numbers.
    unsafe fn load_f16(at: *const u16) -> Self::Floats;
    /// Reads `ROWS` pairs of bfloat16 numbers: the first of each, and the second.
    unsafe fn load_bf16_pairs(at: *const u16) -> [Self::Floats; 2];
    /// Writes `ROWS` numbers.
    unsafe fn store(x: Self::Floats, at: *mut f32);
    /// `a + b`.
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a · b`.
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a · b + c`, rounded once where the instruction set can.
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
}
