//! Norms, rotary embedding and activations.

use candle_core::cpu::erf::erf_f32;

/// Root-mean-square norm of each row.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, rows: usize, out: &mut [f32]) {
    let n = weight.len();
    for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)).take(rows) {
        let mean = x.iter().map(|x| x * x).sum::<f32>() / n as f32;
        let scale = 1.0 / (mean + epsilon).sqrt();
        for ((o, x), w) in out.iter_mut().zip(x).zip(weight) {
            *o = x * scale * w;
        }
    }
}

/// Layer norm of each row in place.
pub(super) fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32, rows: usize) {
    let n = weight.len();
    for row in x.chunks_exact_mut(n).take(rows) {
        let mean = row.iter().sum::<f32>() / n as f32;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n as f32;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for ((x, w), b) in row.iter_mut().zip(weight).zip(bias) {
            *x = (*x - mean) * scale * w + b;
        }
    }
}

/// Rotary embedding with halves paired (Su et al. 2021 in the form of GPT-NeoX and Qwen2).
pub(super) fn rope(x: &mut [f32], heads: usize, head_dim: usize, position: usize, theta: f32) {
    let half = head_dim / 2;
    let frequencies: Vec<f32> = (0..half).map(|i| theta.powf(-(i as f32) / half as f32)).collect();
    for (row, token) in x.chunks_exact_mut(heads * head_dim).enumerate() {
        let turns: Vec<(f32, f32)> = frequencies.iter().map(|f| ((position + row) as f32 * f).sin_cos()).collect();
        for head in token.chunks_exact_mut(head_dim) {
            let (low, high) = head.split_at_mut(half);
            for ((a, b), (sin, cos)) in low.iter_mut().zip(high).zip(&turns) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

/// `gate = silu(gate) · up`.
pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = *g / (1.0 + (-*g).exp()) * u;
    }
}

/// The exact GELU in place.
pub(super) fn gelu(x: &mut [f32]) {
    for x in x {
        *x *= 0.5 * (1.0 + erf_f32(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rope_turns_a_pair_by_its_position() {
        let mut x = vec![1.0, 0.0];
        rope(&mut x, 1, 2, 2, 10_000.0);
        assert!((x[0] - 2f32.cos()).abs() < 1e-6 && (x[1] - 2f32.sin()).abs() < 1e-6);
    }

    #[test]
    fn gelu_is_the_exact_one() {
        let mut x = vec![1.0, -1.0, 0.0];
        gelu(&mut x);
        assert!((x[0] - 0.841_344_7).abs() < 1e-6 && (x[1] + 0.158_655_3).abs() < 1e-6 && x[2] == 0.0);
    }

    #[test]
    fn norms_have_unit_size() {
        let (mut x, one) = (vec![1.0, 2.0, 3.0, 4.0], vec![1.0; 4]);
        let mut out = vec![0.0; 4];
        rms_norm(&x, &one, 0.0, 1, &mut out);
        assert!((out.iter().map(|x| x * x).sum::<f32>() - 4.0).abs() < 1e-5);
        layer_norm(&mut x, &one, &[0.0; 4], 0.0, 1);
        assert!(x.iter().sum::<f32>().abs() < 1e-5);
    }
}
