//! 256-bit vectors: AVX2 with FMA and F16C, which every x86-64 processor since 2015 has, and AVX-VNNI.

use std::arch::x86_64::*;

use super::Lanes;

/// Eight rows; dot products in three instructions.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Avx2;

/// Eight rows; dot products in one instruction.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct AvxVnni;

/// Four neighbouring activations in every lane.
#[inline(always)]
unsafe fn broadcast(activations: *const u8) -> __m256i {
    // SAFETY: a chunk has four bytes by the trait's contract.
    unsafe { _mm256_set1_epi32(activations.cast::<i32>().read_unaligned()) }
}

/// `sums + Σ₄ unsigned · signed`; pairs stay below 2¹⁵ when the unsigned side is at most 128.
#[inline(always)]
unsafe fn multiply_add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    // SAFETY: the processor has AVX2 by the trait's contract.
    unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned, signed), _mm256_set1_epi16(1))) }
}

/// What both kinds have in common.
macro_rules! shared {
    () => {
        const ROWS: usize = 8;
        const ACTIVATION_BYTES: usize = 32;
        const CHUNK_BYTES: usize = 4;
        const TOKENS: usize = 4;

        type Bytes = __m256i;
        type Sums = __m256i;
        type Floats = __m256;

        // SAFETY of all of the following: the trait's contract, word for word.
        #[inline(always)]
        unsafe fn load(at: *const u8) -> __m256i {
            unsafe { _mm256_loadu_si256(at.cast()) }
        }
        #[inline(always)]
        unsafe fn and(bytes: __m256i, mask: u8) -> __m256i {
            unsafe { _mm256_and_si256(bytes, _mm256_set1_epi8(mask as i8)) }
        }
        #[inline(always)]
        unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
            unsafe { _mm256_or_si256(a, b) }
        }
        #[inline(always)]
        unsafe fn up<const N: i32>(bytes: __m256i) -> __m256i {
            unsafe { _mm256_slli_epi16::<N>(bytes) }
        }
        #[inline(always)]
        unsafe fn down<const N: i32>(bytes: __m256i) -> __m256i {
            unsafe { _mm256_srli_epi16::<N>(bytes) }
        }
        #[inline(always)]
        unsafe fn zero() -> __m256i {
            unsafe { _mm256_setzero_si256() }
        }
        #[inline(always)]
        unsafe fn finish(sums: __m256i) -> __m256 {
            unsafe { _mm256_cvtepi32_ps(sums) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load_f32(at: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(at) }
        }
        #[inline(always)]
        unsafe fn load_f16(at: *const u16) -> __m256 {
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
        }
        #[inline(always)]
        unsafe fn load_bf16_pairs(at: *const u16) -> [__m256; 2] {
            unsafe {
                let pairs = _mm256_loadu_si256(at.cast());
                let (first, second) =
                    (_mm256_slli_epi32(pairs, 16), _mm256_and_si256(pairs, _mm256_set1_epi32(-65536)));
                [_mm256_castsi256_ps(first), _mm256_castsi256_ps(second)]
            }
        }
        #[inline(always)]
        unsafe fn store(x: __m256, at: *mut f32) {
            unsafe { _mm256_storeu_ps(at, x) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
    };
}

#[allow(clippy::undocumented_unsafe_blocks)] // said once in the macro
impl Lanes for Avx2 {
    shared!();

    const SIGNED_BIAS: i32 = 0;

    #[inline(always)]
    unsafe fn dot_unsigned(sums: __m256i, weights: __m256i, activations: *const u8) -> __m256i {
        unsafe { multiply_add(sums, weights, broadcast(activations)) }
    }
    #[inline(always)]
    unsafe fn dot_signed(sums: __m256i, weights: __m256i, activations: *const u8) -> __m256i {
        // |w| · (a with w's sign): -128 becomes 128 as an unsigned byte, which is right.
        unsafe { multiply_add(sums, _mm256_abs_epi8(weights), _mm256_sign_epi8(broadcast(activations), weights)) }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // said once in the macro
impl Lanes for AvxVnni {
    shared!();

    const SIGNED_BIAS: i32 = 128;

    #[inline(always)]
    unsafe fn dot_unsigned(sums: __m256i, weights: __m256i, activations: *const u8) -> __m256i {
        unsafe { _mm256_dpbusd_avx_epi32(sums, weights, broadcast(activations)) }
    }
    #[inline(always)]
    unsafe fn dot_signed(sums: __m256i, weights: __m256i, activations: *const u8) -> __m256i {
        unsafe { Self::dot_unsigned(sums, weights, activations) }
    }
}
