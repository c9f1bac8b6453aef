//! WebAssembly's 128-bit vectors, with the relaxed dot product where the build has it.

use std::arch::wasm32::*;

use super::Lanes;

/// Four rows.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Wasm;

/// Half-precision bits moved to their place in single precision are too small by this factor: the exponents' biases
/// differ by 112.
const HALF_TO_SINGLE: f32 = f32::from_bits((127 + 112) << 23);

/// Both dot products without relaxed SIMD: weights are widened to 16 bits, and so are the activations when they are
/// arranged. A vector then holds four columns of two rows, so the sums of four rows are two vectors of pairs.
#[cfg(not(target_feature = "relaxed-simd"))]
mod dots {
    use super::*;

    pub const ACTIVATION_BYTES: usize = 64;
    pub const CHUNK_BYTES: usize = 8;
    pub type Sums = (v128, v128);

    pub fn arrange(quants: &[i8; 32], out: &mut [u8]) {
        for (quant, out) in quants.iter().zip(out.chunks_exact_mut(2)) {
            out.copy_from_slice(&i16::from(*quant).to_le_bytes());
        }
    }

    #[inline(always)]
    pub fn zero() -> Sums {
        (i32x4_splat(0), i32x4_splat(0))
    }

    #[inline(always)]
    pub unsafe fn unsigned(sums: Sums, weights: v128, activations: *const u8) -> Sums {
        // SAFETY: a chunk has eight bytes.
        let a = unsafe { v128_load64_splat(activations.cast()) };
        let low = i32x4_dot_i16x8(i16x8_extend_low_u8x16(weights), a);
        let high = i32x4_dot_i16x8(i16x8_extend_high_u8x16(weights), a);
        (i32x4_add(sums.0, low), i32x4_add(sums.1, high))
    }

    #[inline(always)]
    pub unsafe fn signed(sums: Sums, weights: v128, activations: *const u8) -> Sums {
        // SAFETY: a chunk has eight bytes.
        let a = unsafe { v128_load64_splat(activations.cast()) };
        let low = i32x4_dot_i16x8(i16x8_extend_low_i8x16(weights), a);
        let high = i32x4_dot_i16x8(i16x8_extend_high_i8x16(weights), a);
        (i32x4_add(sums.0, low), i32x4_add(sums.1, high))
    }

    #[inline(always)]
    pub fn finish((low, high): Sums) -> v128 {
        let even = i32x4_shuffle::<0, 2, 4, 6>(low, high);
        let odd = i32x4_shuffle::<1, 3, 5, 7>(low, high);
        i32x4_add(even, odd)
    }
}

/// With relaxed SIMD: `i32x4.relaxed_dot_i8x16_i7x16_add_s` is one instruction on current processors, but only defined
/// when one side is 0 to 127. Weights of 4 to 6 bits are that side; signed weights meet the activations' positive and
/// negative parts in turn.
#[cfg(target_feature = "relaxed-simd")]
mod dots {
    use super::*;

    /// Three planes: the activations, their positive parts, their negative parts turned positive.
    pub const ACTIVATION_BYTES: usize = 96;
    pub const CHUNK_BYTES: usize = 4;
    pub type Sums = (v128, v128);

    pub fn arrange(quants: &[i8; 32], out: &mut [u8]) {
        for (i, &quant) in quants.iter().enumerate() {
            out[i] = quant as u8;
            out[32 + i] = quant.max(0) as u8;
            out[64 + i] = (-quant).max(0) as u8; // quants are -127 to 127
        }
    }

    #[inline(always)]
    pub fn zero() -> Sums {
        (i32x4_splat(0), i32x4_splat(0))
    }

    #[inline(always)]
    pub unsafe fn unsigned(sums: Sums, weights: v128, activations: *const u8) -> Sums {
        // SAFETY: the chunk lies in the first plane.
        let a = unsafe { v128_load32_splat(activations.cast()) };
        (i32x4_relaxed_dot_i8x16_i7x16_add(a, weights, sums.0), sums.1)
    }

    #[inline(always)]
    pub unsafe fn signed(sums: Sums, weights: v128, activations: *const u8) -> Sums {
        // SAFETY: the second and third plane follow the chunk's own.
        let (positive, negative) =
            unsafe { (v128_load32_splat(activations.add(32).cast()), v128_load32_splat(activations.add(64).cast())) };
        (
            i32x4_relaxed_dot_i8x16_i7x16_add(weights, positive, sums.0),
            i32x4_relaxed_dot_i8x16_i7x16_add(weights, negative, sums.1),
        )
    }

    #[inline(always)]
    pub fn finish((positive, negative): Sums) -> v128 {
        i32x4_sub(positive, negative)
    }
}

impl Lanes for Wasm {
    const ROWS: usize = 4;
    const ACTIVATION_BYTES: usize = dots::ACTIVATION_BYTES;
    const CHUNK_BYTES: usize = dots::CHUNK_BYTES;
    const SIGNED_BIAS: i32 = 0;
    const TOKENS: usize = 4;

    type Bytes = v128;
    type Sums = dots::Sums;
    type Floats = v128;

    fn arrange(quants: &[i8; 32], out: &mut [u8]) {
        dots::arrange(quants, out);
    }

    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    fn arrange_chunk(quants: &[i8], out: &mut [u8]) {
        for (quant, out) in quants.iter().zip(out.chunks_exact_mut(2)) {
            out.copy_from_slice(&i16::from(*quant).to_le_bytes());
        }
    }

    #[inline(always)]
    unsafe fn load(at: *const u8) -> v128 {
        // SAFETY: readable for 16 bytes by the trait's contract.
        unsafe { v128_load(at.cast()) }
    }
    #[inline(always)]
    unsafe fn and(bytes: v128, mask: u8) -> v128 {
        v128_and(bytes, u8x16_splat(mask))
    }
    #[inline(always)]
    unsafe fn or(a: v128, b: v128) -> v128 {
        v128_or(a, b)
    }
    #[inline(always)]
    unsafe fn up<const N: i32>(bytes: v128) -> v128 {
        u16x8_shl(bytes, N as u32)
    }
    #[inline(always)]
    unsafe fn down<const N: i32>(bytes: v128) -> v128 {
        u16x8_shr(bytes, N as u32)
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        dots::zero()
    }
    #[inline(always)]
    unsafe fn dot_unsigned(sums: Self::Sums, weights: v128, activations: *const u8) -> Self::Sums {
        // SAFETY: the trait's contract.
        unsafe { dots::unsigned(sums, weights, activations) }
    }
    #[inline(always)]
    unsafe fn dot_signed(sums: Self::Sums, weights: v128, activations: *const u8) -> Self::Sums {
        // SAFETY: the trait's contract.
        unsafe { dots::signed(sums, weights, activations) }
    }
    #[inline(always)]
    unsafe fn finish(sums: Self::Sums) -> v128 {
        f32x4_convert_i32x4(dots::finish(sums))
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> v128 {
        f32x4_splat(x)
    }
    #[inline(always)]
    unsafe fn load_f32(at: *const f32) -> v128 {
        // SAFETY: readable for 4 numbers by the trait's contract.
        unsafe { v128_load(at.cast()) }
    }
    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> v128 {
        // SAFETY: readable for 4 numbers by the trait's contract.
        let bits = i32x4_shr(i32x4_shl(unsafe { i32x4_load_extend_u16x4(at) }, 16), 3);
        // The arithmetic shift has copied the sign over the two bits below it.
        f32x4_mul(v128_and(bits, u32x4_splat(0x8fff_e000)), f32x4_splat(HALF_TO_SINGLE))
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(at: *const u16) -> [v128; 2] {
        // SAFETY: readable for 4 pairs by the trait's contract.
        let pairs = unsafe { v128_load(at.cast()) };
        [i32x4_shl(pairs, 16), v128_and(pairs, u32x4_splat(0xffff_0000))]
    }
    #[inline(always)]
    unsafe fn store(x: v128, at: *mut f32) {
        // SAFETY: writable for 4 numbers by the trait's contract.
        unsafe { v128_store(at.cast(), x) }
    }
    #[inline(always)]
    unsafe fn add(a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }
    #[inline(always)]
    unsafe fn mul_add(a: v128, b: v128, c: v128) -> v128 {
        #[cfg(target_feature = "relaxed-simd")]
        return f32x4_relaxed_madd(a, b, c);
        #[cfg(not(target_feature = "relaxed-simd"))]
        f32x4_add(f32x4_mul(a, b), c)
    }
}
