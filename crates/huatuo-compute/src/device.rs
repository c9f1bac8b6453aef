//! The operator set that networks are described over.

use crate::{ChoiceRule, ComputeError, Encoding, TensorView};

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

/// Which numbers of a head form a rotary pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `i` and `i + half`, as in GPT-NeoX and Qwen2.
    Halves,
    /// `2i` and `2i + 1`, as in GPT-J and in GGUF files of Llama.
    Neighbours,
}

/// Rotary positions.
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'a> {
    /// What each pair turns by from token to token, in radians.
    pub frequencies: &'a [f32],
    /// Which numbers form a pair.
    pub pairing: Pairing,
}

/// A root-mean-square norm's weights on a device.
pub struct Norm<D: Device> {
    /// One a number.
    pub weight: D::Buffer,
    /// Added under the root.
    pub epsilon: f32,
}

/// Queries, keys and values of a chunk.
pub struct Heads<D: Device> {
    /// `[rows, heads, head_dim]`.
    pub q: D::Buffer,
    /// `[rows, kv_heads, head_dim]`.
    pub k: D::Buffer,
    /// `[rows, kv_heads, head_dim]`.
    pub v: D::Buffer,
    /// Room for the norms of queries, where they are normed by head.
    pub normed_q: D::Buffer,
    /// The same for keys.
    pub normed_k: D::Buffer,
}

/// Rows of one text among those of several that stand one behind the other.
pub struct Span<'a, D: Device> {
    /// Its rows.
    pub rows: usize,
    /// Tokens before the first of them.
    pub position: usize,
    /// Keys and values of those, and then of the rows, too.
    pub cache: &'a mut D::Cache,
}

/// A weight matrix that is brought to its device piece by piece, so that no more than a row waits on the way.
pub trait MatrixBuilder {
    /// What it becomes.
    type Matrix;
    /// Takes the next bytes; a piece may end anywhere. Bytes beyond the matrix are ignored.
    fn push(&mut self, bytes: &[u8]);
    /// The matrix; rows that have not come are zero.
    fn finish(self) -> Self::Matrix;
}

/// How cached keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Single precision.
    F32,
    /// Half precision: half the memory, 2⁻¹¹ relative error.
    F16,
}

/// One linear layer: `out[rows, m] = x[rows, n] · weightᵀ + bias` for a weight of `[m, n]`.
pub struct Projection<'a, D: Device> {
    /// `[m, n]`.
    pub weight: &'a D::Matrix,
    /// `[m]`.
    pub bias: Option<&'a D::Buffer>,
    /// `[rows, m]`.
    pub out: &'a mut D::Buffer,
}

/// Weights of a linear layer on a device.
pub struct Linear<D: Device> {
    /// `[m, n]`.
    pub weight: D::Matrix,
    /// `[m]`.
    pub bias: Option<D::Buffer>,
}

impl<D: Device> Linear<D> {
    /// This layer with a place for its results `[rows, m]`.
    pub fn onto<'a>(&'a self, out: &'a mut D::Buffer) -> Projection<'a, D> {
        Projection { weight: &self.weight, bias: self.bias.as_ref(), out }
    }
}

#[allow(async_fn_in_trait)] // a device belongs to one thread
/// A device that holds weights and activations and runs operators on them.
///
/// Activations are f32, row-major `[rows, columns]`; `rows` are tokens. Sizes are the caller's promise: an operator
/// panics on buffers that are too short, which only a wrong network description can cause, never a file.
pub trait Device {
    /// A weight matrix, in whatever form the device multiplies fastest.
    type Matrix;
    /// A matrix on its way.
    type Builder: MatrixBuilder<Matrix = Self::Matrix>;
    /// Activations, or a weight vector.
    type Buffer;
    /// Keys and values of the tokens that a layer has read.
    type Cache;

    /// Refuses heads that the device has no attention for.
    fn check_attention(&self, _: Attention) -> Result<(), ComputeError> {
        Ok(())
    }
    /// Bytes that are left for weights and caches, where the device has a limit that is known.
    fn room(&self) -> Option<u64> {
        None
    }
    /// Begins a matrix `[rows, columns]` whose bytes follow; `name` is for messages.
    fn begin_matrix(&self, name: &str, shape: &[usize], encoding: Encoding) -> Result<Self::Builder, ComputeError>;
    /// Brings a whole matrix `[rows, columns]` to the device.
    fn matrix(&self, tensor: &TensorView<'_>) -> Result<Self::Matrix, ComputeError> {
        tensor.validate()?;
        let mut builder = self.begin_matrix(tensor.name, tensor.shape, tensor.encoding)?;
        builder.push(tensor.bytes);
        Ok(builder.finish())
    }
    /// Brings a whole matrix to the device with its numbers rounded to 8 bits, where the device has products for that and
    /// the matrix a shape that fits; else as it is.
    fn rounded_matrix(&self, tensor: &TensorView<'_>) -> Result<Self::Matrix, ComputeError> {
        self.matrix(tensor)
    }
    /// Outputs of a matrix.
    fn rows(matrix: &Self::Matrix) -> usize;
    /// Brings a vector to the device as f32.
    fn vector(&self, tensor: &TensorView<'_>) -> Result<Self::Buffer, ComputeError>;
    /// Room for `len` numbers, zero.
    fn buffer(&self, len: usize) -> Self::Buffer;
    /// Rooms for so many numbers each, zero, where results of joined layers go to.
    fn buffers<const N: usize>(&self, lens: [usize; N]) -> [Self::Buffer; N] {
        lens.map(|len| self.buffer(len))
    }
    /// Lays linear layers that always read the same activations side by side, where the device gains by it.
    fn join<const N: usize>(&self, layers: [Linear<Self>; N]) -> [Linear<Self>; N]
    where
        Self: Sized,
    {
        layers
    }
    /// Reads numbers back once all that was asked for is computed.
    async fn read(&self, buffer: &Self::Buffer, start: usize, into: &mut [f32]) -> Result<(), ComputeError>;
    /// State of the choices of an answer.
    type Chooser;
    /// A token that is being chosen.
    type Chosen;
    /// How many tokens may be chosen before the first one of them is looked at; 0 where that would delay it.
    const AHEAD: usize;
    /// Begins an answer.
    fn chooser(&self, rule: ChoiceRule) -> Self::Chooser;
    /// Chooses a token by the chooser's rule, with `random`, from 0 to 1, where it is drawn. Where tokens are `allowed` by
    /// name, the best one among these alone,
    /// each with what is added to its score, and
    /// the automaton stays where it is. Scores of tokens that were written before are changed.
    fn choose(
        &self,
        scores: &mut Self::Buffer,
        chooser: &mut Self::Chooser,
        allowed: Option<&[(u32, f32)]>,
        random: f32,
    ) -> Self::Chosen;
    /// The chosen token, `None` where no score is a number.
    async fn chosen(&self, chosen: Self::Chosen) -> Result<Option<u32>, ComputeError>;
    /// `out[0] = table[the token chosen last]`.
    fn embed_chosen(&self, table: &Self::Matrix, chooser: &Self::Chooser, out: &mut Self::Buffer);
    /// Starts computing what was asked for, where a device waits for more.
    fn submit(&self) {}
    /// Finds out how products with the matrices of these layers are computed fastest, where that depends on the device.
    async fn tune(&self, _layers: &[Vec<&Self::Matrix>]) -> Result<(), ComputeError> {
        Ok(())
    }
    /// Tokens of a prompt to be read at once through layers of these matrices: enough to load each weight once for many
    /// tokens, few enough that a stop need not wait.
    fn tokens_at_once(&self, _layer: &[&Self::Matrix]) -> usize {
        64
    }
    /// Waits until all that was submitted is computed.
    async fn settle(&self) -> Result<(), ComputeError> {
        Ok(())
    }

    /// `out[i] = table[ids[i]]`.
    fn embed(&self, table: &Self::Matrix, ids: &[u32], out: &mut Self::Buffer);
    /// Linear layers that read the same activations `[rows, n]`, so that a device prepares those once.
    fn project(&self, x: &Self::Buffer, rows: usize, projections: &mut [Projection<'_, Self>])
    where
        Self: Sized;
    /// Root-mean-square norm of each row, scaled by `weight` (Zhang and Sennrich 2019).
    fn rms_norm(&self, x: &Self::Buffer, weight: &Self::Buffer, epsilon: f32, rows: usize, out: &mut Self::Buffer);
    /// `x = norm(x + y)`, the layer norm of each row (Ba et al. 2016) of a residual and what is added to it.
    fn add_layer_norm(
        &self,
        x: &mut Self::Buffer,
        y: &Self::Buffer,
        weight: &Self::Buffer,
        bias: &Self::Buffer,
        epsilon: f32,
        rows: usize,
    );
    /// Rotary position embedding (Su et al. 2021) in place on `[rows, heads, head_dim]`, first row at `position`: pair `i`
    /// of each head is turned by position · `frequencies[i]`; numbers without a pair stay as they are.
    fn rope(
        &self,
        x: &mut Self::Buffer,
        rows: usize,
        heads: usize,
        head_dim: usize,
        position: usize,
        rotary: Rotary<'_>,
    );
    /// An empty cache of keys and values for one layer.
    fn cache(&self, kv_heads: usize, head_dim: usize, precision: Precision) -> Self::Cache;
    /// Bytes that a cache takes.
    fn cache_bytes(&self, cache: &Self::Cache) -> usize;
    /// Bytes that [`Self::store`] would add to [`Self::cache_memory`].
    fn cache_growth(&self, cache: &Self::Cache, rows: usize, position: usize) -> usize;
    /// Has caches that are made from now on, of so many bytes in all, share memory, where the device gains by it.
    fn share_caches(&self, _bytes: usize) {}
    /// Bytes of all caches, what they share counted once.
    fn cache_memory(&self) -> usize;
    /// A cache that begins with the first `rows` tokens of another, for a text that begins alike.
    fn fork(&self, cache: &Self::Cache, rows: usize) -> Self::Cache;
    /// Writes `rows` keys and values `[rows, kv_heads, head_dim]` behind the first `position` of a cache.
    fn store(&self, cache: &mut Self::Cache, keys: &Self::Buffer, values: &Self::Buffer, rows: usize, position: usize);
    /// Reads the keys and values `[rows, kv_heads, head_dim]` of the first `rows` tokens back from a cache.
    fn recall(&self, cache: &Self::Cache, rows: usize, keys: &mut Self::Buffer, values: &mut Self::Buffer);
    /// `out[at + i] = x[first + i]` for the first `rows` of `[rows, columns]`, where columns are a multiple of four.
    fn copy_rows(&self, x: &Self::Buffer, first: usize, rows: usize, columns: usize, out: &mut Self::Buffer, at: usize);
    /// Causal attention of `rows` queries, the first at `position`, over the keys and values cached so far. With
    /// `slopes`, one a head, a key that lies `n` tokens back loses `n · slope` (Press et al. 2022).
    #[allow(clippy::too_many_arguments)] // an operator's operands
    fn causal_attention(
        &self,
        shape: Attention,
        q: &Self::Buffer,
        cache: &Self::Cache,
        slopes: Option<&Self::Buffer>,
        rows: usize,
        position: usize,
        out: &mut Self::Buffer,
    );
    /// Attention of every row over every row of its own text; texts of so many rows stand one behind the other.
    fn full_attention(
        &self,
        shape: Attention,
        q: &Self::Buffer,
        keys: &Self::Buffer,
        values: &Self::Buffer,
        lengths: &[usize],
        out: &mut Self::Buffer,
    );
    /// `gate = silu(gate) · up`, the first `len` numbers.
    fn silu_mul(&self, gate: &mut Self::Buffer, up: &Self::Buffer, len: usize);
    /// The exact (erf) GELU in place, the first `len` numbers.
    fn gelu(&self, x: &mut Self::Buffer, len: usize);
    /// `x += y`, the first `len` numbers.
    fn add(&self, x: &mut Self::Buffer, y: &Self::Buffer, len: usize);

    // What follows is made of the operators above, where it is not left to the device; a device may do each at once.

    /// Linear layers that read the norm of `x`; `normed` is room for that.
    fn norm_project(
        &self,
        x: &Self::Buffer,
        norm: &Norm<Self>,
        rows: usize,
        normed: &mut Self::Buffer,
        projections: &mut [Projection<'_, Self>],
    ) where
        Self: Sized,
    {
        self.rms_norm(x, &norm.weight, norm.epsilon, rows, normed);
        self.project(normed, rows, projections);
    }
    /// `silu(gate) · up` of two linear layers of `[len, n]` that read the norm of `x`; the result is the gate's.
    fn norm_gate(
        &self,
        x: &Self::Buffer,
        norm: &Norm<Self>,
        rows: usize,
        normed: &mut Self::Buffer,
        [gate, up]: [Projection<'_, Self>; 2],
    ) where
        Self: Sized,
    {
        let len = rows * Self::rows(gate.weight);
        let (gate_out, up_out) = (gate.out, up.out);
        let projections = &mut [
            Projection { weight: gate.weight, bias: gate.bias, out: &mut *gate_out },
            Projection { weight: up.weight, bias: up.bias, out: &mut *up_out },
        ];
        self.norm_project(x, norm, rows, normed, projections);
        self.silu_mul(gate_out, up_out, len);
    }
    /// Adds a linear layer of `x` to `residual`; `room` is for its result.
    fn project_add(
        &self,
        x: &Self::Buffer,
        rows: usize,
        linear: &Linear<Self>,
        room: &mut Self::Buffer,
        residual: &mut Self::Buffer,
    ) where
        Self: Sized,
    {
        self.project(x, rows, &mut [linear.onto(room)]);
        self.add(residual, room, rows * Self::rows(&linear.weight));
    }
    /// Norms queries and keys by head, where there is a norm.
    fn norm_heads(&self, shape: Attention, heads: &mut Heads<Self>, norms: Option<&[Norm<Self>; 2]>, rows: usize)
    where
        Self: Sized,
    {
        let Some([q_norm, k_norm]) = norms else { return };
        self.rms_norm(&heads.q, &q_norm.weight, q_norm.epsilon, rows * shape.heads, &mut heads.normed_q);
        self.rms_norm(&heads.k, &k_norm.weight, k_norm.epsilon, rows * shape.kv_heads, &mut heads.normed_k);
        std::mem::swap(&mut heads.q, &mut heads.normed_q);
        std::mem::swap(&mut heads.k, &mut heads.normed_k);
    }
    /// Norms queries and keys by head, where there is a norm, turns them, where there are rotary positions, and writes keys
    /// and values behind the first `position` of a cache. The queries stay in their place; keys and values may not.
    #[allow(clippy::too_many_arguments)] // an operator's operands
    fn turn_and_store(
        &self,
        shape: Attention,
        heads: &mut Heads<Self>,
        norms: Option<&[Norm<Self>; 2]>,
        rotary: Option<Rotary<'_>>,
        cache: &mut Self::Cache,
        rows: usize,
        position: usize,
    ) where
        Self: Sized,
    {
        self.norm_heads(shape, heads, norms, rows);
        if let Some(rotary) = rotary {
            self.rope(&mut heads.q, rows, shape.heads, shape.head_dim, position, rotary);
            self.rope(&mut heads.k, rows, shape.kv_heads, shape.head_dim, position, rotary);
        }
        self.store(cache, &heads.k, &heads.v, rows, position);
    }
    /// [`Self::turn_and_store`] and [`Self::causal_attention`] for the rows of several texts, which stand one behind the other.
    #[allow(clippy::too_many_arguments)] // an operator's operands
    fn attend(
        &self,
        shape: Attention,
        heads: &mut Heads<Self>,
        norms: Option<&[Norm<Self>; 2]>,
        rotary: Option<Rotary<'_>>,
        slopes: Option<&Self::Buffer>,
        spans: &mut [Span<'_, Self>],
        out: &mut Self::Buffer,
    ) where
        Self: Sized;
}
