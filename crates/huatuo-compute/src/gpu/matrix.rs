//! Weight matrices on the device, and how they are packed on their way there.

use std::sync::Arc;

use half::f16;

use super::buffer::{ALIGNMENT, Allocation, Place, binding_bytes};
use super::device::Gpu;
use crate::cpu::ggml_block::{self, BLOCK, RowBlock};
use crate::row_cutter::RowCutter;
use crate::tensor::tensor_bytes;
use crate::{ComputeError, Encoding, MatrixBuilder};

/// Bytes that are packed before they are sent.
const STAGED: usize = 1 << 20;

/// Rows that are stored side by side: `shader/block.wgsl`.
pub(super) const GROUP: usize = 32;

/// A matrix `[rows, columns]` of weights, in as many parts as the device's largest binding asks for.
pub struct GpuMatrix {
    pub(super) encoding: Encoding,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) parts: Vec<MatrixPart>,
}

/// Some rows of a matrix: their quants, then what else their blocks need, in one allocation.
#[derive(Clone)]
pub(super) struct MatrixPart {
    pub allocation: Arc<Allocation>,
    /// Rows before it in the matrix.
    pub first: usize,
    pub rows: usize,
    /// Where its quants begin, and where its extras.
    pub quants: usize,
    pub extras: usize,
    /// For parts of one allocation: rows of all matrices in it before this one.
    pub joint: Option<JointRows>,
}

/// Place of a matrix among those that share an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JointRows {
    pub first: usize,
    pub all: usize,
}

/// Bytes of a row's quants and extras.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowBytes {
    pub quants: usize,
    pub extras: usize,
}

impl RowBytes {
    pub fn new(encoding: Encoding, columns: usize) -> Self {
        let blocks = columns.div_ceil(BLOCK);
        let (quants, extras) = match encoding {
            Encoding::F32 => (128 * blocks, 0),
            Encoding::F16 | Encoding::Bf16 => (64 * blocks, 0),
            Encoding::Q8_0 => (32 * blocks, 2 * blocks),
            Encoding::Q4_0 => (16 * blocks, 2 * blocks),
            Encoding::Q4K => (16 * blocks, 4 * blocks),
            Encoding::Q5K => (16 * blocks, 8 * blocks),
            Encoding::Q6K => (16 * blocks, 12 * blocks),
        };
        Self { quants, extras }
    }

    /// Where the extras of so many rows begin, and the bytes of all; the last group is a whole one.
    pub fn layout(self, rows: usize) -> (usize, usize) {
        let rows = rows.next_multiple_of(GROUP);
        let extras = binding_bytes(rows * self.quants).next_multiple_of(ALIGNMENT);
        (extras, extras + binding_bytes(rows * self.extras))
    }
}

impl GpuMatrix {
    /// Blocks of 32 columns in a row.
    pub(super) fn blocks(&self) -> usize {
        self.columns.div_ceil(BLOCK)
    }

    /// Bytes of a block as it is stored.
    pub(super) fn bytes_of_block(&self) -> usize {
        let row = RowBytes::new(self.encoding, BLOCK);
        row.quants + row.extras
    }
}

impl MatrixPart {
    /// Quants and extras of so many rows from this part on.
    pub fn places(&self, row: RowBytes, rows: usize) -> [Place<'_>; 2] {
        let place = |start, bytes| Place { allocation: &self.allocation, start, bytes: binding_bytes(bytes) };
        let rows = rows.next_multiple_of(GROUP);
        [place(self.quants, rows * row.quants), place(self.extras, rows * row.extras)]
    }
}

/// A matrix on its way to the device.
pub struct GpuMatrixBuilder {
    device: Gpu,
    matrix: GpuMatrix,
    cutter: RowCutter,
    next_row: usize,
    /// Rows of a group, one after the other.
    group: Staged,
    /// Groups that are not sent yet.
    staged: Staged,
    /// Rows that were sent.
    sent: usize,
}

/// Packed rows.
#[derive(Default)]
struct Staged {
    quants: Vec<u8>,
    extras: Vec<u8>,
}

impl GpuMatrixBuilder {
    pub(super) fn new(device: &Gpu, name: &str, shape: &[usize], encoding: Encoding) -> Result<Self, ComputeError> {
        let &[rows, columns] = shape else {
            return Err(ComputeError::NotAMatrix { name: name.to_owned(), shape: shape.to_vec() });
        };
        if !columns.is_multiple_of(4) {
            let (name, shape) = (name.to_owned(), shape.to_vec());
            return Err(ComputeError::UnsupportedShape { name, shape, reason: "rows must be whole vectors of four" });
        }
        let row = RowBytes::new(encoding, columns);
        let bytes = tensor_bytes(name, shape, encoding)?.and_then(|_| rows.checked_mul(row.quants + row.extras));
        let Some(bytes) = bytes else {
            let (name, shape) = (name.to_owned(), shape.to_vec());
            return Err(ComputeError::WrongLength { name, shape, encoding, expected: usize::MAX, found: 0 });
        };
        if device.is_lost() {
            return Err(ComputeError::DeviceLost); // a file of gigabytes need not be read for nothing
        }
        device.check_room(name, bytes)?;
        // Bindings of quants must not be longer than the device allows, allocations neither.
        let most = device.largest_binding() / (row.quants + row.extras + 1).max(1);
        let most = (most / GROUP).saturating_sub(1).max(1) * GROUP;
        let mut parts = Vec::new();
        for first in (0..rows).step_by(most) {
            let part_rows = most.min(rows - first);
            let (extras, bytes) = row.layout(part_rows);
            let allocation = device.allocate(bytes);
            parts.push(MatrixPart { allocation, first, rows: part_rows, quants: 0, extras, joint: None });
        }
        Ok(Self {
            device: device.clone(),
            matrix: GpuMatrix { encoding, rows, columns, parts },
            cutter: RowCutter::new(columns / encoding.block_len() * encoding.block_bytes()),
            next_row: 0,
            group: Staged::default(),
            staged: Staged::default(),
            sent: 0,
        })
    }

    fn row(&mut self, bytes: &[u8]) {
        if self.next_row >= self.matrix.rows {
            return;
        }
        pack_row(self.matrix.encoding, self.matrix.columns, bytes, &mut self.group);
        self.next_row += 1;
        if self.next_row.is_multiple_of(GROUP) || self.next_row == self.matrix.rows {
            self.interleave();
        }
        let part_ends = self.matrix.parts.iter().any(|part| part.first + part.rows == self.next_row);
        if part_ends || self.staged.quants.len() >= STAGED {
            self.send();
        }
    }

    /// Appends the rows of a group block by block, the words of its rows side by side; of scales that are half a word each,
    /// the first sixteen rows' are the low halves.
    fn interleave(&mut self) {
        let row = RowBytes::new(self.matrix.encoding, self.matrix.columns);
        for (width, rows, out) in [
            (row.quants, &mut self.group.quants, &mut self.staged.quants),
            (row.extras, &mut self.group.extras, &mut self.staged.extras),
        ] {
            rows.resize(GROUP * width, 0); // rows that a last group lacks
            out.reserve(rows.len());
            if width == 2 * self.matrix.columns.div_ceil(BLOCK) {
                for half in (0..width).step_by(2) {
                    for lane in 0..GROUP / 2 {
                        out.extend_from_slice(&rows[lane * width + half..][..2]);
                        out.extend_from_slice(&rows[(lane + GROUP / 2) * width + half..][..2]);
                    }
                }
            } else {
                for word in (0..width).step_by(4) {
                    (0..GROUP).for_each(|lane| out.extend_from_slice(&rows[lane * width + word..][..4]));
                }
            }
            rows.clear();
        }
    }

    fn send(&mut self) {
        let Staged { quants, extras } = &mut self.staged;
        let row = RowBytes::new(self.matrix.encoding, self.matrix.columns);
        let (first, rows) = (self.sent, quants.len() / row.quants);
        if let Some(part) = self.matrix.parts.iter().find(|part| (part.first..part.first + part.rows).contains(&first))
        {
            let at = first - part.first;
            self.device.write(&part.allocation, part.quants + at * row.quants, quants);
            self.device.write(&part.allocation, part.extras + at * row.extras, extras);
        }
        self.sent += rows;
        quants.clear();
        extras.clear();
    }
}

impl MatrixBuilder for GpuMatrixBuilder {
    type Matrix = GpuMatrix;

    fn push(&mut self, bytes: &[u8]) {
        let mut cutter = std::mem::take(&mut self.cutter);
        cutter.push(bytes, |row| self.row(row));
        self.cutter = cutter;
    }

    fn finish(mut self) -> GpuMatrix {
        if !self.group.quants.is_empty() {
            self.interleave();
        }
        if !self.staged.quants.is_empty() {
            self.send();
        }
        self.matrix
    }
}

/// A row of a file as the kernels read it: `shader/weights_*.wgsl`.
fn pack_row(encoding: Encoding, columns: usize, bytes: &[u8], out: &mut Staged) {
    let padded = columns.div_ceil(BLOCK) * BLOCK;
    match encoding {
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => {
            let end = out.quants.len() + padded * encoding.block_bytes();
            out.quants.extend_from_slice(bytes);
            out.quants.resize(end, 0);
        }
        _ => {
            for block in bytes.chunks_exact(encoding.block_bytes()) {
                ggml_block::row_blocks(encoding, block, |block| pack_block(encoding, &block, out));
            }
        }
    }
}

fn pack_block(encoding: Encoding, block: &RowBlock, out: &mut Staged) {
    let half = |factor: f32| f16::from_f32(factor).to_le_bytes();
    let quants = &block.quants;
    match encoding {
        // Around 128, but for the highest byte of a word.
        Encoding::Q8_0 => out.quants.extend(quants.iter().enumerate().map(|(i, quant)| match i % 4 {
            3 => *quant,
            _ => quant.wrapping_add(128),
        })),
        // Byte j of word k: weight j of quad 2k in the low nibble, of quad 2k + 1 in the high one.
        _ => out.quants.extend((0..16).map(|i| {
            let column = i / 4 * 8 + i % 4;
            quants[column] & 15 | (quants[column + 4] & 15) << 4
        })),
    }
    // Bits above the nibble of weight j of each quad, in byte j.
    let plane = |columns: &[u8], width: usize| -> [u8; 4] {
        let quads = || columns.chunks_exact(4).enumerate();
        std::array::from_fn(|j| quads().fold(0, |byte, (quad, weights)| byte | (weights[j] >> 4) << (width * quad)))
    };
    match encoding {
        Encoding::Q5K => out.extras.extend(plane(quants, 1)),
        Encoding::Q6K => {
            out.extras.extend(plane(&quants[..16], 2));
            out.extras.extend(plane(&quants[16..], 2));
        }
        _ => {}
    }
    out.extras.extend(half(block.scales[0]));
    match encoding {
        Encoding::Q4K | Encoding::Q5K => out.extras.extend(half(block.minimum)),
        Encoding::Q6K => out.extras.extend(half(block.scales[1])),
        _ => {}
    }
}
