//! Weight matrices and their product with activations.

use std::marker::PhantomData;
use std::ops::Range;

use half::f16;

use super::activations::Activations;
use super::builder::{layout, number, to_f32};
use super::format::{BLOCK, RowBlock};
use super::ggml_block;
use super::kernels::Kernels;
use super::panel::PANEL_VECTORS;
use super::panels;
use super::pool::Pool;
use super::product::{DECODE_GROUPS, Job};
use super::stretch::{self, STRETCH, StretchActivations};
use super::tiles::TileActivations;
use crate::{ComputeError, Encoding, TensorView};

/// Multiplications below which a product is not worth sharing among threads.
const LEAST_SHARED_WORK: usize = 1 << 16;
/// Tasks a thread, so that a thread that is held up does not hold up the others.
const TASKS_PER_THREAD: usize = 4;

/// A weight matrix `[rows, columns]` on the CPU, packed for the kernels of this processor.
///
/// Unquantized weights stay as they are stored. Scales and minimums of K-quants are multiplied out and
/// rounded to half precision (2⁻¹¹ relative, a tenth of what rounding the activations to 8 bits costs).
pub struct CpuMatrix {
    pub(super) kernels: &'static Kernels,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) form: Form,
    pub(super) packed: Vec<u8>,
}

/// How a matrix stands in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Panels of unquantized numbers as they are stored, those of bfloat16 in pairs of columns.
    Panels(Encoding),
    /// Groups of a file's quantized blocks.
    Blocks(Encoding),
    /// Groups of stretches, rounded to 8 bits when they were loaded.
    Stretches,
}

impl CpuMatrix {
    /// Outputs of the product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of the product.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rounds an unquantized matrix to 8 bits with a scale for each [`STRETCH`] columns; rows are whole stretches.
    pub(super) fn round(kernels: &'static Kernels, tensor: &TensorView<'_>) -> Result<Self, ComputeError> {
        tensor.validate()?;
        let &[rows, columns] = tensor.shape else {
            return Err(ComputeError::NotAMatrix { name: tensor.name.to_owned(), shape: tensor.shape.to_vec() });
        };
        let (lanes, numbers) = (kernels.rows, to_f32(tensor));
        let (width, group_bytes) = (stretch::VECTORS * lanes, columns / STRETCH * stretch::bytes(lanes));
        let mut packed = vec![0; rows.div_ceil(width) * group_bytes];
        for (row, numbers) in numbers.chunks_exact(columns).enumerate() {
            stretch::pack(numbers, row % width, lanes, &mut packed[row / width * group_bytes..][..group_bytes]);
        }
        Ok(Self { kernels, rows, columns, form: Form::Stretches, packed })
    }

    /// Rows that are computed together.
    fn group_rows(&self) -> usize {
        match self.form {
            Form::Panels(_) => PANEL_VECTORS * self.kernels.rows,
            Form::Blocks(_) => self.kernels.rows,
            Form::Stretches => stretch::VECTORS * self.kernels.rows,
        }
    }

    /// `out[tokens, rows] = x[tokens, columns] · selfᵀ + bias` in tasks for the threads of a pool.
    pub(super) fn product<'a>(
        &'a self,
        tokens: usize,
        bias: Option<&'a [f32]>,
        pool: &Pool,
        out: &'a mut [f32],
    ) -> Product<'a> {
        assert!(out.len() == tokens * self.rows && bias.is_none_or(|bias| bias.len() == self.rows));
        let groups = self.rows.div_ceil(self.group_rows());
        let tasks = match self.rows.saturating_mul(self.columns).saturating_mul(tokens) {
            small if small < LEAST_SHARED_WORK => 1,
            _ if pool.threads() == 1 => 1,
            _ => groups.min(pool.threads() * TASKS_PER_THREAD),
        };
        Product { matrix: self, tokens, bias, groups, tasks, out: out.as_mut_ptr(), _out: PhantomData }
    }

    fn multiply_groups(&self, x: &Input, tokens: usize, groups: Range<usize>, out: *mut f32) {
        let job = Job { weights: &self.packed, shape: (self.rows, self.columns), groups, out, tokens };
        // SAFETY: sizes were checked by `product`; the matrix was packed for these kernels, which were chosen because
        // the processor has them; tasks have disjoint groups, so no two threads write the same rows.
        unsafe {
            match (self.form, x) {
                (Form::Panels(Encoding::Bf16), Input { tiles: Some(x), .. }) => (self.kernels.tiles)(&job, x),
                (Form::Panels(Encoding::Bf16), Input { rounded: Some(x), .. }) => {
                    self.kernels.panels(Encoding::Bf16, &job, x);
                }
                (Form::Panels(encoding), Input { single: Some(x), .. }) => self.kernels.panels(encoding, &job, x),
                (Form::Blocks(encoding), Input { blocks: Some(x), .. }) => self.kernels.quantized(encoding, &job, x),
                (Form::Stretches, Input { stretches: Some(x), .. }) => self.kernels.stretches(&job, x),
                _ => unreachable!("activations are prepared for the matrix's form"),
            }
        }
    }

    /// Dequantizes one row.
    pub(super) fn read_row(&self, row: usize, out: &mut [f32]) {
        let (width, blocks) = (self.group_rows(), self.columns / BLOCK);
        let (group, lane) = (row / width, row % width);
        let encoding = match self.form {
            Form::Panels(encoding) => {
                let panel_bytes = panels::bytes(encoding, self.columns, width);
                let panel = &self.packed[group * panel_bytes..][..panel_bytes];
                for (column, out) in out.iter_mut().enumerate() {
                    let at = panels::place(encoding, lane, column, width);
                    *out = number(encoding, &panel[at..at + encoding.block_bytes()]);
                }
                return;
            }
            Form::Stretches => {
                let group_bytes = self.columns / STRETCH * stretch::bytes(self.kernels.rows);
                return stretch::unpack(
                    &self.packed[group * group_bytes..][..group_bytes],
                    lane,
                    self.kernels.rows,
                    out,
                );
            }
            Form::Blocks(encoding) => encoding,
        };
        let Some(layout) = layout(encoding) else { unreachable!("blocks are of a quantized encoding") };
        let group_bytes = (layout.bytes)(width);
        for (block, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            let bytes = &self.packed[(group * blocks + block) * group_bytes..][..group_bytes];
            let factors = |index: usize| {
                let at = width * layout.data + 2 * (index * width + lane);
                f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
            };
            let mut quants = (layout.unpack)(bytes, lane, width);
            if encoding == Encoding::Q8_0 {
                quants.iter_mut().for_each(|q| *q = q.wrapping_sub(self.kernels.signed_bias as u8));
            }
            let minimum = if layout.has_minimum { factors(layout.scales) } else { 0.0 };
            let row_block = RowBlock { quants, scales: [factors(0), factors(layout.scales - 1)], minimum };
            out.copy_from_slice(&ggml_block::numbers(encoding, &row_block));
        }
    }
}

/// The same activations `[tokens, columns]` as each form of a matrix reads them, where one is to be multiplied.
#[derive(Default)]
pub(super) struct Input {
    single: Option<Vec<f32>>,
    /// Rounded to bfloat16.
    rounded: Option<Vec<f32>>,
    tiles: Option<TileActivations>,
    blocks: Option<Activations>,
    stretches: Option<StretchActivations>,
}

impl Input {
    /// Prepares activations for matrices of so many columns.
    pub fn new<'a>(
        x: &[f32],
        columns: usize,
        matrices: impl Iterator<Item = &'a CpuMatrix>,
        kernels: &Kernels,
        pool: &Pool,
    ) -> Self {
        let mut input = Self::default();
        for matrix in matrices {
            assert!(matrix.columns == columns && x.len().is_multiple_of(columns.max(1)));
            match matrix.form {
                Form::Panels(Encoding::Bf16) if (kernels.takes_tiles)(x.len() / columns.max(1), columns) => {
                    input.tiles.get_or_insert_with(|| TileActivations::round(x, columns, pool));
                }
                Form::Panels(Encoding::Bf16) if input.rounded.is_none() => {
                    input.rounded = Some(panels::interleave(&panels::round(x), columns));
                }
                Form::Panels(encoding) if encoding != Encoding::Bf16 && input.single.is_none() => {
                    input.single = Some(panels::interleave(x, columns))
                }
                Form::Blocks(_) if input.blocks.is_none() => input.blocks = Some((kernels.quantize)(x, columns, pool)),
                Form::Stretches if input.stretches.is_none() => {
                    input.stretches = Some((kernels.quantize_stretches)(x, columns, pool));
                }
                _ => {} // prepared already
            }
        }
        input
    }
}

/// A product on its way.
pub(super) struct Product<'a> {
    matrix: &'a CpuMatrix,
    tokens: usize,
    bias: Option<&'a [f32]>,
    groups: usize,
    tasks: usize,
    /// Each task writes its own rows.
    out: *mut f32,
    _out: PhantomData<&'a mut [f32]>,
}

// SAFETY: tasks write disjoint rows, see `multiply_groups` and `task`.
unsafe impl Sync for Product<'_> {}

/// Computes products of the same activations, quantized where the weights are, as one piece of work: threads wait for each
/// other once.
pub(super) fn multiply(products: &[Product<'_>], x: &Input, pool: &Pool) {
    pool.run(products.iter().map(|product| product.tasks).sum(), &|task| {
        let mut task = task;
        for product in products {
            match task.checked_sub(product.tasks) {
                Some(later) => task = later,
                None => return product.task(x, task),
            }
        }
    });
}

impl Product<'_> {
    fn task(&self, x: &Input, task: usize) {
        let Self { matrix, tokens, groups, tasks, .. } = *self;
        let share = |task: usize| match tokens {
            1 if task < tasks => task * groups / tasks / DECODE_GROUPS * DECODE_GROUPS,
            _ => task * groups / tasks,
        };
        let groups = share(task)..share(task + 1);
        let rows = groups.start * matrix.group_rows()..(groups.end * matrix.group_rows()).min(matrix.rows);
        matrix.multiply_groups(x, tokens, groups, self.out);
        let Some(bias) = self.bias.filter(|_| !rows.is_empty()) else { return };
        for token in 0..tokens {
            // SAFETY: these rows are this task's, in every token.
            let out =
                unsafe { std::slice::from_raw_parts_mut(self.out.add(token * matrix.rows + rows.start), rows.len()) };
            out.iter_mut().zip(&bias[rows.clone()]).for_each(|(o, b)| *o += b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MatrixBuilder;
    use crate::cpu::builder::CpuMatrixBuilder;
    use crate::cpu::kernels::{available, best};
    use candle_core::quantized::k_quants::{BlockQ4_0, BlockQ4K, BlockQ5K, BlockQ6K, BlockQ8_0, GgmlType};
    use half::bf16;

    fn noise(seed: u32, len: usize) -> Vec<f32> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 - 0.5
        };
        (0..len).map(|_| next()).collect()
    }

    fn encode(encoding: Encoding, numbers: &[f32]) -> Vec<u8> {
        fn bytes_of<T: GgmlType>(numbers: &[f32]) -> Vec<u8> {
            let mut blocks = vec![T::zeros(); numbers.len() / T::BLCK_SIZE];
            T::from_float(numbers, &mut blocks);
            let len = std::mem::size_of_val(blocks.as_slice());
            // SAFETY: plain repr(C) blocks without padding, read as bytes.
            unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast::<u8>(), len) }.to_vec()
        }
        match encoding {
            Encoding::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Encoding::F16 => numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            Encoding::Bf16 => numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            Encoding::Q8_0 => bytes_of::<BlockQ8_0>(numbers),
            Encoding::Q4_0 => bytes_of::<BlockQ4_0>(numbers),
            Encoding::Q4K => bytes_of::<BlockQ4K>(numbers),
            Encoding::Q5K => bytes_of::<BlockQ5K>(numbers),
            Encoding::Q6K => bytes_of::<BlockQ6K>(numbers),
        }
    }

    /// What a block of activations is worth after its rounding to 8 bits, so that products can be compared exactly.
    fn rounded(x: &[f32]) -> Vec<f32> {
        x.chunks(BLOCK)
            .flat_map(|block| {
                let scale = block.iter().fold(0.0f32, |m, x| m.max(x.abs())) / 127.0;
                block.iter().map(move |x| if scale > 0.0 { (x / scale).round_ties_even() * scale } else { 0.0 })
            })
            .collect()
    }

    /// A matrix from pieces of its bytes.
    fn build(kernels: &'static Kernels, view: &TensorView<'_>, piece: usize) -> Result<CpuMatrix, ComputeError> {
        view.validate()?;
        let mut builder = CpuMatrixBuilder::new(kernels, view.name, view.shape, view.encoding)?;
        view.bytes.chunks(piece).for_each(|piece| builder.push(piece));
        Ok(builder.finish())
    }

    fn check(kernels: &'static Kernels, encoding: Encoding, bytes: &[u8], shape: [usize; 2], tokens: usize) {
        let [rows, columns] = shape;
        let view = TensorView { name: "w", shape: &shape, encoding, bytes };
        let matrix = build(kernels, &view, 7).unwrap();
        let (weights, x) = (to_f32(&view), noise(9, tokens * columns));
        let input = Input::new(&x, columns, std::iter::once(&matrix), kernels, &Pool::alone());
        let mut out = vec![f32::NAN; tokens * rows];
        multiply(&[matrix.product(tokens, None, &Pool::alone(), &mut out)], &input, &Pool::alone());
        let x = match matrix.form {
            Form::Panels(Encoding::Bf16) => panels::round(&x),
            Form::Panels(_) => x,
            _ => rounded(&x),
        };
        let scales = bytes.chunks_exact(34).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32().abs());
        let lift = if encoding == Encoding::Q8_0 { 128.0 * scales.fold(0.0, f32::max) } else { 0.0 };
        for (i, got) in out.iter().enumerate() {
            let (a, b) = (i / rows * columns, i % rows * columns);
            let products = || (0..columns).map(|k| f64::from(x[a + k]) * f64::from(weights[b + k]));
            let (wanted, size) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
            let name = kernels.name;
            // half-precision scales of K-quants, and a half that rounds differently once in a while
            let allowed = if !matches!(matrix.form, Form::Panels(_)) { 2e-3 } else { 1e-5 };
            let wrong = (f64::from(*got) - wanted).abs();
            // Bytes that are lifted by 128 for unsigned products are brought back in single precision.
            let lifted = (0..columns).map(|k| f64::from(x[a + k].abs()) * f64::from(lift)).sum::<f64>();
            assert!(
                wrong <= allowed * size + 1e-6 * (1.0 + lifted),
                "{name} {encoding:?} {shape:?} n={tokens} {i}: {got} against {wanted}"
            );
        }
        let mut row = vec![0.0; columns];
        for r in [0, rows - 1] {
            matrix.read_row(r, &mut row);
            for (got, wanted) in row.iter().zip(&weights[r * columns..]) {
                assert!((got - wanted).abs() <= 1e-3 * wanted.abs() + 1e-3, "{encoding:?} row {r}: {got} {wanted}");
            }
        }
    }

    #[test]
    fn products_agree_with_the_naive_product_on_every_instruction_set() {
        for kernels in available() {
            for encoding in Encoding::ALL {
                for (rows, columns) in [(37, 512), (16, 256), (1, 256), (65, 768)] {
                    let bytes = encode(encoding, &noise(7, rows * columns));
                    for tokens in [1, 3, 8, 17, 69] {
                        check(kernels, encoding, &bytes, [rows, columns], tokens);
                    }
                }
            }
        }
    }

    #[test]
    fn a_token_alone_gets_the_same_numbers_as_among_others() {
        for kernels in available() {
            for (encoding, columns) in Encoding::ALL.map(|encoding| (encoding, 768)).into_iter().chain([
                (Encoding::F32, 51),
                (Encoding::F16, 51),
                (Encoding::Bf16, 51),
                (Encoding::Bf16, 80),
            ]) {
                // More rows than panels that one token meets at once.
                let rows = 8 * 32 + 5;
                let bytes = encode(encoding, &noise(7, rows * columns));
                let shape = [rows, columns];
                let matrix =
                    build(kernels, &TensorView { name: "w", shape: &shape, encoding, bytes: &bytes }, 997).unwrap();
                let x = noise(9, 35 * columns);
                let products = |tokens: Range<usize>| {
                    let x = &x[tokens.start * columns..tokens.end * columns];
                    let input = Input::new(x, columns, std::iter::once(&matrix), kernels, &Pool::alone());
                    let mut out = vec![f32::NAN; tokens.len() * rows];
                    multiply(&[matrix.product(tokens.len(), None, &Pool::alone(), &mut out)], &input, &Pool::alone());
                    out
                };
                let alone: Vec<f32> = (0..35).flat_map(|token| products(token..token + 1)).collect();
                for tokens in [0..2, 2..5, 5..9, 9..15, 0..19, 0..35] {
                    let wanted = &alone[tokens.start * rows..tokens.end * rows];
                    assert!(products(tokens.clone()) == wanted, "{} {encoding:?} {columns} {tokens:?}", kernels.name);
                }
            }
        }
    }

    #[test]
    fn weights_rounded_at_load_are_multiplied_right_on_every_instruction_set() {
        for kernels in available() {
            for (rows, columns) in [(37, 512), (16, 256), (1, 128), (65, 768)] {
                let numbers = noise(7, rows * columns);
                let (bytes, shape) = (encode(Encoding::F32, &numbers), [rows, columns]);
                let view = TensorView { name: "w", shape: &shape, encoding: Encoding::F32, bytes: &bytes };
                let matrix = CpuMatrix::round(kernels, &view).unwrap();
                let mut weights = vec![0.0; rows * columns];
                weights.chunks_mut(columns).enumerate().for_each(|(row, out)| matrix.read_row(row, out));
                for tokens in [1, 2, 3, 4, 7, 17] {
                    let x = noise(9, tokens * columns);
                    let input = Input::new(&x, columns, std::iter::once(&matrix), kernels, &Pool::alone());
                    let mut out = vec![f32::NAN; tokens * rows];
                    multiply(&[matrix.product(tokens, None, &Pool::alone(), &mut out)], &input, &Pool::alone());
                    for (i, got) in out.iter().enumerate() {
                        let (x, w) = (&x[i / rows * columns..][..columns], &weights[i % rows * columns..][..columns]);
                        let wanted: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                        // Activations are off by half of 1/127 at most; errors of many products cancel each other.
                        let size: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x * *w).powi(2)).sum::<f64>().sqrt();
                        let wrong = (f64::from(*got) - wanted).abs();
                        assert!(wrong <= 0.05 * size, "{} {shape:?} n={tokens} {i}: {got} {wanted}", kernels.name);
                    }
                }
            }
        }
    }

    #[test]
    fn columns_need_not_be_a_multiple_of_anything_in_f32() {
        for kernels in available() {
            let bytes = encode(Encoding::F32, &noise(7, 5 * 3));
            for tokens in [1, 2, 5] {
                check(kernels, Encoding::F32, &bytes, [5, 3], tokens);
            }
        }
    }

    #[test]
    fn extreme_weights_are_multiplied_right() {
        // -128 in Q8_0 and the greatest field of every K-quant, which encoders hardly write but files may hold
        for kernels in available() {
            for encoding in [Encoding::Q8_0, Encoding::Q4_0, Encoding::Q4K, Encoding::Q5K, Encoding::Q6K] {
                for fill in [0x80, 0xff, 0x7f, 0x00] {
                    let mut bytes = vec![fill; 256 / encoding.block_len() * encoding.block_bytes() * 9];
                    for block in bytes.chunks_exact_mut(encoding.block_bytes()) {
                        // scales 1.0 where each encoding keeps them
                        let one = f16::ONE.to_le_bytes();
                        match encoding {
                            Encoding::Q6K => block[208..210].copy_from_slice(&one),
                            Encoding::Q4K | Encoding::Q5K => {
                                block[..2].copy_from_slice(&one);
                                block[2..4].copy_from_slice(&one);
                            }
                            _ => block[..2].copy_from_slice(&one),
                        }
                    }
                    check(kernels, encoding, &bytes, [9, 256], 5);
                }
            }
        }
    }

    #[test]
    fn threads_give_the_same_numbers() {
        let (pool, workers) = Pool::with_workers(2);
        let threads: Vec<_> = workers.into_iter().map(|w| std::thread::spawn(move || w.run())).collect();
        let bytes = encode(Encoding::Q8_0, &noise(7, 333 * 512));
        let view = TensorView { name: "w", shape: &[333, 512], encoding: Encoding::Q8_0, bytes: &bytes };
        let matrix = build(best(), &view, usize::MAX).unwrap();
        let x = noise(3, 5 * 512);
        let input = Input::new(&x, 512, std::iter::once(&matrix), best(), &Pool::alone());
        let bias = noise(4, 333);
        let (mut alone, mut shared) = (vec![0.0; 5 * 333], vec![0.0; 5 * 333]);
        multiply(&[matrix.product(5, None, &Pool::alone(), &mut alone)], &input, &Pool::alone());
        multiply(&[matrix.product(5, Some(&bias), &pool, &mut shared)], &input, &pool);
        alone.chunks_mut(333).for_each(|row| row.iter_mut().zip(&bias).for_each(|(x, b)| *x += b));
        assert_eq!(alone, shared);
        drop(pool);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn wrong_sizes_are_typed_errors() {
        let view = |shape: &'static [usize], bytes: &'static [u8]| {
            build(best(), &TensorView { name: "w", shape, encoding: Encoding::Q8_0, bytes }, 1).err().unwrap()
        };
        assert!(matches!(view(&[2, 32], &[0; 34]), ComputeError::WrongLength { expected: 68, found: 34, .. }));
        assert!(matches!(view(&[2, 33], &[0; 34]), ComputeError::PartialBlock { columns: 33, .. }));
        assert!(matches!(view(&[32], &[0; 34]), ComputeError::NotAMatrix { .. }));
        assert!(matches!(view(&[usize::MAX, 32], &[0; 34]), ComputeError::WrongLength { .. }));
    }
}
