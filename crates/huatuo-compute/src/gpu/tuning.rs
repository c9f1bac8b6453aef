//! How kernels are laid out on a device: by its kind, then chosen by trying, in some seconds at the first load.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use web_time::Instant;

use super::device::Gpu;
use super::matrix::{GROUP, GpuMatrix, MatrixPart};
use super::products::{Extra, LEAST_TILED, Product};
use crate::cpu::ggml_block::BLOCK;
use crate::{ComputeError, Encoding};

/// How activations meet weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Each lane reads all activations.
    Plain,
    /// Four lanes read a quad together; needs subgroups.
    Quads,
    /// Products of bytes, `dot4I8Packed`; for quantized weights.
    Bytes,
    /// Tiles in shared memory; for prefill.
    Tiles,
    /// The same in half precision; needs shader-f16.
    Halves,
}

const WAYS: [(&str, Way); 5] = [
    ("plain", Way::Plain),
    ("quads", Way::Quads),
    ("bytes", Way::Bytes),
    ("tiles", Way::Tiles),
    ("halves", Way::Halves),
];

/// How the product for decoding is laid out: `shader/matvec.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Lanes that keep the device busy: where a matrix has fewer rows, several lanes share the columns of one.
    pub lanes: usize,
    /// Groups of 32 rows of a workgroup: 1, 2 or 4.
    pub row_groups: usize,
    pub way: Way,
}

impl Shape {
    /// Slices of lanes that share the columns, for `groups` workgroups of a matrix with so many blocks in a row.
    pub fn slices(&self, groups: usize, blocks: usize, most: usize) -> usize {
        slices(self.lanes, groups, blocks, most)
    }
}

/// Slices of lanes that share the columns, so that a device gets so many lanes.
fn slices(lanes: usize, groups: usize, blocks: usize, most: usize) -> usize {
    let wanted = lanes / (32 * groups).max(1);
    let most = most.min(32).min(blocks).max(1);
    1 << (wanted + wanted / 2).max(1).ilog2().min(most.ilog2())
}

/// How the product for some tokens at once is laid out: `shader/matvec_few.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Few {
    /// As those of [`Shape`].
    pub lanes: usize,
    /// Groups of 32 rows of a workgroup at most: 1, 2, 4 or 8.
    pub row_groups: usize,
}

impl Few {
    /// Slices and groups for a matrix and so many workgroups with the same rows, of which no kernel has more slices than
    /// `most`: fewer rows share the reading of activations where there would be few workgroups.
    fn of(&self, matrix: &GpuMatrix, tokens: usize, most: usize) -> Layout {
        const ENOUGH: usize = if cfg!(test) { 1 } else { 128 };
        let outputs = matrix.parts.iter().map(all_rows).max().unwrap_or(0);
        let groups = |row_groups: usize| tokens * outputs.div_ceil(GROUP * row_groups);
        let mut row_groups = self.row_groups;
        while row_groups > 1 && groups(row_groups) < ENOUGH {
            row_groups /= 2;
        }
        // Lanes with many rows have many numbers at hand, which the largest workgroups have no room for.
        let most = if row_groups > 2 { most.min(8) } else { most };
        Layout::Few { slices: slices(self.lanes, groups(row_groups), matrix.blocks(), most), row_groups }
    }
}

/// How products with weights of an encoding are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan {
    pub decode: Shape,
    /// For as many tokens as one workgroup takes, [`FEW`], and for more; nothing where the device gains nothing by it.
    pub few: Option<[Few; 2]>,
    pub prefill: Way,
    /// Nothing where the kind of the adapter was all that was asked.
    pub tried: Option<Tried>,
}

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Token by token.
    One,
    /// Each weight read once for some tokens.
    Few { slices: usize, row_groups: usize },
    /// In tiles, for prefill.
    Many(Way),
}

/// What a plan was tried with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tried {
    /// Weights times tokens a second of one token, of [`SOME`] each, and in prefill.
    one: f64,
    few: [f64; 2],
    rate: f64,
    /// Weights of the largest matrix.
    weights: usize,
}

/// How a device computes: what [`crate::Device::tune`] found, to be kept as text for the next start on the same adapter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// By encoding.
    plans: [Plan; Encoding::ALL.len()],
    /// Cached tokens of a workgroup's attention when there are few rows.
    pub(super) split: usize,
    /// Whether attention reads keys and values in vectors.
    pub(super) vectors: bool,
    /// Whether other layouts are worth a try.
    pub(super) is_card: bool,
}

impl Tuning {
    /// What suits an adapter of this kind.
    pub(super) fn of(info: &wgpu::AdapterInfo, has_subgroups: bool) -> Self {
        let is_card = info.device_type != wgpu::DeviceType::Cpu;
        let plan = match is_card {
            true => {
                let decode = Shape { lanes: 1 << 16, row_groups: 1, way: Way::Plain };
                Plan { decode, few: None, prefill: Way::Tiles, tried: None }
            }
            // A processor that stands in for one computes lane after lane, and gains by fewer loads of x.
            false => {
                let (way, prefill) = if has_subgroups { (Way::Quads, Way::Quads) } else { (Way::Plain, Way::Tiles) };
                Plan { decode: Shape { lanes: 0, row_groups: 4, way }, few: None, prefill, tried: None }
            }
        };
        Self { plans: [plan; Encoding::ALL.len()], split: if is_card { 1024 } else { 256 }, vectors: is_card, is_card }
    }

    /// One plan for all.
    #[cfg(test)]
    pub(super) fn all(decode: Shape, few: Option<[Few; 2]>, prefill: Way) -> Self {
        let plan = Plan { decode, few, prefill, tried: None };
        Self { plans: [plan; Encoding::ALL.len()], split: 128, vectors: true, is_card: false }
    }

    pub(super) fn plan(&self, encoding: Encoding) -> Plan {
        self.plans[encoding as usize]
    }

    fn plan_mut(&mut self, encoding: Encoding) -> &mut Plan {
        &mut self.plans[encoding as usize]
    }

    /// Takes what an earlier start found, as [`fmt::Display`] wrote it; what it says of no encoding stays as it is, and what
    /// can't be read, or needs what the device lacks, is tried anew.
    pub(super) fn take(&mut self, kept: &str, has: impl Fn(Way) -> bool) {
        let lines = kept.lines().skip_while(|line| *line != KERNELS);
        for (plan, own) in lines.filter_map(|line| line.parse::<Plan>().ok().zip(encoding_of(line))) {
            let Plan { decode, prefill, .. } = plan;
            if has(decode.way) && has(prefill) {
                *self.plan_mut(own) = plan;
            }
        }
    }
}

fn encoding_of(line: &str) -> Option<Encoding> {
    let name = line.split(' ').next()?;
    Encoding::ALL.into_iter().find(|encoding| format!("{encoding:?}") == name)
}

/// The first line: what was found with other kernels doesn't count.
const KERNELS: &str = concat!("kernels ", env!("CARGO_PKG_VERSION"));

/// After the first line, one for each encoding that was tried: its name, then the layout of the product for decoding, those for
/// some tokens, and that for prefill, each with its rate.
impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{KERNELS}")?;
        for (encoding, plan) in Encoding::ALL.iter().zip(&self.plans) {
            let Plan { decode, few, prefill, tried: Some(tried) } = plan else { continue };
            let (Shape { lanes, row_groups, way }, Tried { one, few: few_rates, rate, weights }) = (decode, tried);
            let name = |way: Way| WAYS.iter().find(|(_, known)| *known == way).map_or("", |(name, _)| name);
            let (way, prefill) = (name(*way), name(*prefill));
            write!(f, "{encoding:?} {way} {lanes} {row_groups} {one:.0}")?;
            for (Few { lanes, row_groups }, rate) in few.iter().flatten().zip(few_rates) {
                write!(f, " {lanes} {row_groups} {rate:.0}")?;
            }
            writeln!(f, " {prefill} {rate:.0} {weights}")?;
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let fields: Vec<&str> = line.split(' ').collect();
        let &[_, way, lanes, row_groups, one, ref few @ .., prefill, rate, weights] = &*fields else { return Err(()) };
        let way_of = |name| WAYS.iter().find(|(known, _)| *known == name).map(|(_, way)| *way).ok_or(());
        let number = |text: &str| text.parse::<usize>().map_err(drop);
        let shape = Shape { lanes: number(lanes)?, row_groups: number(row_groups)?, way: way_of(way)? };
        let rate_of =
            |text: &str| text.parse::<f64>().map_err(drop).and_then(|rate| (rate > 0.0).then_some(rate).ok_or(()));
        let few_of = |fields: &[&str]| {
            let &[lanes, row_groups, rate] = fields else { return Err(()) };
            let few = Few { lanes: number(lanes)?, row_groups: number(row_groups)? };
            let is_sound = few.lanes <= MOST_LANES && [1, 2, 4, 8].contains(&few.row_groups);
            Ok((is_sound.then_some(few).ok_or(())?, rate_of(rate)?))
        };
        let (few, rates) = match few.as_chunks::<3>() {
            ([], []) => (None, [0.0; 2]),
            ([first, second], []) => {
                let [first, second] = [few_of(first)?, few_of(second)?];
                (Some([first.0, second.0]), [first.1, second.1])
            }
            _ => return Err(()),
        };
        let tried = Tried { one: rate_of(one)?, few: rates, rate: rate_of(rate)?, weights: number(weights)? };
        let prefill = way_of(prefill)?;
        let is_sound = [1, 2, 4].contains(&shape.row_groups) && shape.lanes <= MOST_LANES;
        let is_for_decoding = !matches!(shape.way, Way::Tiles | Way::Halves);
        let fits = shape.way != Way::Bytes || shape.row_groups < 4;
        match is_sound && is_for_decoding && fits {
            true => Ok(Self { decode: shape, few, prefill, tried: Some(tried) }),
            false => Err(()),
        }
    }
}

/// What one layout achieved.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Encoding and layout.
    pub name: String,
    /// Bytes of weights a second for decoding, weights times tokens a second for prefill.
    pub rate: f64,
}

/// How many times larger than what was tried a matrix must be for another try: large ones want more lanes.
const MUCH_LARGER: usize = 4;
/// Tokens of a trial of prefill.
const TOKENS: usize = 64;
/// Tokens of a workgroup of the product for some tokens.
pub(super) const FEW: usize = 8;
/// Tokens of its trials.
const SOME: [usize; 2] = [FEW, 4 * FEW];
/// A page writes one text: what it would gain with the rest of a prompt is not worth the trials.
const TRIES_FEW: bool = cfg!(not(target_arch = "wasm32"));
/// Most lanes that a product may want.
const MOST_LANES: usize = 1 << 24;
/// How often each layout is tried, in turn with the others: devices that rest take a while to get up to speed.
const PASSES: usize = 4;
/// How long a card is kept busy before the first trial.
const WAKING: Duration = Duration::from_millis(100);
/// What a trial takes at least, so that starting it and waiting for it don't count.
const LEAST_SECONDS: f64 = 2e-3;
/// Most bytes of weights that a trial reads: more than caches hold, no more than a slow device reads in hundredths of a
/// second.
const TRIAL_BYTES: usize = 256 << 20;

impl Gpu {
    /// Tries how products are computed fastest with the matrices of these layers; an encoding is tried once, and again with a
    /// much larger model, or always with `again`.
    pub async fn try_ways<'a>(&self, layers: &[Vec<&'a GpuMatrix>], again: bool) -> Result<Vec<Trial>, ComputeError> {
        let mut trials = Vec::new();
        let mut is_awake = false;
        for encoding in Encoding::ALL {
            // Of matrices that are multiplied together, the first.
            let is_first = |m: &&GpuMatrix| m.parts.iter().all(|part| part.joint.is_none_or(|joint| joint.first == 0));
            let mut own: Vec<Vec<&'a GpuMatrix>> = layers.to_vec();
            own.iter_mut().for_each(|layer| layer.retain(|m| m.encoding == encoding && is_first(m)));
            own.retain(|layer| !layer.is_empty());
            let layers = own;
            let Some(first) = layers.first() else { continue };
            let weights = first.iter().map(|m| all_rows(&m.parts[0]) * m.columns).max().unwrap_or(0);
            let known = self.tuning().plan(encoding).tried;
            if known.is_some_and(|tried| weights <= MUCH_LARGER * tried.weights) && !again {
                continue;
            }
            let mut bytes = 0;
            let within = |m: &&GpuMatrix| {
                let fits = bytes < TRIAL_BYTES;
                bytes += m.rows * m.blocks() * m.bytes_of_block();
                fits
            };
            // The large ones of each layer, of many rows and of many columns.
            let large =
                |layer: &Vec<&'a GpuMatrix>| -> Vec<&'a GpuMatrix> { layer[layer.len().saturating_sub(2)..].to_vec() };
            let first = &large(first);
            let some: Vec<&GpuMatrix> = layers.iter().flat_map(large).take_while(within).collect();
            // Cards that rest compute slowly, and read their memory as fast as ever.
            let started = Instant::now();
            while !is_awake && started.elapsed() < WAKING {
                self.time(&some, 1, 1).await?;
            }
            is_awake = true;
            let shapes = self.shapes(encoding);
            // While something is tried, nothing else is chosen in its place.
            self.change(|tuning| (tuning.plan_mut(encoding).few, tuning.plan_mut(encoding).tried) = (None, None));
            let (shape, one) = self.fastest(encoding, &some, 1, &shapes, &mut trials, |p, s| p.decode = *s).await?;
            self.change(|tuning| tuning.plan_mut(encoding).decode = shape);
            let ways = self.ways(encoding);
            let (way, rate) =
                self.fastest(encoding, first, TOKENS, &ways, &mut trials, |p, way| p.prefill = *way).await?;
            self.change(|tuning| tuning.plan_mut(encoding).prefill = way);
            let (mut few, mut rates) = ([Few { lanes: 0, row_groups: 1 }; 2], [0.0; 2]);
            for (i, (rows, matrices)) in SOME.into_iter().zip([&some, first]).enumerate().filter(|_| TRIES_FEW) {
                let layouts = few_layouts(rows);
                let set = |plan: &mut Plan, few: &Few| plan.few = Some([*few; 2]);
                (few[i], rates[i]) = self.fastest(encoding, matrices, rows, &layouts, &mut trials, set).await?;
            }
            self.change(|tuning| {
                let plan = tuning.plan_mut(encoding);
                plan.few = TRIES_FEW.then_some(few);
                plan.tried = Some(Tried { one, few: rates, rate, weights });
            });
        }
        Ok(trials)
    }

    /// The layout among several that is the fastest, and how fast it is.
    async fn fastest<T: Copy + fmt::Debug>(
        &self,
        encoding: Encoding,
        matrices: &[&GpuMatrix],
        rows: usize,
        layouts: &[T],
        trials: &mut Vec<Trial>,
        set: impl Fn(&mut Plan, &T),
    ) -> Result<(T, f64), ComputeError> {
        let mut seconds = vec![f64::INFINITY; layouts.len()];
        let mut rounds = 1;
        for pass in 0..PASSES {
            let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
            for (layout, seconds) in layouts.iter().zip(&mut seconds) {
                if pass > 2 && *seconds > 1.5 * best {
                    continue; // it won't catch up
                }
                self.change(|tuning| set(tuning.plan_mut(encoding), layout));
                let took = self.time(matrices, rows, rounds).await?;
                // The first time kernels are compiled.
                if pass > 0 {
                    *seconds = seconds.min(took);
                }
            }
            if pass == 1 {
                let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
                rounds = (LEAST_SECONDS / best).ceil().clamp(1.0, 32.0) as usize;
                seconds.fill(f64::INFINITY);
            }
        }
        let weights: usize = matrices.iter().flat_map(|m| m.parts.iter().map(|part| all_rows(part) * m.columns)).sum();
        let bytes: usize = matrices.iter().map(|m| all_rows(&m.parts[0]) * m.blocks() * m.bytes_of_block()).sum();
        let rate = |seconds: f64| (weights * rows) as f64 / seconds;
        for (layout, seconds) in layouts.iter().zip(&seconds) {
            let name = format!("{encoding:?}, {rows} tokens, {layout:?}");
            trials.push(Trial { name, rate: if rows == 1 { bytes as f64 / seconds } else { rate(*seconds) } });
        }
        let best = seconds.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        Ok((layouts[best], rate(seconds[best])))
    }

    /// Layouts of the product for decoding that may be the fastest.
    fn shapes(&self, encoding: Encoding) -> Vec<Shape> {
        let ways = [Way::Plain, Way::Bytes].into_iter().filter(|way| self.may(*way, encoding));
        ways.flat_map(|way| (15..19).map(move |power| Shape { lanes: 1 << power, row_groups: 1, way })).collect()
    }

    /// The same for prefill.
    fn ways(&self, encoding: Encoding) -> Vec<Way> {
        [Way::Tiles, Way::Plain, Way::Bytes, Way::Halves].into_iter().filter(|way| self.may(*way, encoding)).collect()
    }

    /// How so many tokens are multiplied with a matrix: by what was tried, the way that takes the least time.
    pub(super) fn layout(&self, matrix: &GpuMatrix, rows: usize) -> Layout {
        let plan = self.tuning().plan(matrix.encoding);
        let is_whole = matrix.columns.is_multiple_of(BLOCK);
        let (Some(few), true) = (plan.few, is_whole && rows > 1) else {
            return if rows < LEAST_TILED { Layout::One } else { Layout::Many(plan.prefill) };
        };
        // Of those that are made for many tokens as many are at work for each number of them: another number of slices would
        // be another kernel, which takes a while to compile.
        let (few, tokens) = if rows <= FEW { (few[0], 1) } else { (few[1], SOME[1] / FEW) };
        let few = few.of(matrix, tokens, self.most_few_lanes() / GROUP);
        let Some(Tried { one, few: [first, second], rate, .. }) = plan.tried else { return few };
        let seconds = |at_once: usize, rate: f64| rows.next_multiple_of(at_once) as f64 / rate;
        let in_few = seconds(FEW, if rows > FEW { second } else { first });
        match () {
            () if rows < LEAST_TILED && seconds(1, one) <= in_few => Layout::One,
            () if rows >= LEAST_TILED && seconds(TOKENS, rate) <= in_few => Layout::Many(plan.prefill),
            () => few,
        }
    }

    /// Whether the device can compute so.
    pub(super) fn has_way(&self, way: Way) -> bool {
        match way {
            Way::Quads => self.has_subgroups(),
            Way::Bytes => self.shared.has_bytes,
            Way::Halves => self.shared.has_halves,
            Way::Plain | Way::Tiles => true,
        }
    }

    fn may(&self, way: Way, encoding: Encoding) -> bool {
        self.has_way(way) && (way != Way::Bytes || encoding.block_len() > 1)
    }

    /// Seconds of products with `rows` tokens, matrix after matrix, `rounds` times over.
    async fn time(&self, matrices: &[&GpuMatrix], rows: usize, rounds: usize) -> Result<f64, ComputeError> {
        let columns = matrices.iter().map(|m| m.columns).max().unwrap_or(0);
        let outputs = matrices.iter().flat_map(|m| &m.parts).map(all_rows).max().unwrap_or(0);
        let (x, out, gain) = (self.numbers(rows * columns), self.numbers(rows * outputs), self.numbers(columns));
        self.settle().await?;
        let started = Instant::now();
        for matrix in (0..rounds).flat_map(|_| matrices) {
            for part in &matrix.parts {
                // A gate above its up projection is multiplied as the decoder does it.
                let gated = rows == 1 && part.joint.is_some_and(|joint| joint.all == 2 * matrix.rows);
                let width = all_rows(part);
                let outs = vec![(&out, if gated { matrix.rows } else { width })];
                let part = MatrixPart { first: 0, allocation: part.allocation.clone(), ..*part };
                let product = Product { matrix, part: &part, rows: width, bias: None, outs };
                let extra = Extra { norm: gated.then_some((&gain, 1e-6)), gated, add: false };
                self.multiply(&x, rows, &product, extra);
            }
        }
        self.settle().await?;
        Ok(started.elapsed().as_secs_f64() / rounds as f64)
    }

    /// Tokens of a prompt that are read at once, so that a layer of these matrices takes no longer than a stop may wait.
    pub(super) fn tokens_at_once(&self, layer: &[&GpuMatrix]) -> usize {
        /// Half of the 50 ms within which a stop has to take effect.
        const LONGEST: Duration = Duration::from_millis(25);
        /// Fewer read each weight too often, more gain nothing.
        const TOKENS_AT_ONCE: std::ops::RangeInclusive<usize> = 16..=256;
        let tuning = self.tuning();
        let of_matrix = |m: &&GpuMatrix| {
            let tried = tuning.plan(m.encoding).tried?;
            Some((m.rows * m.columns) as f64 / tried.rate.max(tried.few[1]))
        };
        match layer.iter().map(of_matrix).sum::<Option<f64>>() {
            Some(seconds) if seconds > 0.0 => {
                let tokens = (LONGEST.as_secs_f64() / seconds).min(1e6) as usize;
                let (least, most) = TOKENS_AT_ONCE.into_inner();
                1 << tokens.clamp(least, most).ilog2()
            }
            _ => TOKENS,
        }
    }

    /// Seconds that a run of a kernel costs that does next to nothing: until it is submitted, and until it is done.
    pub async fn cost_of_a_run(&self) -> Result<[f64; 2], ComputeError> {
        const RUNS: usize = 500;
        let x = self.numbers(64);
        let mut best = [f64::INFINITY; 2];
        for _ in 0..5 {
            self.settle().await?;
            let started = Instant::now();
            (0..RUNS).for_each(|_| self.pointwise("add", 0, 64, &[x.whole(), self.nothing()]));
            self.submit();
            let submitted = started.elapsed().as_secs_f64() / RUNS as f64;
            self.settle().await?;
            best = [best[0].min(submitted), best[1].min(started.elapsed().as_secs_f64() / RUNS as f64)];
        }
        Ok(best)
    }
}

/// Layouts of the product for so many tokens that may be the fastest.
fn few_layouts(rows: usize) -> Vec<Few> {
    let row_groups = if rows <= FEW { [1, 2, 4] } else { [2, 4, 8] };
    let of_lanes = |power: u32| row_groups.map(|row_groups| Few { lanes: 1 << power, row_groups });
    [16, 17].into_iter().flat_map(of_lanes).collect()
}

/// Rows that are multiplied together.
fn all_rows(part: &MatrixPart) -> usize {
    part.joint.map_or(part.rows, |joint| joint.all)
}
