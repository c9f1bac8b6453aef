//! The CPU: matrix products on candle's kernels (AVX2, NEON, wasm simd128), the rest as plain loops that vectorise.

mod attention;
mod matrix;
mod pointwise;

pub use matrix::CpuMatrix;

use crate::{Attention, ComputeError, Device, TensorView};

/// The processor this program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Device for Cpu {
    type Matrix = CpuMatrix;
    type Buffer = Vec<f32>;

    fn matrix(&self, tensor: &TensorView<'_>) -> Result<CpuMatrix, ComputeError> {
        CpuMatrix::new(tensor)
    }

    fn vector(&self, tensor: &TensorView<'_>) -> Result<Vec<f32>, ComputeError> {
        tensor.validate()?;
        Ok(matrix::to_f32(tensor))
    }

    fn buffer(&self, len: usize) -> Vec<f32> {
        vec![0.0; len]
    }

    fn read(&self, buffer: &Vec<f32>, start: usize, into: &mut [f32]) {
        into.copy_from_slice(&buffer[start..start + into.len()]);
    }

    fn embed(&self, table: &CpuMatrix, ids: &[u32], out: &mut Vec<f32>) {
        for (id, row) in ids.iter().zip(out.chunks_exact_mut(table.columns())) {
            table.read_row(*id as usize, row);
        }
    }

    fn linear(&self, w: &CpuMatrix, bias: Option<&Vec<f32>>, x: &Vec<f32>, rows: usize, out: &mut Vec<f32>) {
        w.multiply(&x[..rows * w.columns()], rows, &mut out[..rows * w.rows()]);
        if let Some(bias) = bias {
            for row in out[..rows * w.rows()].chunks_exact_mut(w.rows()) {
                row.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
            }
        }
    }

    fn rms_norm(&self, x: &Vec<f32>, weight: &Vec<f32>, epsilon: f32, rows: usize, out: &mut Vec<f32>) {
        pointwise::rms_norm(x, weight, epsilon, rows, out);
    }

    fn layer_norm(&self, x: &mut Vec<f32>, weight: &Vec<f32>, bias: &Vec<f32>, epsilon: f32, rows: usize) {
        pointwise::layer_norm(x, weight, bias, epsilon, rows);
    }

    fn rope(&self, x: &mut Vec<f32>, rows: usize, heads: usize, head_dim: usize, position: usize, theta: f32) {
        pointwise::rope(&mut x[..rows * heads * head_dim], heads, head_dim, position, theta);
    }

    fn store(&self, cache: &mut Vec<f32>, x: &Vec<f32>, rows: usize, columns: usize, position: usize) {
        let end = (position + rows) * columns;
        if cache.len() < end {
            cache.resize(end, 0.0); // grows with the conversation, up to the model's context
        }
        cache[position * columns..end].copy_from_slice(&x[..rows * columns]);
    }

    fn copy_row(&self, x: &Vec<f32>, row: usize, columns: usize, out: &mut Vec<f32>) {
        out[..columns].copy_from_slice(&x[row * columns..(row + 1) * columns]);
    }

    fn causal_attention(
        &self,
        shape: Attention,
        q: &Vec<f32>,
        keys: &Vec<f32>,
        values: &Vec<f32>,
        rows: usize,
        position: usize,
        out: &mut Vec<f32>,
    ) {
        attention::attend(shape, q, keys, values, rows, |row| position + row + 1, out);
    }

    fn full_attention(
        &self,
        shape: Attention,
        q: &Vec<f32>,
        keys: &Vec<f32>,
        values: &Vec<f32>,
        rows: usize,
        out: &mut Vec<f32>,
    ) {
        attention::attend(shape, q, keys, values, rows, |_| rows, out);
    }

    fn silu_mul(&self, gate: &mut Vec<f32>, up: &Vec<f32>, len: usize) {
        pointwise::silu_mul(&mut gate[..len], &up[..len]);
    }

    fn gelu(&self, x: &mut Vec<f32>, len: usize) {
        pointwise::gelu(&mut x[..len]);
    }

    fn add(&self, x: &mut Vec<f32>, y: &Vec<f32>, len: usize) {
        x[..len].iter_mut().zip(&y[..len]).for_each(|(x, y)| *x += y);
    }
}
