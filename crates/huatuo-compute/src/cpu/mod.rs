//! The CPU: packed weights and kernels of our own for the products, the rest as plain loops that vectorise.

mod activations;
mod attention;
mod builder;
mod cache;
mod chooser;
mod format;
pub(crate) mod ggml_block;
mod kernels;
mod lanes;
mod matrix;
mod panel;
mod panels;
mod pointwise;
mod pool;
mod product;
mod stretch;
mod tiles;

pub use builder::CpuMatrixBuilder;
pub(crate) use builder::to_f32;
pub use cache::CpuCache;
pub use chooser::CpuChooser;
pub use matrix::CpuMatrix;
pub use pool::Worker;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    Attention, ChoiceRule, ComputeError, Device, Encoding, Heads, Norm, Precision, Projection, Rotary, Span, TensorView,
};
use attention::Call;
use kernels::Kernels;
use matrix::Input;
use pool::Pool;

/// The processor this program runs on, with the threads that share its work.
#[derive(Clone)]
pub struct Cpu {
    kernels: &'static Kernels,
    pool: Pool,
    /// Bytes of all caches.
    cache_memory: Arc<AtomicUsize>,
}

impl Cpu {
    /// One thread: the calling one.
    pub fn new() -> Self {
        Self::with_pool(Pool::alone())
    }

    /// The calling thread and `workers` others, which the host runs on threads of their own.
    pub fn with_workers(workers: usize) -> (Self, Vec<Worker>) {
        let (pool, workers) = Pool::with_workers(workers);
        (Self::with_pool(pool), workers)
    }

    fn with_pool(pool: Pool) -> Self {
        Self { kernels: kernels::best(), pool, cache_memory: Arc::default() }
    }

    /// `threads` in all, started here; for platforms that can start threads.
    pub fn with_threads(threads: usize) -> std::io::Result<Self> {
        let (cpu, workers) = Self::with_workers(threads.saturating_sub(1));
        for worker in workers {
            std::thread::Builder::new().name("huatuo-compute".to_owned()).spawn(move || worker.run())?;
        }
        Ok(cpu)
    }

    /// The instruction set in use, for people.
    pub fn instruction_set(&self) -> &'static str {
        self.kernels.name
    }

    /// Threads that work.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for Cpu {
    type Matrix = CpuMatrix;
    type Builder = CpuMatrixBuilder;
    type Buffer = Vec<f32>;
    type Cache = CpuCache;

    fn begin_matrix(&self, name: &str, shape: &[usize], encoding: Encoding) -> Result<CpuMatrixBuilder, ComputeError> {
        CpuMatrixBuilder::new(self.kernels, name, shape, encoding)
    }

    fn rounded_matrix(&self, tensor: &TensorView<'_>) -> Result<CpuMatrix, ComputeError> {
        let columns = tensor.shape.last().copied().unwrap_or(0);
        let is_single = builder::layout(tensor.encoding).is_none();
        if is_single && columns > 0 && columns.is_multiple_of(stretch::STRETCH) {
            return CpuMatrix::round(self.kernels, tensor);
        }
        self.matrix(tensor)
    }

    fn rows(matrix: &CpuMatrix) -> usize {
        matrix.rows()
    }

    fn vector(&self, tensor: &TensorView<'_>) -> Result<Vec<f32>, ComputeError> {
        tensor.validate()?;
        Ok(builder::to_f32(tensor))
    }

    fn buffer(&self, len: usize) -> Vec<f32> {
        vec![0.0; len]
    }

    async fn read(&self, buffer: &Vec<f32>, start: usize, into: &mut [f32]) -> Result<(), ComputeError> {
        into.copy_from_slice(&buffer[start..start + into.len()]);
        Ok(())
    }

    type Chooser = CpuChooser;
    type Chosen = Option<u32>;
    const AHEAD: usize = 0;

    fn chooser(&self, rule: ChoiceRule) -> CpuChooser {
        CpuChooser::new(rule)
    }

    fn choose(
        &self,
        scores: &mut Vec<f32>,
        chooser: &mut CpuChooser,
        allowed: Option<&[(u32, f32)]>,
        random: f32,
    ) -> Option<u32> {
        chooser.choose(scores, allowed, random)
    }

    async fn chosen(&self, chosen: Option<u32>) -> Result<Option<u32>, ComputeError> {
        Ok(chosen)
    }

    fn embed_chosen(&self, table: &CpuMatrix, chooser: &CpuChooser, out: &mut Vec<f32>) {
        self.embed(table, &[chooser.token], out);
    }

    fn embed(&self, table: &CpuMatrix, ids: &[u32], out: &mut Vec<f32>) {
        for (id, row) in ids.iter().zip(out.chunks_exact_mut(table.columns())) {
            table.read_row(*id as usize, row);
        }
    }

    fn project(&self, x: &Vec<f32>, rows: usize, projections: &mut [Projection<'_, Self>]) {
        let Some(columns) = projections.first().map(|projection| projection.weight.columns()) else { return };
        let matrices = projections.iter().map(|projection| projection.weight);
        let input = Input::new(&x[..rows * columns], columns, matrices, self.kernels, &self.pool);
        let mut products = Vec::with_capacity(projections.len());
        for Projection { weight, bias, out } in projections {
            let out = &mut out[..rows * weight.rows()];
            products.push(weight.product(rows, bias.map(Vec::as_slice), &self.pool, out));
        }
        matrix::multiply(&products, &input, &self.pool);
    }

    fn rms_norm(&self, x: &Vec<f32>, weight: &Vec<f32>, epsilon: f32, rows: usize, out: &mut Vec<f32>) {
        let columns = weight.len();
        self.pool.run_rows(&mut out[..rows * columns], columns, &|first, out| {
            // SAFETY: the kernels were chosen because the processor has them.
            unsafe { self.kernels.rms_norm(&x[first * columns..], weight, epsilon, out) };
        });
    }

    fn add_layer_norm(
        &self,
        x: &mut Vec<f32>,
        y: &Vec<f32>,
        weight: &Vec<f32>,
        bias: &Vec<f32>,
        epsilon: f32,
        rows: usize,
    ) {
        let columns = weight.len();
        self.pool.run_rows(&mut x[..rows * columns], columns, &|first, x| {
            pointwise::add_layer_norm(x, &y[first * columns..], weight, bias, epsilon);
        });
    }

    fn rope(&self, x: &mut Vec<f32>, rows: usize, heads: usize, head_dim: usize, position: usize, rotary: Rotary<'_>) {
        pointwise::rope(&mut x[..rows * heads * head_dim], heads, head_dim, position, rotary);
    }

    fn cache(&self, kv_heads: usize, head_dim: usize, precision: Precision) -> CpuCache {
        CpuCache::new(self.kernels, kv_heads, head_dim, precision, &self.cache_memory)
    }

    fn cache_bytes(&self, cache: &CpuCache) -> usize {
        cache.bytes()
    }

    fn cache_growth(&self, cache: &CpuCache, rows: usize, position: usize) -> usize {
        cache.growth(rows, position)
    }

    fn cache_memory(&self) -> usize {
        self.cache_memory.load(Ordering::Relaxed)
    }

    fn fork(&self, cache: &CpuCache, rows: usize) -> CpuCache {
        cache.fork(rows)
    }

    fn store(&self, cache: &mut CpuCache, keys: &Vec<f32>, values: &Vec<f32>, rows: usize, position: usize) {
        cache.store(keys, values, rows, position);
    }

    fn recall(&self, cache: &CpuCache, rows: usize, keys: &mut Vec<f32>, values: &mut Vec<f32>) {
        cache.recall(rows, keys, values);
    }

    fn copy_rows(&self, x: &Vec<f32>, first: usize, rows: usize, columns: usize, out: &mut Vec<f32>, at: usize) {
        out[at * columns..][..rows * columns].copy_from_slice(&x[first * columns..][..rows * columns]);
    }

    fn causal_attention(
        &self,
        shape: Attention,
        q: &Vec<f32>,
        cache: &CpuCache,
        slopes: Option<&Vec<f32>>,
        rows: usize,
        position: usize,
        out: &mut Vec<f32>,
    ) {
        assert!(out.len() >= rows * shape.heads * shape.head_dim);
        let slopes = slopes.map(Vec::as_slice);
        let visible = position + 1;
        let call = Call { shape, q, cache, slopes, rows, visible, causal: true, out: out.as_mut_ptr() };
        attention::attend(self.kernels, &self.pool, &[call]);
    }

    fn attend(
        &self,
        shape: Attention,
        heads: &mut Heads<Self>,
        norms: Option<&[Norm<Self>; 2]>,
        rotary: Option<Rotary<'_>>,
        slopes: Option<&Vec<f32>>,
        spans: &mut [Span<'_, Self>],
        out: &mut Vec<f32>,
    ) {
        let Attention { heads: query_heads, kv_heads, head_dim } = shape;
        let (width, kv_width) = (query_heads * head_dim, kv_heads * head_dim);
        let all: usize = spans.iter().map(|span| span.rows).sum();
        assert!(out.len() >= all * width);
        self.norm_heads(shape, heads, norms, all);
        let Heads { q, k, v, .. } = heads;
        let mut parts = Vec::with_capacity(spans.len());
        let (mut left_q, mut left_k, mut left_v) = (&mut q[..], &mut k[..], &v[..]);
        for Span { rows, position, cache } in spans.iter_mut() {
            let (own_q, own_k, own_v);
            (own_q, left_q) = left_q.split_at_mut(*rows * width);
            (own_k, left_k) = left_k.split_at_mut(*rows * kv_width);
            (own_v, left_v) = left_v.split_at(*rows * kv_width);
            parts.push(Mutex::new((own_q, own_k, own_v, &mut **cache, *rows, *position)));
        }
        self.pool.run(parts.len(), &|part| {
            // Each is taken once.
            let mut part = parts[part].lock().unwrap_or_else(PoisonError::into_inner);
            let (q, k, v, cache, rows, position) = &mut *part;
            if let Some(rotary) = rotary {
                pointwise::rope(q, query_heads, head_dim, *position, rotary);
                pointwise::rope(k, kv_heads, head_dim, *position, rotary);
            }
            cache.store(k, v, *rows, *position);
        });
        drop(parts);
        let mut calls: Vec<Call<'_>> = Vec::with_capacity(spans.len());
        let mut first = 0;
        for Span { rows, position, cache } in spans.iter() {
            let (q, out) = (&q[first * width..], out[first * width..].as_mut_ptr());
            let (slopes, visible) = (slopes.map(Vec::as_slice), position + 1);
            calls.push(Call { shape, q, cache, slopes, rows: *rows, visible, causal: true, out });
            first += rows;
        }
        attention::attend(self.kernels, &self.pool, &calls);
    }

    fn full_attention(
        &self,
        shape: Attention,
        q: &Vec<f32>,
        keys: &Vec<f32>,
        values: &Vec<f32>,
        lengths: &[usize],
        out: &mut Vec<f32>,
    ) {
        let mut first = 0;
        for &rows in lengths {
            let (width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
            let cache = self.cache(shape.kv_heads, shape.head_dim, Precision::F32);
            let mut cache = cache.of_whole_text(rows);
            cache.store(&keys[first * kv_width..], &values[first * kv_width..], rows, 0);
            let out = out[first * width..(first + rows) * width].as_mut_ptr();
            let q = &q[first * width..];
            let call = Call { shape, q, cache: &cache, slopes: None, rows, visible: rows, causal: false, out };
            attention::attend(self.kernels, &self.pool, &[call]);
            first += rows;
        }
    }

    fn silu_mul(&self, gate: &mut Vec<f32>, up: &Vec<f32>, len: usize) {
        let up = &up[..len];
        self.pool.run_rows(&mut gate[..len], 1, &|first, gate| {
            // SAFETY: the kernels were chosen because the processor has them.
            unsafe { self.kernels.silu_mul(gate, &up[first..first + gate.len()]) };
        });
    }

    fn gelu(&self, x: &mut Vec<f32>, len: usize) {
        self.pool.run_rows(&mut x[..len], 1, &|_, x| {
            // SAFETY: the kernels were chosen because the processor has them.
            unsafe { self.kernels.gelu(x) };
        });
    }

    fn add(&self, x: &mut Vec<f32>, y: &Vec<f32>, len: usize) {
        self.pool.run_rows(&mut x[..len], 1, &|first, x| x.iter_mut().zip(&y[first..]).for_each(|(x, y)| *x += y));
    }
}
