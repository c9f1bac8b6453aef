//! Products with bfloat16 weights by x86's matrix instructions (AMX): sixteen tokens meet sixteen rows at once.
//!
//! Activations are rounded to bfloat16, as for all products with such weights (see [`super::panels::round`]). Weights are read where
//! they stand, in pairs of columns (see [`super::panels`]). The instructions are written as assembly: the compiler has them on its
//! unstable channel only.
//!
//! Source: Intel, "Architecture Instruction Set Extensions Programming Reference", chapter 3.

use std::mem::MaybeUninit;
use std::ops::Range;

use half::bf16;

use super::pool::Pool;
#[cfg(target_arch = "x86_64")]
use super::product::Job;

/// Tokens of a tile, and rows of a matrix.
const SIDE: usize = 16;
/// Columns of a tile of numbers of two bytes.
const COLUMNS: usize = 32;
/// Numbers of a tile of activations.
const TILE: usize = SIDE * COLUMNS;
/// Numbers below which splitting is not worth sharing among threads.
const LEAST_SHARED: usize = 1 << 13;
/// Tokens from which on matrix instructions are faster than vectors.
#[cfg(target_arch = "x86_64")]
const LEAST_TOKENS: usize = 4;

/// Never, on processors without them.
pub(super) fn never(_: usize, _: usize) -> bool {
    false
}

/// Where they are faster.
#[cfg(target_arch = "x86_64")]
pub(super) fn take(tokens: usize, columns: usize) -> bool {
    tokens >= LEAST_TOKENS && columns > 0 && columns.is_multiple_of(COLUMNS)
}

/// Activations as tiles, `[tile of tokens, tile of columns, token, column]`; tokens that are missing in the last one are zero.
pub(super) struct TileActivations(#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))] Vec<bf16>);

impl TileActivations {
    /// Rounds `x` of `[tokens, columns]`; columns are whole tiles, and [`are_there`] has said yes.
    pub fn round(x: &[f32], columns: usize, pool: &Pool) -> Self {
        let (across, tokens) = (columns / COLUMNS, x.len() / columns);
        let len = tokens.div_ceil(SIDE) * across * TILE;
        let mut tiles = Vec::<bf16>::with_capacity(len);
        let tasks = (x.len() / LEAST_SHARED).clamp(1, pool.threads()).min(across);
        let out = Shared(tiles.as_mut_ptr());
        let out = &out;
        // Tasks share columns, since there may be a single tile of tokens.
        pool.run(tasks, &|task| {
            // SAFETY: the tiles of these columns, which are no other task's; the processor has the instructions.
            unsafe { round_columns(x, columns, task * across / tasks..(task + 1) * across / tasks, out.0) };
        });
        // SAFETY: tasks have written all columns of all tokens, and zeros for those that are missing.
        unsafe { tiles.set_len(len) };
        Self(tiles)
    }
}

/// Rounds some tiles of columns of all tokens.
///
/// # Safety
///
/// `out` has room for whole tiles of all tokens, those of these columns nobody else's; the processor has AMX, and so AVX-512.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx512f,avx512bw,avx512vl"))]
unsafe fn round_columns(x: &[f32], columns: usize, tiles: Range<usize>, out: *mut bf16) {
    let (across, tokens) = (columns / COLUMNS, x.len() / columns);
    for at in tiles {
        for token in 0..tokens.next_multiple_of(SIDE) {
            let place = (token / SIDE * across + at) * TILE + token % SIDE * COLUMNS;
            // SAFETY: the caller's.
            let rounded =
                unsafe { std::slice::from_raw_parts_mut(out.add(place).cast::<MaybeUninit<bf16>>(), COLUMNS) };
            match x.get(token * columns + at * COLUMNS..) {
                Some(x) if token < tokens => {
                    for (rounded, x) in rounded.iter_mut().zip(x) {
                        rounded.write(nearest(*x));
                    }
                }
                _ => rounded.fill(MaybeUninit::new(bf16::ZERO)),
            }
        }
    }
}

/// The buffer of which each task writes its own columns.
struct Shared(*mut bf16);
// SAFETY: see `round`.
unsafe impl Sync for Shared {}

/// The nearest bfloat16 number, of two the even one; plain arithmetic, so that the compiler may use vectors. What is no number
/// stays none.
#[inline(always)]
pub(super) fn nearest(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    bf16::from_bits(if x.is_nan() { bits >> 16 | 0x40 } else { rounded } as u16)
}

/// Whether the processor has them and the system lets this process use them.
#[cfg(target_arch = "x86_64")]
pub(super) fn are_there() -> bool {
    use std::sync::OnceLock;
    static ARE_THERE: OnceLock<bool> = OnceLock::new();
    *ARE_THERE.get_or_init(|| {
        /// `AMX-BF16` and `AMX-TILE` in EDX of leaf 7.
        const BITS: u32 = 1 << 22 | 1 << 24;
        let has_leaf = std::arch::x86_64::__get_cpuid_max(0).0 >= 7;
        has_leaf && std::arch::x86_64::__cpuid_count(7, 0).edx & BITS == BITS && are_allowed()
    })
}

/// Asks the system for the registers, which are large: it saves them only for processes that asked.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn are_allowed() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: a system call that reads no memory; the kernel clobbers RCX and R11.
    unsafe {
        std::arch::asm!(
            "syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _, lateout("r11") _, options(nostack),
        );
    }
    result == 0
}

/// Other systems are not asked yet.
#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn are_allowed() -> bool {
    false
}

/// Shapes of the eight tile registers, all of sixteen rows of 64 bytes.
#[cfg(target_arch = "x86_64")]
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

#[cfg(target_arch = "x86_64")]
static SHAPES: Shapes = Shapes {
    palette: 1,
    start: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Rows of a panel: those of two tiles.
#[cfg(target_arch = "x86_64")]
const WIDTH: usize = 2 * SIDE;

/// Sums of two tiles of tokens with a panel, `[token, row]`.
#[cfg(target_arch = "x86_64")]
#[repr(align(64))]
struct Sums([f32; 2 * SIDE * WIDTH]);

/// `out[token, row] = Σ x[token, k] · w[row, k]` for bfloat16 weights in panels of 32 rows.
///
/// # Safety
///
/// As [`super::product::quantized`]; [`are_there`] and [`take`] have said yes, and `activations` are those of the job's tokens.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn multiply(job: &Job<'_>, activations: &TileActivations) {
    let (rows, columns) = job.shape;
    let (across, panel_bytes) = (columns / COLUMNS, columns * WIDTH * 2);
    let tile_len = across * TILE;
    let mut sums = Sums([0.0; 2 * SIDE * WIDTH]);
    // SAFETY: the shapes are valid ones; nobody else uses the tile registers.
    unsafe { std::arch::asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack, readonly)) };
    for panel in job.groups.clone() {
        let weights = job.weights[panel * panel_bytes..][..panel_bytes].as_ptr();
        let kept = (rows - panel * WIDTH).min(WIDTH);
        for token in (0..job.tokens).step_by(2 * SIDE) {
            let count = (job.tokens - token).min(2 * SIDE);
            let first = &activations.0[token / SIDE * tile_len..];
            if count == 2 * SIDE && kept == WIDTH {
                // SAFETY: the caller's; results of whole tiles go where they belong.
                unsafe {
                    let place = (job.out.add(token * rows + panel * WIDTH), rows);
                    two_tiles(weights, first.as_ptr(), first[tile_len..].as_ptr(), across, place);
                }
                continue;
            }
            // SAFETY: the caller's; the second tile of tokens is only read where there is one.
            unsafe {
                match count > SIDE {
                    true => {
                        let place = (sums.0.as_mut_ptr(), WIDTH);
                        two_tiles(weights, first.as_ptr(), first[tile_len..].as_ptr(), across, place);
                    }
                    false => one_tile(weights, first.as_ptr(), across, &mut sums),
                }
            }
            for (t, sums) in sums.0.chunks_exact(WIDTH).take(count).enumerate() {
                // SAFETY: these rows of these tokens are this task's.
                let out =
                    unsafe { std::slice::from_raw_parts_mut(job.out.add((token + t) * rows + panel * WIDTH), kept) };
                out.copy_from_slice(&sums[..kept]);
            }
        }
    }
    // SAFETY: frees what `ldtilecfg` took.
    unsafe { std::arch::asm!("tilerelease", options(nostack, nomem)) };
}

/// Elsewhere [`never`] keeps it from being called.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn multiply(_: &super::product::Job<'_>, _: &TileActivations) {}

/// Thirty-two tokens with a panel: four tiles of sums, each column's weights loaded once.
///
/// # Safety
///
/// Tile registers are configured; `weights` are `across` tiles of columns, as `a` and `b` are of activations; `out` has room for 32
/// rows of so many numbers, of which 32 are written.
#[cfg(target_arch = "x86_64")]
unsafe fn two_tiles(weights: *const u8, a: *const bf16, b: *const bf16, across: usize, out: (*mut f32, usize)) {
    let (out, row) = out;
    // SAFETY: the caller's.
    unsafe {
        std::arch::asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "lea {ahead}, [{w} + 8192]", // four blocks: what memory takes to bring one
            ".rept 32",
            "prefetcht0 [{ahead}]",
            "add {ahead}, 64",
            ".endr",
            "tileloadd tmm4, [{w} + {wide}*1]",
            "tileloadd tmm5, [{w} + {wide}*1 + 64]",
            "tileloadd tmm6, [{a} + {tight}*1]",
            "tileloadd tmm7, [{b} + {tight}*1]",
            "tdpbf16ps tmm0, tmm6, tmm4",
            "tdpbf16ps tmm1, tmm6, tmm5",
            "tdpbf16ps tmm2, tmm7, tmm4",
            "tdpbf16ps tmm3, tmm7, tmm5",
            "add {w}, 2048",
            "add {a}, 1024",
            "add {b}, 1024",
            "dec {n}",
            "jnz 2b",
            "tilestored [{out} + {row}*1], tmm0",
            "tilestored [{out} + {row}*1 + 64], tmm1",
            "tilestored [{second} + {row}*1], tmm2",
            "tilestored [{second} + {row}*1 + 64], tmm3",
            w = inout(reg) weights => _,
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            n = inout(reg) across => _,
            out = in(reg) out,
            second = in(reg) out.add(SIDE * row),
            row = in(reg) 4 * row,
            wide = in(reg) 128usize,
            tight = in(reg) 64usize,
            ahead = out(reg) _,
            options(nostack),
        );
    }
}

/// Up to sixteen tokens with a panel.
///
/// # Safety
///
/// As [`two_tiles`].
#[cfg(target_arch = "x86_64")]
unsafe fn one_tile(weights: *const u8, a: *const bf16, across: usize, sums: &mut Sums) {
    // SAFETY: the caller's; sums have room for two tiles.
    unsafe {
        std::arch::asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "lea {ahead}, [{w} + 8192]", // four blocks: what memory takes to bring one
            ".rept 32",
            "prefetcht0 [{ahead}]",
            "add {ahead}, 64",
            ".endr",
            "tileloadd tmm4, [{w} + {wide}*1]",
            "tileloadd tmm5, [{w} + {wide}*1 + 64]",
            "tileloadd tmm6, [{a} + {tight}*1]",
            "tdpbf16ps tmm0, tmm6, tmm4",
            "tdpbf16ps tmm1, tmm6, tmm5",
            "add {w}, 2048",
            "add {a}, 1024",
            "dec {n}",
            "jnz 2b",
            "tilestored [{out} + {wide}*1], tmm0",
            "tilestored [{out} + {wide}*1 + 64], tmm1",
            w = inout(reg) weights => _,
            a = inout(reg) a => _,
            n = inout(reg) across => _,
            out = in(reg) sums.0.as_mut_ptr(),
            wide = in(reg) 128usize,
            tight = in(reg) 64usize,
            ahead = out(reg) _,
            options(nostack),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_nearest() {
        for x in [0.0, 1.0, -5.25, 1e-30, 65_504.0, 0.1, f32::MAX / 2.0, 1.003_906_2, 1.011_718_8] {
            assert_eq!(nearest(x), bf16::from_f32(x), "{x}");
        }
        assert!(nearest(f32::NAN).is_nan());
    }
}
