//! The operator set that networks are described over.

use crate::{ComputeError, TensorView};

/// Shape of an attention operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
}

/// A device that holds weights and activations and runs operators on them.
///
/// Activations are f32, row-major `[rows, columns]`; `rows` are tokens. Sizes are the caller's promise: an operator
/// panics on buffers that are too short, which only a wrong network description can cause, never a file.
pub trait Device {
    /// A weight matrix, in whatever form the device multiplies fastest.
    type Matrix;
    /// Activations, or a weight vector.
    type Buffer;

    /// Brings a matrix `[rows, columns]` to the device.
    fn matrix(&self, tensor: &TensorView<'_>) -> Result<Self::Matrix, ComputeError>;
    /// Brings a vector to the device as f32.
    fn vector(&self, tensor: &TensorView<'_>) -> Result<Self::Buffer, ComputeError>;
    /// Room for `len` numbers, zero.
    fn buffer(&self, len: usize) -> Self::Buffer;
    /// Reads numbers back.
    fn read(&self, buffer: &Self::Buffer, start: usize, into: &mut [f32]);

    /// `out[i] = table[ids[i]]`.
    fn embed(&self, table: &Self::Matrix, ids: &[u32], out: &mut Self::Buffer);
    /// `out[rows, m] = x[rows, n] · wᵀ + bias` for `w` of `[m, n]`.
    fn linear(
        &self,
        w: &Self::Matrix,
        bias: Option<&Self::Buffer>,
        x: &Self::Buffer,
        rows: usize,
        out: &mut Self::Buffer,
    );
    /// Root-mean-square norm of each row, scaled by `weight` (Zhang and Sennrich 2019).
    fn rms_norm(&self, x: &Self::Buffer, weight: &Self::Buffer, epsilon: f32, rows: usize, out: &mut Self::Buffer);
    /// Layer norm of each row in place (Ba et al. 2016).
    fn layer_norm(&self, x: &mut Self::Buffer, weight: &Self::Buffer, bias: &Self::Buffer, epsilon: f32, rows: usize);
    /// Rotary position embedding in place on `[rows, heads, head_dim]`, halves paired, first row at `position`.
    fn rope(&self, x: &mut Self::Buffer, rows: usize, heads: usize, head_dim: usize, position: usize, theta: f32);
    /// Copies `rows` rows of `x` behind row `position` of a cache `[capacity, columns]`.
    fn store(&self, cache: &mut Self::Buffer, x: &Self::Buffer, rows: usize, columns: usize, position: usize);
    /// `out = x[row]` of `[rows, columns]`.
    fn copy_row(&self, x: &Self::Buffer, row: usize, columns: usize, out: &mut Self::Buffer);
    /// Causal attention of `rows` queries, the first at `position`, over the keys and values cached so far.
    #[allow(clippy::too_many_arguments)] // an operator's operands
    fn causal_attention(
        &self,
        shape: Attention,
        q: &Self::Buffer,
        keys: &Self::Buffer,
        values: &Self::Buffer,
        rows: usize,
        position: usize,
        out: &mut Self::Buffer,
    );
    /// Attention of every row over every row.
    fn full_attention(
        &self,
        shape: Attention,
        q: &Self::Buffer,
        keys: &Self::Buffer,
        values: &Self::Buffer,
        rows: usize,
        out: &mut Self::Buffer,
    );
    /// `gate = silu(gate) · up`, the first `len` numbers.
    fn silu_mul(&self, gate: &mut Self::Buffer, up: &Self::Buffer, len: usize);
    /// The exact (erf) GELU in place, the first `len` numbers.
    fn gelu(&self, x: &mut Self::Buffer, len: usize);
    /// `x += y`, the first `len` numbers.
    fn add(&self, x: &mut Self::Buffer, y: &Self::Buffer, len: usize);
}
