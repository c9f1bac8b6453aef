//! The operators as calls of kernels.

use std::sync::PoisonError;

use super::buffer::{ALIGNMENT, GpuBuffer, Place, binding_bytes};
use super::cache::GpuCache;
use super::chooser::{GpuChooser, GpuChosen};
use super::device::Gpu;
use super::device::Shape;
use super::kernel::{Call, Step, Table};
use super::matrix::{GROUP, GpuMatrix, GpuMatrixBuilder, JointRows, MatrixPart, RowBytes};
use super::sources::{ACTIVATIONS, Choices, ROWS, WEIGHTS};
use crate::cpu::ggml_block::BLOCK;
use crate::cpu::to_f32;
use crate::{
    Attention, ChoiceRule, ComputeError, Device, Encoding, Heads, Linear, Norm, Pairing, Precision, Projection, Rotary,
    TensorView,
};

/// Rows from which on a tile of the matrix product pays; below, the matrix is read once for each.
const LEAST_TILED: usize = 5;
/// Tokens and outputs of a tile of the product for prefill.
const TILE: usize = 64;
/// Tokens of a lane of the product for prefill with subgroups.
const QUAD_TOKENS: usize = 8;
/// Cached tokens of a workgroup's attention when there are few rows.
const SPLIT: usize = 256;
/// Numbers of a head that attention has registers for.
const LONGEST_HEAD: usize = 256;

fn weights_file(encoding: Encoding) -> &'static str {
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
struct Product<'a> {
    matrix: &'a GpuMatrix,
    part: &'a MatrixPart,
    rows: usize,
    bias: Option<&'a GpuBuffer>,
    /// Where the results of each go, first one first.
    outs: Vec<(&'a GpuBuffer, usize)>,
}

/// What a product does beside multiplying.
#[derive(Clone, Copy, Default)]
struct Extra<'a> {
    norm: Option<(&'a GpuBuffer, f32)>,
    gated: bool,
    add: bool,
}

impl Gpu {
    fn choices(&self, weights: &'static str, cache: usize) -> Choices {
        Choices { weights, activations: ACTIVATIONS[0], rows: ROWS[0], sum: self.shared.sum, cache }
    }

    /// A kernel without a choice of weights or cache.
    pub(super) fn call(
        &self,
        kernel: &'static str,
        constants: &[(&'static str, f64)],
        step: Step,
        places: &[Place<'_>],
        grid: [usize; 3],
    ) {
        self.call_with_table(kernel, constants, step, places, Table::Bytes(&[]), grid);
    }

    /// The same with a table.
    pub(super) fn call_with_table(
        &self,
        kernel: &'static str,
        constants: &[(&'static str, f64)],
        step: Step,
        places: &[Place<'_>],
        table: Table<'_>,
        grid: [usize; 3],
    ) {
        self.call_with(kernel, self.choices(WEIGHTS[0], 0), constants, step, places, table, grid);
    }

    #[allow(clippy::too_many_arguments)] // a kernel's
    fn call_with(
        &self,
        kernel: &'static str,
        choices: Choices,
        constants: &[(&'static str, f64)],
        step: Step,
        places: &[Place<'_>],
        table: Table<'_>,
        grid: [usize; 3],
    ) {
        let grid = grid.map(|n| n as u32);
        self.record(&Call { kernel, choices, constants, step, places, table, grid });
    }

    /// A kernel that goes through `count` numbers.
    fn pointwise(&self, kernel: &'static str, first: usize, count: usize, places: &[Place<'_>]) {
        const MOST_GROUPS: usize = 4096;
        let step = Step { first: first as u32, count: count as u32, ..Step::default() };
        self.call(kernel, &[], step, places, [count.div_ceil(64).clamp(1, MOST_GROUPS), 1, 1]);
    }

    /// `product` for `rows` tokens of `x`, in the way that is fastest for so many.
    fn multiply(&self, x: &GpuBuffer, rows: usize, product: &Product<'_>, extra: Extra<'_>) {
        let Product { matrix, part, rows: outputs, bias, outs } = product;
        let tiled = rows >= LEAST_TILED;
        debug_assert!(!(tiled && (extra.norm.is_some() || extra.gated)));
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
        if tiled && self.has_subgroups() && matrix.columns.is_multiple_of(BLOCK) {
            let grid = [outputs.div_ceil(4 * GROUP), rows.div_ceil(QUAD_TOKENS), 1];
            return self.call_with("matmul_quads", choices, &constants, step, &places, Table::Bytes(&[]), grid);
        }
        if tiled {
            let grid = [outputs.div_ceil(TILE), rows.div_ceil(TILE), 1];
            return self.call_with("matmul", choices, &constants, step, &places, Table::Bytes(&[]), grid);
        }
        let Shape { slices, row_groups } = self.shared.shape;
        let row_groups = if extra.gated { row_groups.max(2) } else { row_groups };
        let results = if extra.gated { outputs / 2 } else { *outputs };
        constants.extend([
            ("SLICES", slices as f64),
            ("LANES", (32 * slices) as f64),
            ("ROW_GROUPS", row_groups as f64),
            ("HALF", if extra.gated { results as f64 } else { 0.0 }),
            ("NORM", flag(extra.norm.is_some())),
            ("GATED", flag(extra.gated)),
            ("EPSILON", extra.norm.map_or(0.0, |(_, epsilon)| f64::from(epsilon))),
        ]);
        let is_whole = matrix.columns.is_multiple_of(BLOCK);
        let activations = match (is_whole, self.has_subgroups(), extra.norm.is_some()) {
            (false, _, _) => "x_padded",
            (true, false, false) => "x_plain",
            (true, false, true) => "x_normed",
            (true, true, false) => "x_quad_plain",
            (true, true, true) => "x_quad_normed",
        };
        let rows_file = match row_groups {
            1 => "rows_1",
            2 => "rows_2",
            _ => "rows_4",
        };
        let choices = Choices { activations, rows: rows_file, ..choices };
        let own_groups = if extra.gated { row_groups / 2 } else { row_groups };
        let grid = [results.div_ceil(GROUP * own_groups), rows, 1];
        self.call_with("matvec", choices, &constants, step, &places, Table::Bytes(&[]), grid);
    }

    /// Linear layers that read the same activations: those that lie side by side in one call.
    fn multiply_all(&self, x: &GpuBuffer, rows: usize, projections: &[Projection<'_, Self>], extra: Extra<'_>) {
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

    fn look_up(&self, matrix: &GpuMatrix, ids: Table<'_>, rows: usize, out: &GpuBuffer) {
        assert!(out.len >= rows * matrix.columns);
        let constants = [("BLOCKS", matrix.blocks() as f64), ("COLUMNS", matrix.columns as f64)];
        let row = RowBytes::new(matrix.encoding, matrix.columns);
        for part in &matrix.parts {
            let [quants, extras] = part.places(row, part.rows);
            let step = Step { first: part.first as u32, count: part.rows as u32, ..Step::default() };
            let choices = self.choices(weights_file(matrix.encoding), 0);
            self.call_with("embed", choices, &constants, step, &[quants, extras, out.whole()], ids, [rows, 1, 1]);
        }
    }

    /// Cosines and sines of `rows` tokens from `position` on.
    fn turns(rotary: Rotary<'_>, rows: usize, position: usize) -> Vec<u8> {
        let angles = (position..position + rows).flat_map(|at| rotary.frequencies.iter().map(move |f| at as f32 * f));
        angles.flat_map(|angle| [angle.cos(), angle.sin()]).flat_map(f32::to_le_bytes).collect()
    }

    #[allow(clippy::too_many_arguments)] // an operator's operands
    fn attention(
        &self,
        shape: Attention,
        q: &GpuBuffer,
        (keys, values, kind): (Place<'_>, Place<'_>, usize),
        slopes: Option<&GpuBuffer>,
        (rows, position): (usize, usize),
        ranges: &[u8],
        longest: usize,
        out: &GpuBuffer,
    ) {
        let Attention { heads, kv_heads, head_dim } = shape;
        assert!(head_dim <= LONGEST_HEAD && head_dim.is_multiple_of(2));
        assert!(q.len.min(out.len) >= rows * heads * head_dim && slopes.is_none_or(|slopes| slopes.len >= heads));
        // Many rows keep the device busy without splits.
        let splits = if rows >= LEAST_TILED { 1 } else { longest.div_ceil(SPLIT).max(1) };
        let split = if splits == 1 { longest.next_multiple_of(64) } else { SPLIT };
        let parts = self.parts(rows * heads * splits * (head_dim + 2));
        let nothing = self.nothing();
        let constants = [
            ("HEADS", heads as f64),
            ("KV_HEADS", kv_heads as f64),
            ("HEAD_DIM", head_dim as f64),
            ("PAIRS", (head_dim / 2) as f64),
            ("CAUSAL", f64::from(u8::from(ranges.is_empty()))),
            ("SLOPES", f64::from(u8::from(slopes.is_some()))),
        ];
        let step = Step { rows: rows as u32, position: position as u32, first: split as u32, count: splits as u32 };
        let slopes = slopes.map_or(nothing, |slopes| slopes.whole());
        let places = [keys, values, q.whole(), slopes, out.whole(), parts.whole()];
        let grid = [heads, rows, splits];
        self.call_with(
            "attention",
            self.choices(WEIGHTS[0], kind),
            &constants,
            step,
            &places,
            Table::Bytes(ranges),
            grid,
        );
        if splits > 1 {
            self.call(
                "attention_join",
                &constants[..1].iter().chain(&constants[2..3]).copied().collect::<Vec<_>>(),
                step,
                &[parts.whole(), out.whole()],
                [heads, rows, 1],
            );
        }
    }

    /// Room for the splits of an attention.
    fn parts(&self, len: usize) -> GpuBuffer {
        let mut parts = self.shared.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match &*parts {
            Some(parts) if parts.len >= len => parts.clone(),
            _ => parts.insert(self.numbers(len.next_power_of_two())).clone(),
        }
    }
}

impl Device for Gpu {
    type Matrix = GpuMatrix;
    type Builder = GpuMatrixBuilder;
    type Buffer = GpuBuffer;
    type Cache = GpuCache;

    fn begin_matrix(&self, name: &str, shape: &[usize], encoding: Encoding) -> Result<GpuMatrixBuilder, ComputeError> {
        GpuMatrixBuilder::new(self, name, shape, encoding)
    }

    fn check_attention(&self, shape: Attention) -> Result<(), ComputeError> {
        const MOST_GROUPS: usize = 65_535;
        let Attention { heads, kv_heads, head_dim } = shape;
        let fits = head_dim.is_multiple_of(2) && (2..=LONGEST_HEAD).contains(&head_dim);
        if fits && heads + 2 * kv_heads <= MOST_GROUPS {
            return Ok(());
        }
        let reason = "heads must have an even number of numbers, 256 at most, and be fewer than 65,536";
        Err(ComputeError::UnsupportedShape { name: "attention".to_owned(), shape: vec![heads, head_dim], reason })
    }

    fn room(&self) -> Option<u64> {
        Gpu::room(self)
    }

    fn rows(matrix: &GpuMatrix) -> usize {
        matrix.rows
    }

    fn vector(&self, tensor: &TensorView<'_>) -> Result<GpuBuffer, ComputeError> {
        tensor.validate()?;
        let numbers = to_f32(tensor);
        let buffer = self.numbers(numbers.len());
        self.write(&buffer.allocation, 0, bytemuck::cast_slice(&numbers));
        Ok(buffer)
    }

    fn buffer(&self, len: usize) -> GpuBuffer {
        self.numbers(len)
    }

    fn buffers<const N: usize>(&self, lens: [usize; N]) -> [GpuBuffer; N] {
        let mut end = 0;
        let starts = lens.map(|len| {
            let start = end;
            end += binding_bytes(4 * len).next_multiple_of(ALIGNMENT);
            start
        });
        let allocation = self.allocate(end);
        std::array::from_fn(|i| GpuBuffer { allocation: allocation.clone(), start: starts[i], len: lens[i] })
    }

    fn join<const N: usize>(&self, layers: [Linear<Self>; N]) -> [Linear<Self>; N] {
        let (encoding, columns) = (layers[0].weight.encoding, layers[0].weight.columns);
        let row = RowBytes::new(encoding, columns);
        let all: usize = layers.iter().map(|layer| layer.weight.rows).sum();
        let alike = |layer: &Linear<Self>| {
            let GpuMatrix { encoding: its, columns: width, parts, .. } = &layer.weight;
            let whole = layer.weight.rows.is_multiple_of(GROUP); // the next one's rows begin with a group of their own
            *its == encoding && *width == columns && parts.len() == 1 && parts[0].joint.is_none() && whole
        };
        let (extras, bytes) = row.layout(all);
        if !layers.iter().all(alike) || bytes > self.largest_binding() {
            return layers;
        }
        let allocation = self.allocate(bytes);
        let bias = layers.iter().any(|layer| layer.bias.is_some()).then(|| self.numbers(all));
        let mut first = 0;
        for Linear { weight, bias: own } in &layers {
            let [from_quants, from_extras] = weight.parts[0].places(row, weight.rows);
            let mut recorder = self.recorder();
            let exact = |place: Place<'_>,
                         bytes: usize,
                         to: &wgpu::Buffer,
                         at: usize,
                         recorder: &mut super::recorder::Recorder| {
                if bytes > 0 {
                    recorder.copy_at(Place { allocation: place.allocation, start: place.start, bytes }, to, at);
                }
            };
            exact(from_quants, weight.rows * row.quants, &allocation.buffer, first * row.quants, &mut recorder);
            exact(
                from_extras,
                weight.rows * row.extras,
                &allocation.buffer,
                extras + first * row.extras,
                &mut recorder,
            );
            if let (Some(all), Some(own)) = (&bias, own) {
                exact(own.whole(), 4 * own.len, &all.allocation.buffer, 4 * first, &mut recorder);
            }
            first += weight.rows;
        }
        self.submit(); // so that the matrices of a layer go before those of the next one come
        let mut first = 0;
        layers.map(|Linear { weight, .. }| {
            let joint = Some(JointRows { first, all });
            first += weight.rows;
            let part =
                MatrixPart { allocation: allocation.clone(), first: 0, rows: weight.rows, quants: 0, extras, joint };
            Linear { weight: GpuMatrix { parts: vec![part], ..weight }, bias: bias.clone() }
        })
    }

    async fn read(&self, buffer: &GpuBuffer, start: usize, into: &mut [f32]) -> Result<(), ComputeError> {
        let bytes = binding_bytes(4 * into.len());
        let place = Place { allocation: &buffer.allocation, start: buffer.start + 4 * start, bytes };
        let bytes = self.fetch(place).await?;
        for (number, bytes) in into.iter_mut().zip(bytes.chunks_exact(4)) {
            *number = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Ok(())
    }

    fn submit(&self) {
        Gpu::submit(self);
    }

    async fn settle(&self) -> Result<(), ComputeError> {
        Gpu::settle(self).await
    }

    fn embed(&self, table: &GpuMatrix, ids: &[u32], out: &mut GpuBuffer) {
        self.look_up(table, Table::Bytes(bytemuck::cast_slice(ids)), ids.len(), out);
    }

    type Chooser = GpuChooser;
    type Chosen = GpuChosen;
    const AHEAD: usize = 2;

    fn chooser(&self, rule: ChoiceRule) -> GpuChooser {
        GpuChooser::new(self, rule)
    }

    fn choose(
        &self,
        scores: &mut GpuBuffer,
        chooser: &mut GpuChooser,
        allowed: Option<&[(u32, f32)]>,
        random: f32,
    ) -> GpuChosen {
        chooser.choose(self, scores, allowed, random)
    }

    async fn chosen(&self, chosen: GpuChosen) -> Result<Option<u32>, ComputeError> {
        chosen.token(self).await
    }

    fn embed_chosen(&self, table: &GpuMatrix, chooser: &GpuChooser, out: &mut GpuBuffer) {
        self.look_up(table, Table::Place(chooser.token()), 1, out);
    }

    fn project(&self, x: &GpuBuffer, rows: usize, projections: &mut [Projection<'_, Self>]) {
        self.multiply_all(x, rows, projections, Extra::default());
    }

    fn rms_norm(&self, x: &GpuBuffer, weight: &GpuBuffer, epsilon: f32, rows: usize, out: &mut GpuBuffer) {
        assert!(x.len.min(out.len) >= rows * weight.len);
        let constants = [("COLUMNS", weight.len as f64), ("EPSILON", f64::from(epsilon))];
        let places = [x.whole(), weight.whole(), out.whole()];
        self.call("rms_norm", &constants, Step::default(), &places, [rows, 1, 1]);
    }

    fn add_layer_norm(
        &self,
        x: &mut GpuBuffer,
        y: &GpuBuffer,
        weight: &GpuBuffer,
        bias: &GpuBuffer,
        epsilon: f32,
        rows: usize,
    ) {
        assert!(x.len.min(y.len) >= rows * weight.len && bias.len >= weight.len);
        let constants = [("COLUMNS", weight.len as f64), ("EPSILON", f64::from(epsilon))];
        let places = [x.whole(), y.whole(), weight.whole(), bias.whole()];
        self.call("add_layer_norm", &constants, Step::default(), &places, [rows, 1, 1]);
    }

    fn rope(&self, x: &mut GpuBuffer, rows: usize, heads: usize, head_dim: usize, position: usize, rotary: Rotary<'_>) {
        assert!(x.len >= rows * heads * head_dim && 2 * rotary.frequencies.len() <= head_dim);
        let constants = [
            ("HEADS", heads as f64),
            ("HEAD_DIM", head_dim as f64),
            ("PAIRS", rotary.frequencies.len() as f64),
            ("NEIGHBOURS", f64::from(u8::from(rotary.pairing == Pairing::Neighbours))),
        ];
        let (choices, table) = (self.choices(WEIGHTS[0], 0), Self::turns(rotary, rows, position));
        self.call_with(
            "rope",
            choices,
            &constants,
            Step::default(),
            &[x.whole()],
            Table::Bytes(&table),
            [heads, rows, 1],
        );
    }

    fn cache(&self, kv_heads: usize, head_dim: usize, precision: Precision) -> GpuCache {
        GpuCache::new(self, kv_heads, head_dim, precision)
    }

    fn cache_bytes(&self, cache: &GpuCache) -> usize {
        cache.bytes()
    }

    fn store(&self, cache: &mut GpuCache, keys: &GpuBuffer, values: &GpuBuffer, rows: usize, position: usize) {
        assert!(keys.len.min(values.len) >= rows * cache.kv_heads * cache.head_dim);
        cache.reserve(self, position + rows);
        let constants = [("KV_PAIRS", (cache.kv_heads * cache.head_dim / 2) as f64)];
        let step = Step { position: position as u32, ..Step::default() };
        let places = [cache.keys.whole(), cache.values.whole(), keys.whole(), values.whole()];
        self.call_with(
            "store",
            self.choices(WEIGHTS[0], cache.kind()),
            &constants,
            step,
            &places,
            Table::Bytes(&[]),
            [rows, 1, 1],
        );
    }

    fn recall(&self, cache: &GpuCache, rows: usize, keys: &mut GpuBuffer, values: &mut GpuBuffer) {
        assert!(rows <= cache.room && keys.len.min(values.len) >= rows * cache.kv_heads * cache.head_dim);
        let constants = [("KV_PAIRS", (cache.kv_heads * cache.head_dim / 2) as f64)];
        let places = [cache.keys.whole(), cache.values.whole(), keys.whole(), values.whole()];
        let choices = self.choices(WEIGHTS[0], cache.kind());
        self.call_with("recall", choices, &constants, Step::default(), &places, Table::Bytes(&[]), [rows, 1, 1]);
    }

    fn copy_row(&self, x: &GpuBuffer, row: usize, columns: usize, out: &mut GpuBuffer) {
        assert!(x.len >= (row + 1) * columns && out.len >= columns);
        self.pointwise("copy_row", row * columns, columns, &[x.whole(), out.whole()]);
    }

    fn causal_attention(
        &self,
        shape: Attention,
        q: &GpuBuffer,
        cache: &GpuCache,
        slopes: Option<&GpuBuffer>,
        rows: usize,
        position: usize,
        out: &mut GpuBuffer,
    ) {
        assert!(position + rows <= cache.room);
        let cached = (cache.keys.whole(), cache.values.whole(), cache.kind());
        self.attention(shape, q, cached, slopes, (rows, position), &[], position + rows, out);
    }

    fn full_attention(
        &self,
        shape: Attention,
        q: &GpuBuffer,
        keys: &GpuBuffer,
        values: &GpuBuffer,
        lengths: &[usize],
        out: &mut GpuBuffer,
    ) {
        let mut ranges: Vec<[u32; 2]> = Vec::new();
        for &length in lengths {
            let first = ranges.len() as u32;
            ranges.extend((0..length).map(|_| [first, first + length as u32]));
        }
        assert!(keys.len.min(values.len) >= ranges.len() * shape.kv_heads * shape.head_dim);
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let all = (keys.whole(), values.whole(), 0);
        self.attention(shape, q, all, None, (ranges.len(), 0), bytemuck::cast_slice(&ranges), longest, out);
    }

    fn silu_mul(&self, gate: &mut GpuBuffer, up: &GpuBuffer, len: usize) {
        assert!(gate.len.min(up.len) >= len);
        self.pointwise("silu_mul", 0, len, &[gate.whole(), up.whole()]);
    }

    fn gelu(&self, x: &mut GpuBuffer, len: usize) {
        assert!(x.len >= len);
        self.pointwise("gelu", 0, len, &[x.whole()]);
    }

    fn add(&self, x: &mut GpuBuffer, y: &GpuBuffer, len: usize) {
        assert!(x.len.min(y.len) >= len);
        self.pointwise("add", 0, len, &[x.whole(), y.whole()]);
    }

    fn norm_project(
        &self,
        x: &GpuBuffer,
        norm: &Norm<Self>,
        rows: usize,
        normed: &mut GpuBuffer,
        projections: &mut [Projection<'_, Self>],
    ) {
        if rows >= LEAST_TILED {
            self.rms_norm(x, &norm.weight, norm.epsilon, rows, normed);
            return self.project(normed, rows, projections);
        }
        let extra = Extra { norm: Some((&norm.weight, norm.epsilon)), ..Extra::default() };
        self.multiply_all(x, rows, projections, extra);
    }

    fn norm_gate(
        &self,
        x: &GpuBuffer,
        norm: &Norm<Self>,
        rows: usize,
        normed: &mut GpuBuffer,
        [gate, up]: [Projection<'_, Self>; 2],
    ) {
        let part = &gate.weight.parts[0];
        let (width, all) = (gate.weight.rows, part.joint.map(|joint| joint.all));
        if rows < LEAST_TILED && all == Some(2 * width) {
            let extra = Extra { norm: Some((&norm.weight, norm.epsilon)), gated: true, add: false };
            let outs = vec![(&*gate.out, width)];
            let product = Product { matrix: gate.weight, part, rows: 2 * width, bias: gate.bias, outs };
            return self.multiply(x, rows, &product, extra);
        }
        let (gate_out, up_out) = (gate.out, up.out);
        let projections = &mut [
            Projection { weight: gate.weight, bias: gate.bias, out: &mut *gate_out },
            Projection { weight: up.weight, bias: up.bias, out: &mut *up_out },
        ];
        self.norm_project(x, norm, rows, normed, projections);
        self.silu_mul(gate_out, up_out, rows * width);
    }

    fn project_add(
        &self,
        x: &GpuBuffer,
        rows: usize,
        linear: &Linear<Self>,
        _: &mut GpuBuffer,
        residual: &mut GpuBuffer,
    ) {
        let extra = Extra { add: true, ..Extra::default() };
        self.multiply_all(x, rows, &[linear.onto(residual)], extra);
    }

    fn turn_and_store(
        &self,
        shape: Attention,
        heads: &mut Heads<Self>,
        norms: Option<&[Norm<Self>; 2]>,
        rotary: Option<Rotary<'_>>,
        cache: &mut GpuCache,
        rows: usize,
        position: usize,
    ) {
        let Attention { heads: query_heads, kv_heads, head_dim } = shape;
        assert!(heads.q.len >= rows * query_heads * head_dim);
        assert!(heads.k.len.min(heads.v.len) >= rows * kv_heads * head_dim);
        assert!(rotary.is_none_or(|rotary| 2 * rotary.frequencies.len() <= head_dim));
        cache.reserve(self, position + rows);
        let constants = [
            ("HEADS", shape.heads as f64),
            ("KV_HEADS", shape.kv_heads as f64),
            ("HEAD_DIM", shape.head_dim as f64),
            ("PAIRS", rotary.map_or(0.0, |rotary| rotary.frequencies.len() as f64)),
            ("NEIGHBOURS", f64::from(u8::from(rotary.is_some_and(|r| r.pairing == Pairing::Neighbours)))),
            ("NORM", f64::from(u8::from(norms.is_some()))),
            ("EPSILON", norms.map_or(0.0, |[norm, _]| f64::from(norm.epsilon))),
        ];
        let nothing = self.nothing();
        let gains = norms.map_or([nothing; 2], |norms| [norms[0].weight.whole(), norms[1].weight.whole()]);
        let places = [
            cache.keys.whole(),
            cache.values.whole(),
            heads.q.whole(),
            heads.k.whole(),
            heads.v.whole(),
            gains[0],
            gains[1],
        ];
        let step = Step { rows: rows as u32, position: position as u32, ..Step::default() };
        let table = rotary.map_or(Vec::new(), |rotary| Self::turns(rotary, rows, position));
        let grid = [shape.heads + 2 * shape.kv_heads, rows, 1];
        let choices = self.choices(WEIGHTS[0], cache.kind());
        self.call_with("turn_and_store", choices, &constants, step, &places, Table::Bytes(&table), grid);
    }
}
