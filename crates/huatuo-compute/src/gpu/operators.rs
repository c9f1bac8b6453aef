//! The operators as calls of kernels.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::attention::{LONGEST_HEAD, Seen, Sight};
use super::buffer::{ALIGNMENT, GpuBuffer, Place, binding_bytes};
use super::cache::GpuCache;
use super::chooser::{GpuChooser, GpuChosen};
use super::device::Gpu;
use super::kernel::{Call, Step, Table};
use super::matrix::{GROUP, GpuMatrix, GpuMatrixBuilder, JointRows, MatrixPart, RowBytes};
use super::products::{Extra, Product, weights_file};
use super::sources::{ACTIVATIONS, Choices, NUMBERS, ROWS, WEIGHTS};
use super::tuning::Layout;
use super::turns::Turns;
use crate::cpu::to_f32;
use crate::{
    Attention, ChoiceRule, ComputeError, Device, Encoding, Heads, Linear, Norm, Pairing, Precision, Projection, Rotary,
    Span, TensorView,
};

impl Gpu {
    pub(super) fn choices(&self, weights: &'static str, cache: usize) -> Choices {
        Choices {
            weights,
            activations: ACTIVATIONS[0],
            numbers: NUMBERS[0],
            rows: ROWS[0],
            sum: self.shared.sum,
            cache,
        }
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
    pub(super) fn call_with(
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
    pub(super) fn pointwise(&self, kernel: &'static str, first: usize, count: usize, places: &[Place<'_>]) {
        const MOST_GROUPS: usize = 4096;
        let step = Step { first: first as u32, count: count as u32, ..Step::default() };
        self.call(kernel, &[], step, places, [count.div_ceil(64).clamp(1, MOST_GROUPS), 1, 1]);
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.shared.turns.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Queries and keys turned, keys and values brought to a cache: that of one text, or, where the step counts rows of several,
    /// their slab.
    #[allow(clippy::too_many_arguments)] // an operator's operands
    fn turn_and_store_rows(
        &self,
        shape: Attention,
        heads: &Heads<Self>,
        norms: Option<&[Norm<Self>; 2]>,
        rotary: Option<Rotary<'_>>,
        (kind, keys, values): (usize, Place<'_>, Place<'_>),
        step: Step,
        table: &[u8],
    ) {
        let Attention { heads: query_heads, kv_heads, head_dim } = shape;
        let rows = step.rows as usize;
        assert!(heads.q.len >= rows * query_heads * head_dim);
        assert!(heads.k.len.min(heads.v.len) >= rows * kv_heads * head_dim);
        assert!(rotary.is_none_or(|rotary| 2 * rotary.frequencies.len() <= head_dim));
        let are_texts = step.count > 0;
        let constants = [
            ("HEADS", shape.heads as f64),
            ("KV_HEADS", shape.kv_heads as f64),
            ("HEAD_DIM", shape.head_dim as f64),
            ("PAIRS", rotary.map_or(0.0, |rotary| rotary.frequencies.len() as f64)),
            ("NEIGHBOURS", f64::from(u8::from(rotary.is_some_and(|r| r.pairing == Pairing::Neighbours)))),
            ("NORM", f64::from(u8::from(norms.is_some()))),
            ("EPSILON", norms.map_or(0.0, |[norm, _]| f64::from(norm.epsilon))),
            ("TEXTS", f64::from(u8::from(are_texts))),
        ];
        let nothing = self.nothing();
        let gains = norms.map_or([nothing; 2], |norms| [norms[0].weight.whole(), norms[1].weight.whole()]);
        let places = [keys, values, heads.q.whole(), heads.k.whole(), heads.v.whole(), gains[0], gains[1]];
        let grid = [shape.heads + 2 * shape.kv_heads, if are_texts { step.count as usize } else { rows }, 1];
        let choices = self.choices(WEIGHTS[0], kind);
        self.call_with("turn_and_store", choices, &constants, step, &places, Table::Bytes(table), grid);
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

    async fn tune(&self, layers: &[Vec<&GpuMatrix>]) -> Result<(), ComputeError> {
        match self.tuning().is_card {
            true => self.try_ways(layers, false).await.map(drop),
            false => Ok(()),
        }
    }

    fn tokens_at_once(&self, layer: &[&GpuMatrix]) -> usize {
        Gpu::tokens_at_once(self, layer)
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
        // On a card a few rows are over soonest with a lane for a few numbers each.
        const LANES_OF_CARD: u32 = 512;
        let lanes = f64::from(if self.tuning().vectors { LANES_OF_CARD.min(self.largest_workgroup()) } else { 64 });
        let sizes = [("LANES", lanes), ("SUMS", lanes)];
        let constants = [[("COLUMNS", weight.len as f64), ("EPSILON", f64::from(epsilon))], sizes].concat();
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
        let choices = self.choices(WEIGHTS[0], 0);
        let mut turns = self.turns();
        let table = turns.of(rotary, position..position + rows);
        self.call_with(
            "rope",
            choices,
            &constants,
            Step::default(),
            &[x.whole()],
            Table::Bytes(table),
            [heads, rows, 1],
        );
    }

    fn cache(&self, kv_heads: usize, head_dim: usize, precision: Precision) -> GpuCache {
        GpuCache::new(self, kv_heads, head_dim, precision)
    }

    fn cache_bytes(&self, cache: &GpuCache) -> usize {
        cache.bytes()
    }

    fn cache_growth(&self, cache: &GpuCache, rows: usize, position: usize) -> usize {
        cache.growth(position + rows)
    }

    fn share_caches(&self, bytes: usize) {
        // Little is taken before it is needed, and most texts of a step still lie together.
        const MOST_BYTES: usize = 256 << 20;
        self.shared.slabs.share((bytes / 4).min(MOST_BYTES).min(2 * self.largest_binding()));
    }

    fn cache_memory(&self) -> usize {
        self.ledger().caches.load(Ordering::Relaxed)
    }

    fn fork(&self, cache: &GpuCache, rows: usize) -> GpuCache {
        cache.fork(self, rows)
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

    fn copy_rows(&self, x: &GpuBuffer, first: usize, rows: usize, columns: usize, out: &mut GpuBuffer, at: usize) {
        assert!(x.len >= (first + rows) * columns && out.len >= (at + rows) * columns);
        assert!(columns.is_multiple_of(4)); // as matrices' are
        let [first, count, position] = [first, rows, at].map(|rows| (rows * columns / 4) as u32);
        let step = Step { first, count, position, ..Step::default() };
        self.call(
            "copy_rows",
            &[],
            step,
            &[x.whole(), out.whole()],
            [(count as usize).div_ceil(64).clamp(1, 4096), 1, 1],
        );
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
        let seen = Seen { keys: cache.keys.whole(), values: cache.values.whole(), rows, table: &[] };
        let sight = Sight::UpTo(position);
        self.attention(shape, q, (cache.kind(), &[seen]), slopes, sight, (rows, position + rows), out);
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
        let rows = ranges.len();
        let seen = Seen { keys: keys.whole(), values: values.whole(), rows, table: bytemuck::cast_slice(&ranges) };
        self.attention(shape, q, (0, &[seen]), None, Sight::Range, (rows, longest), out);
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
        if projections.first().is_some_and(|first| self.layout(first.weight, rows) != Layout::One) {
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
        if self.layout(gate.weight, rows) == Layout::One && all == Some(2 * width) {
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
        cache.reserve(self, position + rows);
        let mut turns = self.turns();
        let table = rotary.map_or(&[][..], |rotary| turns.of(rotary, position..position + rows));
        let step = Step { rows: rows as u32, position: position as u32, ..Step::default() };
        let cached = (cache.kind(), cache.keys.whole(), cache.values.whole());
        self.turn_and_store_rows(shape, heads, norms, rotary, cached, step, table);
    }

    fn attend(
        &self,
        shape: Attention,
        heads: &mut Heads<Self>,
        norms: Option<&[Norm<Self>; 2]>,
        rotary: Option<Rotary<'_>>,
        slopes: Option<&GpuBuffer>,
        spans: &mut [Span<'_, Self>],
        out: &mut GpuBuffer,
    ) {
        if let [Span { rows, position, cache }] = spans {
            self.turn_and_store(shape, heads, norms, rotary, cache, *rows, *position);
            return self.causal_attention(shape, &heads.q, cache, slopes, *rows, *position, out);
        }
        spans.iter_mut().for_each(|span| span.cache.reserve(self, span.position + span.rows));
        let Some(kind) = spans.first().map(|span| span.cache.kind()) else { return };
        let rows: usize = spans.iter().map(|span| span.rows).sum();
        let longest = spans.iter().map(|span| span.position + span.rows).max().unwrap_or(0);
        let mut turns = self.turns();
        let positions = spans.iter().flat_map(|span| span.position..span.position + span.rows);
        let turns = rotary.map_or(&[][..], |rotary| turns.of(rotary, positions));
        let slabs = rows_by_slab(spans);
        for Rows { keys, values, stored, .. } in &slabs {
            // In this order tables of other layers differ from their first bytes on, and are soon told apart.
            let table = [bytemuck::cast_slice(stored), turns].concat();
            let step = Step { rows: rows as u32, count: stored.len() as u32, ..Step::default() };
            let cached = (kind, keys.all(), values.all());
            self.turn_and_store_rows(shape, heads, norms, rotary, cached, step, &table);
        }
        let all: Vec<Seen<'_>> = slabs
            .iter()
            .map(|Rows { keys, values, seen, .. }| {
                let table = bytemuck::cast_slice(seen);
                Seen { keys: keys.all(), values: values.all(), rows: seen.len(), table }
            })
            .collect();
        self.attention(shape, &heads.q, (kind, &all), slopes, Sight::Texts, (rows, longest), out);
    }
}

/// Rows whose caches lie in the same memory.
struct Rows<'a> {
    keys: &'a GpuBuffer,
    values: &'a GpuBuffer,
    /// Of each row: its number, and the pair of numbers where its keys and values go.
    stored: Vec<[u32; 2]>,
    /// Of each row, what [`Sight::Texts`] says.
    seen: Vec<[u32; 4]>,
}

/// The rows of several texts by the memory that their caches lie in.
fn rows_by_slab<'a>(spans: &'a [Span<'_, Gpu>]) -> Vec<Rows<'a>> {
    let (mut slabs, mut row) = (Vec::<Rows<'a>>::new(), 0);
    for Span { rows, position, cache } in spans.iter().filter(|span| span.rows > 0) {
        let (keys, values) = (&cache.keys, &cache.values);
        let at = slabs.iter().position(|slab| Arc::ptr_eq(&slab.keys.allocation, &keys.allocation));
        let at = at.unwrap_or_else(|| {
            slabs.push(Rows { keys, values, stored: Vec::new(), seen: Vec::new() });
            slabs.len() - 1
        });
        for token in *position..position + rows {
            slabs[at].stored.push([row, cache.pair_of(token) as u32]);
            slabs[at].seen.push([row, 0, cache.pair_of(0) as u32, token as u32 + 1]);
            row += 1;
        }
    }
    slabs
}
