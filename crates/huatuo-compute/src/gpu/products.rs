//! Products with weight matrices: for decoding, row by row; for prefill, in tiles.

use std::sync::PoisonError;

use super::buffer::{GpuBuffer, Place, binding_bytes};
use super::device::Gpu;
use super::kernel::{Step, Table};
use super::matrix::{GROUP, GpuMatrix, JointRows, MatrixPart, RowBytes};
use super::sources::{Choices, NUMBERS, WEIGHTS};
use super::tuning::{FEW, Layout, Shape, Way};
use crate::cpu::ggml_block::BLOCK;
use crate::{Encoding, Projection};

/// Rows from which on a tile of the matrix product pays where nothing was tried; below, the matrix is read once for each.
pub(super) const LEAST_TILED: usize = 5;
/// Tokens and outputs of a tile of the product for prefill.
const TILE: usize = 64;
/// Tokens of a lane of the product for prefill with subgroups.
const QUAD_TOKENS: usize = 8;

pub(super) fn weights_file(encoding: Encoding) -> &'static str {
    let name = match encoding {
        Encoding::F32 => "weights_f32",
        Encoding::F16 => "weights_f16",
        Encoding::Bf16 => "weights_bf16",
        Encoding::Q8_0 => "weights_q8_0",
        Encoding::Q4_0 => "weights_q4_0",
        Encoding::Q4K => "weights_q4_k",
        Encoding::Q5K => "weights_q5_k",
        Encoding::Q6K => "weights_q6_k",
    };
    debug_assert!(WEIGHTS.contains(&name));
    name
}
/// Matrices that one call multiplies: one, or those of an allocation, side by side.
pub(super) struct Product<'a> {
    pub matrix: &'a GpuMatrix,
    pub part: &'a MatrixPart,
    pub rows: usize,
    pub bias: Option<&'a GpuBuffer>,
    /// Where the results of each go, first one first.
    pub outs: Vec<(&'a GpuBuffer, usize)>,
}

/// What a product does beside multiplying.
#[derive(Clone, Copy, Default)]
pub(super) struct Extra<'a> {
    pub norm: Option<(&'a GpuBuffer, f32)>,
    pub gated: bool,
    pub add: bool,
}

impl Gpu {
    /// `product` for `rows` tokens of `x`, in the way that is fastest for so many.
    pub(super) fn multiply(&self, x: &GpuBuffer, rows: usize, product: &Product<'_>, extra: Extra<'_>) {
        let Product { matrix, part, rows: outputs, bias, outs } = product;
        let is_fused = extra.norm.is_some() || extra.gated;
        let layout = if is_fused { Layout::One } else { self.layout(matrix, rows) };
        assert!(x.len >= rows * matrix.columns && outs.iter().all(|(out, width)| out.len >= rows * width));
        assert!(bias.is_none_or(|bias| bias.len >= *outputs));
        assert!(extra.norm.is_none_or(|(gain, _)| gain.len >= matrix.columns));
        let first_out = outs[0].0;
        let end = outs.iter().map(|(out, _)| out.start + 4 * out.len).max().unwrap_or(0);
        let out = Place { bytes: binding_bytes(end - first_out.start), ..first_out.whole() };
        let [quants, extras] = part.places(RowBytes::new(matrix.encoding, matrix.columns), *outputs);
        let nothing = self.nothing();
        let bias_place = bias.map_or(nothing, |bias| bias.whole());
        let gain = extra.norm.map_or(nothing, |(gain, _)| gain.whole());
        let flag = |is: bool| f64::from(u8::from(is));
        let mut constants = vec![
            ("BLOCKS", matrix.blocks() as f64),
            ("QUADS", (matrix.columns / 4) as f64),
            ("ADD", flag(extra.add)),
            ("BIAS", flag(bias.is_some())),
        ];
        for ((part, start), (out, width)) in
            [("PART_A", ""), ("PART_B", "START_B"), ("PART_C", "START_C")].iter().zip(outs)
        {
            constants.push((part, *width as f64));
            if !start.is_empty() {
                constants.push((start, ((out.start - first_out.start) / 4) as f64));
            }
        }
        let step = Step { rows: rows as u32, position: 0, first: part.first as u32, count: *outputs as u32 };
        let choices = self.choices(weights_file(matrix.encoding), 0);
        let places = [quants, extras, x.whole(), gain, bias_place, out];
        let is_whole = matrix.columns.is_multiple_of(BLOCK);
        if let Layout::Few { slices, row_groups } = layout {
            let lanes = 32 * slices;
            let sizes = [("SLICES", slices), ("LANES", lanes), ("SUMS", 4 * lanes), ("ROW_GROUPS", row_groups)];
            constants.extend(sizes.map(|(name, size)| (name, size as f64)));
            let grid = [rows.div_ceil(FEW), outputs.div_ceil(GROUP * row_groups), 1];
            return self.call_with("matvec_few", choices, &constants, step, &places, Table::Bytes(&[]), grid);
        }
        if layout == Layout::Many(Way::Bytes) && is_whole && matrix.encoding.block_len() > 1 {
            let [bytes, factors] = self.as_bytes(x, rows * matrix.columns / BLOCK);
            let places = [quants, extras, bytes.whole(), factors.whole(), bias_place, out];
            constants.retain(|(name, _)| *name != "QUADS");
            let grid = [outputs.div_ceil(GROUP), rows.div_ceil(TILE), 1];
            return self.call_with("matmul_bytes", choices, &constants, step, &places, Table::Bytes(&[]), grid);
        }
        if let Layout::Many(prefill) = layout {
            let activations = match prefill {
                Way::Quads if is_whole => "x_quad_plain",
                Way::Plain if is_whole => "x_plain",
                way => {
                    let numbers = NUMBERS[usize::from(way == Way::Halves && self.has_way(way))];
                    let choices = Choices { numbers, ..choices };
                    let grid = [outputs.div_ceil(TILE), rows.div_ceil(TILE), 1];
                    return self.call_with("matmul", choices, &constants, step, &places, Table::Bytes(&[]), grid);
                }
            };
            let choices = Choices { activations, ..choices };
            let grid = [outputs.div_ceil(4 * GROUP), rows.div_ceil(QUAD_TOKENS), 1];
            return self.call_with("matmul_quads", choices, &constants, step, &places, Table::Bytes(&[]), grid);
        }
        let decode = self.tuning().plan(matrix.encoding).decode;
        let Shape { row_groups, way, .. } = decode;
        let row_groups = if extra.gated { row_groups.max(2) } else { row_groups };
        let results = if extra.gated { outputs / 2 } else { *outputs };
        let own_groups = if extra.gated { row_groups / 2 } else { row_groups };
        let groups = results.div_ceil(GROUP * own_groups);
        let slices = decode.slices(groups * rows, matrix.blocks(), self.most_lanes() / GROUP);
        constants.extend([
            ("SLICES", slices as f64),
            ("LANES", (32 * slices) as f64),
            ("ROW_GROUPS", row_groups as f64),
            ("HALF", if extra.gated { results as f64 } else { 0.0 }),
            ("NORM", flag(extra.norm.is_some())),
            ("GATED", flag(extra.gated)),
            ("EPSILON", extra.norm.map_or(0.0, |(_, epsilon)| f64::from(epsilon))),
        ]);
        let has_norm = extra.norm.is_some();
        let (kernel, activations) = match (is_whole, way) {
            (true, Way::Bytes) if matrix.encoding.block_len() > 1 => {
                ("matvec_bytes", if has_norm { "x_normed" } else { "x_plain" })
            }
            (true, Way::Quads) if has_norm => ("matvec", "x_quad_normed"),
            (true, Way::Quads) => ("matvec", "x_quad_plain"),
            (true, _) if has_norm => ("matvec", "x_normed"),
            (true, _) => ("matvec", "x_plain"),
            (false, _) => ("matvec", "x_padded"),
        };
        let rows_file = match row_groups {
            1 => "rows_1",
            2 => "rows_2",
            _ => "rows_4",
        };
        if kernel == "matvec_bytes" {
            let chunk = matrix.blocks().min(self.blocks_at_once());
            constants.extend([("CHUNK", chunk as f64), ("HALVES", (2 * chunk) as f64)]);
        }
        let choices = Choices { activations, rows: rows_file, ..choices };
        let grid = [groups, rows, 1];
        self.call_with(kernel, choices, &constants, step, &places, Table::Bytes(&[]), grid);
    }

    /// So many blocks of activations as bytes, with their factors.
    fn as_bytes(&self, x: &GpuBuffer, blocks: usize) -> [GpuBuffer; 2] {
        let mut known = self.shared.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let [bytes, factors] = match &*known {
            Some(known) if known[0].len >= 8 * blocks => known.clone(),
            _ => known.insert([8 * blocks, 4 * blocks].map(|len| self.numbers(len))).clone(),
        };
        self.pointwise("to_bytes", 0, blocks, &[x.whole(), bytes.whole(), factors.whole()]);
        [bytes, factors]
    }

    /// Linear layers that read the same activations: those that lie side by side in one call.
    pub(super) fn multiply_all(
        &self,
        x: &GpuBuffer,
        rows: usize,
        projections: &[Projection<'_, Self>],
        extra: Extra<'_>,
    ) {
        let mut left = projections;
        while let Some(first) = left.first() {
            let together = match first.weight.parts[0].joint {
                None => 1,
                Some(JointRows { all, .. }) => {
                    let mut rows = 0;
                    left.iter()
                        .take_while(|p| {
                            rows += p.weight.rows;
                            rows <= all
                        })
                        .count()
                }
            };
            let (joint, rest) = left.split_at(together);
            left = rest;
            let outs: Vec<(&GpuBuffer, usize)> = joint.iter().map(|p| (&*p.out, p.weight.rows)).collect();
            for part in &first.weight.parts {
                let all = part.joint.map_or(part.rows, |joint| joint.all);
                let product = Product { matrix: first.weight, part, rows: all, bias: first.bias, outs: outs.clone() };
                self.multiply(x, rows, &product, extra);
            }
        }
    }
}
