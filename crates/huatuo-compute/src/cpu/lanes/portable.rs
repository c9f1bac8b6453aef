//! Plain arithmetic that any compiler vectorises: the oracle of the other instruction sets, and the one for the rest.

use half::{bf16, f16};

use super::Lanes;

/// Four rows, no intrinsics.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Portable;

fn each<const N: usize, T: Copy, U>(a: [T; N], b: [T; N], f: impl Fn(T, T) -> U) -> [U; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// Bits of 16-bit pairs moved as the vector instructions move them.
fn shift(bytes: [u8; 16], f: impl Fn(u16) -> u16) -> [u8; 16] {
    let mut out = [0; 16];
    for (pair, out) in bytes.chunks_exact(2).zip(out.chunks_exact_mut(2)) {
        out.copy_from_slice(&f(u16::from_le_bytes([pair[0], pair[1]])).to_le_bytes());
    }
    out
}

fn dot(sums: [i32; 4], weight: impl Fn(usize) -> i32, activations: [i8; 4]) -> [i32; 4] {
    std::array::from_fn(|row| sums[row] + (0..4).map(|k| weight(row * 4 + k) * i32::from(activations[k])).sum::<i32>())
}

impl Lanes for Portable {
    const ROWS: usize = 4;
    const ACTIVATION_BYTES: usize = 32;
    const CHUNK_BYTES: usize = 4;
    const SIGNED_BIAS: i32 = 0;
    const TOKENS: usize = 4;

    type Bytes = [u8; 16];
    type Sums = [i32; 4];
    type Floats = [f32; 4];

    unsafe fn load(at: *const u8) -> [u8; 16] {
        // SAFETY: readable for 16 bytes by the trait's contract.
        unsafe { at.cast::<[u8; 16]>().read_unaligned() }
    }
    unsafe fn and(bytes: [u8; 16], mask: u8) -> [u8; 16] {
        bytes.map(|byte| byte & mask)
    }
    unsafe fn or(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
        each(a, b, |a, b| a | b)
    }
    unsafe fn up<const N: i32>(bytes: [u8; 16]) -> [u8; 16] {
        shift(bytes, |pair| pair << N)
    }
    unsafe fn down<const N: i32>(bytes: [u8; 16]) -> [u8; 16] {
        shift(bytes, |pair| pair >> N)
    }

    unsafe fn zero() -> [i32; 4] {
        [0; 4]
    }
    unsafe fn dot_unsigned(sums: [i32; 4], weights: [u8; 16], activations: *const u8) -> [i32; 4] {
        // SAFETY: a chunk has four bytes by the trait's contract.
        let activations = unsafe { activations.cast::<[i8; 4]>().read_unaligned() };
        dot(sums, |i| i32::from(weights[i]), activations)
    }
    unsafe fn dot_signed(sums: [i32; 4], weights: [u8; 16], activations: *const u8) -> [i32; 4] {
        // SAFETY: as above.
        let activations = unsafe { activations.cast::<[i8; 4]>().read_unaligned() };
        dot(sums, |i| i32::from(weights[i] as i8), activations)
    }
    unsafe fn finish(sums: [i32; 4]) -> [f32; 4] {
        sums.map(|sum| sum as f32)
    }

    unsafe fn splat(x: f32) -> [f32; 4] {
        [x; 4]
    }
    unsafe fn load_f32(at: *const f32) -> [f32; 4] {
        // SAFETY: readable for 4 numbers by the trait's contract.
        unsafe { at.cast::<[f32; 4]>().read_unaligned() }
    }
    unsafe fn load_f16(at: *const u16) -> [f32; 4] {
        // SAFETY: readable for 4 numbers by the trait's contract.
        unsafe { at.cast::<[u16; 4]>().read_unaligned() }.map(|bits| f16::from_bits(bits).to_f32())
    }
    unsafe fn load_bf16_pairs(at: *const u16) -> [[f32; 4]; 2] {
        // SAFETY: readable for 4 pairs by the trait's contract.
        let pairs = unsafe { at.cast::<[[u16; 2]; 4]>().read_unaligned() };
        [0, 1].map(|which| pairs.map(|pair| bf16::from_bits(pair[which]).to_f32()))
    }
    unsafe fn store(x: [f32; 4], at: *mut f32) {
        // SAFETY: writable for 4 numbers by the trait's contract.
        unsafe { at.cast::<[f32; 4]>().write_unaligned(x) }
    }
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(a, b, |a, b| a + b)
    }
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(a, b, |a, b| a * b)
    }
    unsafe fn mul_add(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
}
