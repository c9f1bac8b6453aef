//! Weights on their way into the form that the kernels read, row by row.

use half::{bf16, f16};

use super::format::{BLOCK, Format, I8, U4, U5, U6};
use super::ggml_block;
use super::kernels::Kernels;
use super::matrix::{CpuMatrix, Form};
use super::panel::PANEL_VECTORS;
use super::panels;
use crate::row_cutter::RowCutter;
use crate::tensor::tensor_bytes;
use crate::{ComputeError, Encoding, MatrixBuilder, TensorView};

/// How quantized weights are laid out, apart from the instruction set.
pub(super) struct Layout {
    pub bytes: fn(usize) -> usize,
    pub data: usize,
    pub scales: usize,
    pub has_minimum: bool,
    pack: fn(&[u8; BLOCK], usize, usize, &mut [u8]),
    pub unpack: fn(&[u8], usize, usize) -> [u8; BLOCK],
}

fn layout_of<F: Format>() -> Layout {
    Layout {
        bytes: F::bytes,
        data: F::DATA,
        scales: F::SCALES,
        has_minimum: F::HAS_MINIMUM,
        pack: F::pack,
        unpack: F::unpack,
    }
}

/// `None` for unquantized encodings.
pub(super) fn layout(encoding: Encoding) -> Option<Layout> {
    match encoding {
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => None,
        Encoding::Q8_0 => Some(layout_of::<I8>()),
        Encoding::Q4_0 => Some(layout_of::<U4<8, false>>()),
        Encoding::Q4K => Some(layout_of::<U4<0, true>>()),
        Encoding::Q5K => Some(layout_of::<U5>()),
        Encoding::Q6K => Some(layout_of::<U6>()),
    }
}

/// A matrix of which some rows may not have come yet.
pub struct CpuMatrixBuilder {
    /// As the numbers come; the matrix may keep them in another form.
    encoding: Encoding,
    cutter: RowCutter,
    next_row: usize,
    matrix: CpuMatrix,
}

impl CpuMatrixBuilder {
    pub(super) fn new(
        kernels: &'static Kernels,
        name: &str,
        shape: &[usize],
        encoding: Encoding,
    ) -> Result<Self, ComputeError> {
        let &[rows, columns] = shape else {
            return Err(ComputeError::NotAMatrix { name: name.to_owned(), shape: shape.to_vec() });
        };
        let layout = layout(encoding);
        let (form, width) = match &layout {
            Some(_) => (Form::Blocks(encoding), kernels.rows),
            None => (Form::Panels(encoding), PANEL_VECTORS * kernels.rows),
        };
        let group_bytes = match &layout {
            Some(layout) => (columns / BLOCK).checked_mul((layout.bytes)(width)),
            None => panels::checked_bytes(encoding, columns, width),
        };
        let packed = group_bytes.and_then(|bytes| bytes.checked_mul(rows.div_ceil(width)));
        let (Some(packed), Some(_)) = (packed, tensor_bytes(name, shape, encoding)?) else {
            let (name, shape) = (name.to_owned(), shape.to_vec());
            return Err(ComputeError::WrongLength { name, shape, encoding, expected: usize::MAX, found: 0 });
        };
        let bytes = packed;
        let mut packed = Vec::new();
        if packed.try_reserve_exact(bytes).is_err() {
            return Err(ComputeError::NoMemory { name: name.to_owned(), bytes });
        }
        packed.resize(bytes, 0);
        Ok(Self {
            encoding,
            cutter: RowCutter::new(columns / encoding.block_len() * encoding.block_bytes()),
            next_row: 0,
            matrix: CpuMatrix { kernels, rows, columns, form, packed },
        })
    }

    fn row(&mut self, bytes: &[u8]) {
        if self.next_row >= self.matrix.rows {
            return;
        }
        match layout(self.encoding) {
            Some(layout) => self.quantized_row(bytes, &layout),
            None => self.unquantized_row(bytes),
        }
        self.next_row += 1;
    }

    fn quantized_row(&mut self, bytes: &[u8], layout: &Layout) {
        let (encoding, row) = (self.encoding, self.next_row);
        let CpuMatrix { kernels, columns, packed, .. } = &mut self.matrix;
        let (width, blocks) = (kernels.rows, *columns / BLOCK);
        let group_bytes = (layout.bytes)(width);
        let (group, lane) = (row / width, row % width);
        let mut groups = packed[group * blocks * group_bytes..][..blocks * group_bytes].chunks_exact_mut(group_bytes);
        for block in bytes.chunks_exact(encoding.block_bytes()) {
            ggml_block::row_blocks(encoding, block, |mut row_block| {
                let Some(out) = groups.next() else { return };
                if encoding == Encoding::Q8_0 {
                    row_block.quants.iter_mut().for_each(|q| *q = q.wrapping_add(kernels.signed_bias as u8));
                }
                (layout.pack)(&row_block.quants, lane, width, out);
                let minimum = layout.has_minimum.then_some(&row_block.minimum);
                for (index, factor) in row_block.scales[..layout.scales].iter().chain(minimum).enumerate() {
                    let at = width * layout.data + 2 * (index * width + lane);
                    out[at..at + 2].copy_from_slice(&f16::from_f32(*factor).to_le_bytes());
                }
            });
        }
    }

    fn unquantized_row(&mut self, bytes: &[u8]) {
        let (encoding, row) = (self.encoding, self.next_row);
        let CpuMatrix { kernels, columns, packed, .. } = &mut self.matrix;
        let (width, size) = (PANEL_VECTORS * kernels.rows, encoding.block_bytes());
        let panel_bytes = panels::bytes(encoding, *columns, width);
        let panel = &mut packed[row / width * panel_bytes..][..panel_bytes];
        for (column, number) in bytes.chunks_exact(size).enumerate() {
            panel[panels::place(encoding, row % width, column, width)..][..size].copy_from_slice(number);
        }
    }
}

impl MatrixBuilder for CpuMatrixBuilder {
    type Matrix = CpuMatrix;

    fn push(&mut self, bytes: &[u8]) {
        let mut cutter = std::mem::take(&mut self.cutter);
        cutter.push(bytes, |row| self.row(row));
        self.cutter = cutter;
    }

    fn finish(self) -> CpuMatrix {
        self.matrix
    }
}

/// Calls back with the numbers of an unquantized encoding in order.
fn for_each_number(encoding: Encoding, bytes: &[u8], take: &mut impl FnMut(usize, f32)) {
    bytes.chunks_exact(encoding.block_bytes()).enumerate().for_each(|(i, bytes)| take(i, number(encoding, bytes)));
}

/// One number of an unquantized encoding.
pub(super) fn number(encoding: Encoding, bytes: &[u8]) -> f32 {
    match (encoding, bytes) {
        (Encoding::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
        (Encoding::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
        (_, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        _ => f32::NAN, // callers give as many bytes as a number has
    }
}

/// All numbers of a validated tensor as f32.
pub(crate) fn to_f32(tensor: &TensorView<'_>) -> Vec<f32> {
    let encoding = tensor.encoding;
    let mut numbers = Vec::with_capacity(tensor.bytes.len() / encoding.block_bytes() * encoding.block_len());
    if layout(encoding).is_none() {
        for_each_number(encoding, tensor.bytes, &mut |_, number| numbers.push(number));
    } else {
        for block in tensor.bytes.chunks_exact(encoding.block_bytes()) {
            ggml_block::row_blocks(encoding, block, |row| numbers.extend(ggml_block::numbers(encoding, &row)));
        }
    }
    numbers
}
