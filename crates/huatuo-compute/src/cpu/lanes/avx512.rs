//! 512-bit vectors with VNNI.

use std::arch::x86_64::*;

use super::Lanes;

/// Sixteen rows; dot products in one instruction.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Avx512Vnni;

// SAFETY of all of the following: the trait's contract, word for word.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Lanes for Avx512Vnni {
    const ROWS: usize = 16;
    const ACTIVATION_BYTES: usize = 32;
    const CHUNK_BYTES: usize = 4;
    const SIGNED_BIAS: i32 = 128;
    const TOKENS: usize = 8;

    type Bytes = __m512i;
    type Sums = __m512i;
    type Floats = __m512;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(at.cast()) }
    }
    #[inline(always)]
    unsafe fn and(bytes: __m512i, mask: u8) -> __m512i {
        unsafe { _mm512_and_si512(bytes, _mm512_set1_epi8(mask as i8)) }
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn up<const N: i32>(bytes: __m512i) -> __m512i {
        unsafe { _mm512_sll_epi16(bytes, _mm_cvtsi32_si128(N)) }
    }
    #[inline(always)]
    unsafe fn down<const N: i32>(bytes: __m512i) -> __m512i {
        unsafe { _mm512_srl_epi16(bytes, _mm_cvtsi32_si128(N)) }
    }
    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn dot_unsigned(sums: __m512i, weights: __m512i, activations: *const u8) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, weights, _mm512_set1_epi32(activations.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn dot_signed(sums: __m512i, weights: __m512i, activations: *const u8) -> __m512i {
        unsafe { Self::dot_unsigned(sums, weights, activations) }
    }
    #[inline(always)]
    unsafe fn finish(sums: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load_f32(at: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(at: *const u16) -> [__m512; 2] {
        unsafe {
            let pairs = _mm512_castps_si512(_mm512_loadu_ps(at.cast()));
            let (first, second) = (_mm512_slli_epi32(pairs, 16), _mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
            [_mm512_castsi512_ps(first), _mm512_castsi512_ps(second)]
        }
    }
    #[inline(always)]
    unsafe fn store(x: __m512, at: *mut f32) {
        unsafe { _mm512_storeu_ps(at, x) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
}
