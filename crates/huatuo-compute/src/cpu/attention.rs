//! Scaled dot-product attention, grouped-query included.

use crate::Attention;

/// Row `r` of `q` attends over the first `visible(r)` rows of keys and values.
pub(super) fn attend(
    shape: Attention,
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    rows: usize,
    visible: impl Fn(usize) -> usize,
    out: &mut [f32],
) {
    let Attention { heads, kv_heads, head_dim } = shape;
    let (stride, group) = (kv_heads * head_dim, heads / kv_heads);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut scores = vec![0.0; visible(rows - 1)];
    for row in 0..rows {
        let scores = &mut scores[..visible(row)];
        for head in 0..heads {
            let at = (row * heads + head) * head_dim;
            let q = &q[at..at + head_dim];
            let kv_at = head / group * head_dim;
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(stride)) {
                *score = dot(q, &key[kv_at..kv_at + head_dim]) * scale;
            }
            softmax(scores);
            let out = &mut out[at..at + head_dim];
            out.fill(0.0);
            for (score, value) in scores.iter().zip(values.chunks_exact(stride)) {
                for (o, v) in out.iter_mut().zip(&value[kv_at..kv_at + head_dim]) {
                    *o += score * v;
                }
            }
        }
    }
}

/// Eight partial sums, so that the compiler may use vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn softmax(x: &mut [f32]) {
    let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in x.iter_mut() {
        *x = (*x - top).exp();
        sum += *x;
    }
    x.iter_mut().for_each(|x| *x /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_causal_row_sees_only_itself() {
        let shape = Attention { heads: 2, kv_heads: 1, head_dim: 2 };
        let values = [1.0, 2.0, 30.0, 40.0];
        let mut out = [0.0; 8];
        attend(shape, &[0.5; 8], &[1.0; 4], &values, 2, |row| row + 1, &mut out);
        assert_eq!(out[..4], [1.0, 2.0, 1.0, 2.0]);
        assert_eq!(out[4..6], [15.5, 21.0]);
    }

    #[test]
    fn a_dot_product_of_any_length_is_right() {
        for n in 0..40 {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(dot(&a, &a), (0..n).map(|i| (i * i) as f32).sum::<f32>());
        }
    }
}
