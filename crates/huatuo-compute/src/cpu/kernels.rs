//! The instruction set of this processor, chosen once.

use super::activations::Activations;
use super::attention::{self, Call};
use super::format::{I8, U4, U5, U6};
use super::lanes::Lanes;
use super::panels;
use super::pointwise;
use super::pool::Pool;
use super::product::{self, Job};
use super::stretch::{self, StretchActivations};
use super::tiles::{self, TileActivations};
use crate::Encoding;

/// Functions compiled for one instruction set.
pub(super) struct Kernels {
    /// For people: the status line and the benchmarks.
    pub name: &'static str,
    /// Rows of a group.
    pub rows: usize,
    /// What signed weights are stored with added.
    pub signed_bias: i32,
    /// Quantizes activations of so many columns.
    pub quantize: fn(&[f32], usize, &Pool) -> Activations,
    quantized: unsafe fn(Encoding, &Job<'_>, &Activations),
    panels: unsafe fn(Encoding, &Job<'_>, &[f32]),
    /// Whether so many tokens of so many columns are multiplied with bfloat16 weights by matrix instructions.
    pub takes_tiles: fn(usize, usize) -> bool,
    /// That product.
    ///
    /// # Safety
    ///
    /// As [`Self::quantized`], only where [`Self::takes_tiles`] says so.
    pub tiles: unsafe fn(&Job<'_>, &TileActivations),
    /// Quantizes activations of so many columns for weights with a scale a stretch.
    pub quantize_stretches: fn(&[f32], usize, &Pool) -> StretchActivations,
    stretches: unsafe fn(&Job<'_>, &StretchActivations),
    attention: unsafe fn(&Call<'_>, usize, usize),
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    silu_mul: unsafe fn(&mut [f32], &[f32]),
    gelu: unsafe fn(&mut [f32]),
}

impl Kernels {
    /// # Safety
    ///
    /// `job` as [`product::quantized`] asks for, packed for these kernels; the processor was checked by
    /// [`best`] or [`available`].
    pub unsafe fn quantized(&self, encoding: Encoding, job: &Job<'_>, activations: &Activations) {
        // SAFETY: the caller's.
        unsafe { (self.quantized)(encoding, job, activations) }
    }

    /// # Safety
    ///
    /// As [`Self::quantized`].
    pub unsafe fn panels(&self, encoding: Encoding, job: &Job<'_>, x: &[f32]) {
        // SAFETY: the caller's.
        unsafe { (self.panels)(encoding, job, x) }
    }

    /// # Safety
    ///
    /// As [`Self::quantized`].
    pub unsafe fn stretches(&self, job: &Job<'_>, activations: &StretchActivations) {
        // SAFETY: the caller's.
        unsafe { (self.stretches)(job, activations) }
    }

    /// # Safety
    ///
    /// As [`attention::task`], the processor as above.
    pub unsafe fn attention(&self, call: &Call<'_>, kv_head: usize, tile: usize) {
        // SAFETY: the caller's.
        unsafe { (self.attention)(call, kv_head, tile) }
    }

    /// # Safety
    ///
    /// The processor was checked, as above.
    pub unsafe fn rms_norm(&self, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe { (self.rms_norm)(x, weight, epsilon, out) }
    }

    /// # Safety
    ///
    /// The processor was checked, as above.
    pub unsafe fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        // SAFETY: the caller's.
        unsafe { (self.silu_mul)(gate, up) }
    }

    /// # Safety
    ///
    /// The processor was checked, as above.
    pub unsafe fn gelu(&self, x: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe { (self.gelu)(x) }
    }
}

/// One arm a stored format.
#[inline(always)]
unsafe fn any_format<L: Lanes>(encoding: Encoding, job: &Job<'_>, activations: &Activations) {
    // SAFETY: the caller's.
    unsafe {
        match encoding {
            Encoding::Q8_0 => product::quantized::<L, I8>(job, activations),
            Encoding::Q4_0 => product::quantized::<L, U4<8, false>>(job, activations),
            Encoding::Q4K => product::quantized::<L, U4<0, true>>(job, activations),
            Encoding::Q5K => product::quantized::<L, U5>(job, activations),
            Encoding::Q6K => product::quantized::<L, U6>(job, activations),
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => unreachable!("not quantized"),
        }
    }
}

/// A set of kernels whose functions are compiled with the named target features.
macro_rules! kernels {
    ($name:ident, $lanes:ty, $shown:literal, $takes_tiles:expr $(, $features:literal)?) => {
        static $name: Kernels = {
            // SAFETY of all: run only after the processor was checked for the features.
            $(#[target_feature(enable = $features)])?
            unsafe fn quantized(encoding: Encoding, job: &Job<'_>, activations: &Activations) {
                // SAFETY: the caller's.
                unsafe { any_format::<$lanes>(encoding, job, activations) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn panels(encoding: Encoding, job: &Job<'_>, x: &[f32]) {
                // SAFETY: the caller's.
                unsafe { panels::multiply::<$lanes>(encoding, job, x) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn stretches(job: &Job<'_>, activations: &StretchActivations) {
                // SAFETY: the caller's.
                unsafe { stretch::multiply::<$lanes>(job, activations) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn attention(call: &Call<'_>, kv_head: usize, tile: usize) {
                // SAFETY: the caller's.
                unsafe { attention::task::<$lanes>(call, kv_head, tile) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
                pointwise::rms_norm(x, weight, epsilon, out);
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn silu_mul(gate: &mut [f32], up: &[f32]) {
                pointwise::silu_mul(gate, up);
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn gelu(x: &mut [f32]) {
                pointwise::gelu(x);
            }
            Kernels {
                name: $shown,
                rows: <$lanes as Lanes>::ROWS,
                signed_bias: <$lanes as Lanes>::SIGNED_BIAS,
                quantize: Activations::quantize::<$lanes>,
                quantized,
                panels,
                takes_tiles: $takes_tiles,
                tiles: tiles::multiply,
                quantize_stretches: StretchActivations::quantize::<$lanes>,
                stretches,
                attention,
                rms_norm,
                silu_mul,
                gelu,
            }
        };
    };
}

#[cfg(not(target_arch = "wasm32"))]
kernels!(PORTABLE, super::lanes::portable::Portable, "portable", tiles::never);
#[cfg(target_arch = "x86_64")]
kernels!(AVX2, super::lanes::avx2::Avx2, "AVX2", tiles::never, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
kernels!(AVX_VNNI, super::lanes::avx2::AvxVnni, "AVX-VNNI", tiles::never, "avx2,fma,f16c,avxvnni");
#[cfg(target_arch = "x86_64")]
kernels!(
    AVX512_VNNI,
    super::lanes::avx512::Avx512Vnni,
    "AVX-512 VNNI",
    tiles::never,
    "avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c"
);
#[cfg(target_arch = "x86_64")]
kernels!(
    AMX,
    super::lanes::avx512::Avx512Vnni,
    "AVX-512 VNNI and AMX",
    tiles::take,
    "avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c"
);

#[cfg(all(target_arch = "wasm32", not(target_feature = "relaxed-simd")))]
kernels!(WASM, super::lanes::wasm::Wasm, "WebAssembly SIMD", tiles::never);
#[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
kernels!(WASM, super::lanes::wasm::Wasm, "WebAssembly relaxed SIMD", tiles::never);

/// All kernels that this processor can run, the fastest first.
#[cfg(target_arch = "x86_64")]
pub(super) fn available() -> Vec<&'static Kernels> {
    let mut kernels = Vec::new();
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
    {
        if tiles::are_there() {
            kernels.push(&AMX);
        }
        kernels.push(&AVX512_VNNI);
    }
    let has_avx2 =
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    if has_avx2 && is_x86_feature_detected!("avxvnni") {
        kernels.push(&AVX_VNNI);
    }
    if has_avx2 {
        kernels.push(&AVX2);
    }
    kernels.push(&PORTABLE);
    kernels
}

/// All kernels that this processor can run, the fastest first.
#[cfg(target_arch = "wasm32")]
pub(super) fn available() -> Vec<&'static Kernels> {
    vec![&WASM]
}

/// All kernels that this processor can run, the fastest first.
#[cfg(not(any(target_arch = "x86_64", target_arch = "wasm32")))]
pub(super) fn available() -> Vec<&'static Kernels> {
    vec![&PORTABLE]
}

/// The fastest kernels that this processor can run.
pub(super) fn best() -> &'static Kernels {
    available()[0]
}
