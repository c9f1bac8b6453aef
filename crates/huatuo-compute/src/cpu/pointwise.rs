//! Norms, rotary embedding and activations. What is always inlined is compiled for each instruction set (see [`super::kernels`]).

use crate::{Pairing, Rotary};

/// Root-mean-square norm of each row.
#[inline(always)]
pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let n = weight.len();
    for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        let mean = sum_of(x, |x| x * x) / n as f32;
        let scale = 1.0 / (mean + epsilon).sqrt();
        for ((o, x), w) in out.iter_mut().zip(x).zip(weight) {
            *o = x * scale * w;
        }
    }
}

/// `x = norm(x + y)` of each row of `x`, layer norm.
pub(super) fn add_layer_norm(x: &mut [f32], y: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let n = weight.len();
    for (row, y) in x.chunks_exact_mut(n).zip(y.chunks_exact(n)) {
        row.iter_mut().zip(y).for_each(|(x, y)| *x += y);
        let mean = sum_of(row, |x| x) / n as f32;
        let variance = sum_of(row, |x| (x - mean) * (x - mean)) / n as f32;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for ((x, w), b) in row.iter_mut().zip(weight).zip(bias) {
            *x = (*x - mean) * scale * w + b;
        }
    }
}

/// A sum in eight parts, so that the compiler may use vectors.
#[inline(always)]
fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; 8];
    let chunks = x.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|x| f(*x)).sum();
    for x in chunks {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += f(*x));
    }
    sums.iter().sum::<f32>() + rest
}

/// Rotary embedding of rows `[heads, head_dim]`.
pub(super) fn rope(x: &mut [f32], heads: usize, head_dim: usize, position: usize, rotary: Rotary<'_>) {
    let Rotary { frequencies, pairing } = rotary;
    let pairs = frequencies.len();
    for (row, token) in x.chunks_exact_mut(heads * head_dim).enumerate() {
        let turns: Vec<(f32, f32)> = frequencies.iter().map(|f| ((position + row) as f32 * f).sin_cos()).collect();
        for head in token.chunks_exact_mut(head_dim) {
            match pairing {
                Pairing::Halves => {
                    let (low, high) = head[..2 * pairs].split_at_mut(pairs);
                    low.iter_mut().zip(high).zip(&turns).for_each(|((a, b), turn)| turn_pair(a, b, *turn));
                }
                Pairing::Neighbours => {
                    for (pair, turn) in head.chunks_exact_mut(2).zip(&turns) {
                        let [a, b] = pair else { continue };
                        turn_pair(a, b, *turn);
                    }
                }
            }
        }
    }
}

fn turn_pair(a: &mut f32, b: &mut f32, (sin, cos): (f32, f32)) {
    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
}

/// `gate = silu(gate) · up`.
#[inline(always)]
pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = *g / (1.0 + exp(-*g)) * u;
    }
}

/// Softmax of `scale · x` in place; not a single number gives not a single number.
#[inline(always)]
pub(super) fn softmax(x: &mut [f32], scale: f32) {
    let mut tops = [f32::NEG_INFINITY; 8];
    for x in x.chunks(8) {
        for (top, x) in tops.iter_mut().zip(x) {
            *top = if *x > *top { *x } else { *top };
        }
    }
    let top = tops.iter().fold(f32::NEG_INFINITY, |top, x| top.max(*x)) * scale;
    let mut sums = [0.0; 8];
    for x in x.chunks_mut(8) {
        for (sum, x) in sums.iter_mut().zip(x) {
            *x = exp(*x * scale - top);
            *sum += *x;
        }
    }
    let inverse = 1.0 / sums.iter().sum::<f32>();
    x.iter_mut().for_each(|x| *x *= inverse);
}

/// eˣ without branches, so that loops over it vectorise: 2ⁿ · p(r) with p the Taylor polynomial of eʳ, |r| ≤ ln 2 / 2;
/// 5e-7 relative. Below -87 it is 1e-38, above 88 it is 2e38.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to a whole number in the low bits
    // ln 2 in two parts, the first with zeros at its end, so that n · LN_2_HIGH is exact (Cody and Waite 1980)
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4; // ln 2 less that
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let whole = shifted - MAGIC;
    let r = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let p = 1.0 / 720.0 + r / 5040.0;
    let p = 1.0 / 24.0 + r * (1.0 / 120.0 + r * p);
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * p)));
    let n = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    f32::from_bits((p.to_bits() as i32).wrapping_add(n << 23) as u32)
}

/// The exact GELU in place.
#[inline(always)]
pub(super) fn gelu(x: &mut [f32]) {
    for x in x {
        *x *= 0.5 * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// The error function without branches, so that loops over it vectorise: a polynomial in 1 / (1 + p·|x|) times e^(-x²)
/// (Abramowitz and Stegun 1964, 7.1.26); off by 5e-7 at most.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const P: f32 = 0.327_591_1;
    const A: [f32; 5] = [0.254_829_6, -0.284_496_72, 1.421_413_8, -1.453_152, 1.061_405_4];
    let t = 1.0 / (1.0 + P * x.abs());
    let polynomial = t * (A[0] + t * (A[1] + t * (A[2] + t * (A[3] + t * A[4]))));
    (1.0 - polynomial * exp(-x * x)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rope_turns_a_pair_by_its_position() {
        for pairing in [Pairing::Halves, Pairing::Neighbours] {
            let mut x = vec![1.0, 0.0];
            rope(&mut x, 1, 2, 2, Rotary { frequencies: &[1.0], pairing });
            assert!((x[0] - 2f32.cos()).abs() < 1e-6 && (x[1] - 2f32.sin()).abs() < 1e-6);
        }
    }

    #[test]
    fn numbers_without_a_pair_stay() {
        for (pairing, untouched) in [(Pairing::Halves, [2, 3]), (Pairing::Neighbours, [2, 3])] {
            let mut x = vec![1.0, 2.0, 3.0, 4.0];
            rope(&mut x, 1, 4, 5, Rotary { frequencies: &[0.5], pairing });
            assert!(untouched.iter().all(|i| x[*i] == *i as f32 + 1.0) && x[0] != 1.0);
        }
    }

    #[test]
    fn exp_is_right_to_a_few_units_in_the_last_place() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let (got, wanted) = (exp(x), f64::from(x).exp());
            assert!((f64::from(got) - wanted).abs() <= 5e-7 * wanted, "{x}: {got} {wanted}");
        }
        assert!(exp(-1000.0) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37 && exp(1000.0).is_finite());
    }

    #[test]
    fn softmax_sums_to_one_and_keeps_order() {
        let mut x: Vec<f32> = (0..19).map(|i| (i as f32).sin() * 40.0).collect();
        let wanted: Vec<f64> = x.iter().map(|x| (f64::from(*x) * 0.5).exp()).collect();
        let sum: f64 = wanted.iter().sum();
        softmax(&mut x, 0.5);
        for (got, wanted) in x.iter().zip(&wanted) {
            assert!((f64::from(*got) - wanted / sum).abs() < 1e-6);
        }
    }

    #[test]
    fn gelu_is_the_exact_one() {
        let mut x = vec![1.0, -1.0, 0.0];
        gelu(&mut x);
        assert!((x[0] - 0.841_344_7).abs() < 1e-6 && (x[1] + 0.158_655_3).abs() < 1e-6 && x[2] == 0.0);
    }

    #[test]
    fn erf_is_candles() {
        for i in -600..=600 {
            let x = i as f32 / 100.0;
            let (got, wanted) = (erf(x), candle_core::cpu::erf::erf_f32(x));
            assert!((got - wanted).abs() <= 5e-7, "{x}: {got} {wanted}");
        }
        assert!(erf(1e20) == 1.0 && erf(-1e20) == -1.0 && erf(f32::NAN).is_nan());
    }

    #[test]
    fn norms_have_unit_size() {
        let (mut x, one) = (vec![1.0, 2.0, 3.0, 4.0], vec![1.0; 4]);
        let mut out = vec![0.0; 4];
        rms_norm(&x, &one, 0.0, &mut out);
        assert!((out.iter().map(|x| x * x).sum::<f32>() - 4.0).abs() < 1e-5);
        add_layer_norm(&mut x, &[0.5, 0.0, 0.0, 0.0], &one, &[0.0; 4], 0.0);
        assert!(x.iter().sum::<f32>().abs() < 1e-5);
    }
}
