//! Scaled dot-product attention over cached keys and values, grouped-query included.
//!
//! Queries that share keys (the heads of a group, and neighbouring tokens of a prompt) are taken four at a time, so a
//! key is read, and widened where it is stored in half precision, once for all of them.

use std::sync::Arc;

use super::cache::{CpuCache, Page, Pages};
use super::kernels::Kernels;
use super::lanes::Lanes;
use super::panel::{self, Element, PANEL_VECTORS, Panel};
use super::pointwise::softmax;
use super::pool::Pool;
use crate::Attention;

/// Queries that are taken together.
const TILE: usize = 4;

/// What one call computes: query row `r` attends over the first `visible(r)` cached tokens.
pub(super) struct Call<'a> {
    pub shape: Attention,
    pub q: &'a [f32],
    pub cache: &'a CpuCache,
    /// What a key loses for each token that it lies back, one a head.
    pub slopes: Option<&'a [f32]>,
    pub rows: usize,
    /// Tokens that the first row sees.
    pub visible: usize,
    /// Whether each row sees one token more than the row before.
    pub causal: bool,
    pub out: *mut f32,
}

// SAFETY: tasks write to `out` where their own queries' results stand, see `task`.
unsafe impl Sync for Call<'_> {}

impl Call<'_> {
    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Tiles of the queries that share one head's keys: all rows of all its heads.
    fn tiles(&self) -> usize {
        (self.group() * self.rows).div_ceil(TILE)
    }

    fn visible(&self, row: usize) -> usize {
        if self.causal { self.visible + row } else { self.visible }
    }
}

/// Computes several calls side by side.
pub(super) fn attend(kernels: &'static Kernels, pool: &Pool, calls: &[Call<'_>]) {
    let mut ends = Vec::with_capacity(calls.len());
    for call in calls {
        let Attention { heads, kv_heads, head_dim } = call.shape;
        assert!(call.q.len() >= call.rows * heads * head_dim && call.cache.shape.head_dim == head_dim);
        assert_eq!(call.cache.shape.kv_heads, kv_heads);
        ends.push(ends.last().copied().unwrap_or(0) + kv_heads * call.tiles());
    }
    pool.run(ends.last().copied().unwrap_or(0), &|i| {
        let at = ends.partition_point(|end| *end <= i);
        let (call, i) = (&calls[at], i - at.checked_sub(1).map_or(0, |before| ends[before]));
        // SAFETY: the kernels were chosen because the processor has them; the task's numbers are in range.
        unsafe { kernels.attention(call, i / call.tiles(), i % call.tiles()) }
    });
}

/// One tile of queries over the keys of one head.
///
/// # Safety
///
/// That of [`Lanes`]; `call.out` is writable for all queries' results, those of this tile by nobody else.
#[inline(always)]
pub(super) unsafe fn task<L: Lanes>(call: &Call<'_>, kv_head: usize, tile: usize) {
    // SAFETY: the caller's.
    unsafe {
        match &call.cache.pages {
            Pages::F32(pages) => tile_of::<L, f32>(call, pages, kv_head, tile),
            Pages::F16(pages) => tile_of::<L, u16>(call, pages, kv_head, tile),
        }
    }
}

/// Query `i` is head `i % group` of row `i / group`. Where there are fewer than a tile, the last one is computed again: a kernel for
/// fewer would add in another order, and an answer depend on what it was read together with.
#[inline(always)]
unsafe fn tile_of<L: Lanes, E: Element>(call: &Call<'_>, pages: &[Arc<Page<E>>], kv_head: usize, tile: usize) {
    let Attention { heads, kv_heads, head_dim } = call.shape;
    let (width, group, layout) = (PANEL_VECTORS * L::ROWS, call.group(), call.cache.shape);
    let queries: [usize; TILE] = std::array::from_fn(|t| (tile * TILE + t).min(group * call.rows - 1));
    let rows = queries.map(|query| query / group);
    let at = queries.map(|query| (query / group * heads + kv_head * group + query % group) * head_dim);
    let most = call.visible(rows[TILE - 1]);
    let panels = most.div_ceil(width);
    let stride = panels * width;
    let mut scores = vec![0.0f32; TILE * stride];
    // A page has whole panels, so that no panel reaches from one page into the next.
    assert!(pages.len() * layout.page >= most && layout.width == width);
    // SAFETY: the caller's; cached tokens and queries are in range by the assertions here and in `attend`.
    unsafe {
        let q = at.map(|at| call.q.as_ptr().add(at));
        for panel in 0..panels {
            let (page, own) = (&pages[panel * width / layout.page], panel % (layout.page / width));
            let weights = page.keys.as_ptr().add((own * kv_heads + kv_head) * head_dim * width);
            let scores = std::array::from_fn(|t| scores.as_mut_ptr().add(t * stride + panel * width));
            panel::multiply::<L, E, TILE>(Panel { weights, columns: head_dim, stride: width }, q, 1, scores, width);
        }
        let scale = 1.0 / (head_dim as f32).sqrt();
        for (t, scores) in scores.chunks_exact_mut(stride).enumerate() {
            let (seen, hidden) = scores.split_at_mut(call.visible(rows[t]));
            if let Some(slopes) = call.slopes {
                let slope = slopes[kv_head * group + queries[t] % group] / scale;
                let last = (seen.len() - 1) as f32;
                seen.iter_mut().enumerate().for_each(|(token, score)| *score -= slope * (last - token as f32));
            }
            softmax(seen, scale);
            hidden.fill(0.0);
        }
        for d in (0..head_dim).step_by(width) {
            let mut sums = panel::no_sums::<L, TILE>();
            for (at, page) in pages[..most.div_ceil(layout.page)].iter().enumerate() {
                let before = at * layout.page;
                let probabilities = std::array::from_fn(|t| scores.as_ptr().add(t * stride + before));
                let weights = page.values.as_ptr().add(kv_head * layout.padded() + d);
                let panel = Panel { weights, columns: (most - before).min(layout.page), stride: layout.value() };
                panel::accumulate::<L, E, TILE>(panel, probabilities, 1, &mut sums);
            }
            for (sums, at) in sums.into_iter().zip(at) {
                panel::store::<L>(sums, call.out.add(at + d), (head_dim - d).min(width));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::Precision;
    use crate::cpu::kernels::available;

    fn noise(seed: usize, len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    /// The definition, head by head.
    #[allow(clippy::too_many_arguments)]
    fn naive(
        shape: Attention,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        slopes: Option<&[f32]>,
        rows: usize,
        visible: impl Fn(usize) -> usize,
    ) -> Vec<f32> {
        let Attention { heads, kv_heads, head_dim } = shape;
        let mut out = vec![0.0; rows * heads * head_dim];
        for row in 0..rows {
            for head in 0..heads {
                let at = (row * heads + head) * head_dim;
                let kv = |token: usize| (token * kv_heads + head * kv_heads / heads) * head_dim;
                let weights: Vec<f64> = (0..visible(row))
                    .map(|t| {
                        let dot: f64 = (0..head_dim).map(|d| f64::from(q[at + d]) * f64::from(k[kv(t) + d])).sum();
                        let back = (visible(row) - 1 - t) as f64;
                        let slope = f64::from(slopes.map_or(0.0, |slopes| slopes[head]));
                        (dot / (head_dim as f64).sqrt() - slope * back).exp()
                    })
                    .collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..head_dim {
                    let value: f64 = weights.iter().enumerate().map(|(t, w)| w * f64::from(v[kv(t) + d])).sum();
                    out[at + d] = (value / sum) as f32;
                }
            }
        }
        out
    }

    fn check(
        kernels: &'static Kernels,
        shape: Attention,
        (before, rows): (usize, usize),
        causal: bool,
        precision: Precision,
        slopes: Option<&[f32]>,
    ) {
        let Attention { heads, kv_heads, head_dim } = shape;
        let (tokens, width) = (before + rows, kv_heads * head_dim);
        let (q, k, v) = (noise(1, rows * heads * head_dim), noise(2, tokens * width), noise(3, tokens * width));
        let mut cache = CpuCache::new(kernels, kv_heads, head_dim, precision, &Arc::new(AtomicUsize::new(0)));
        cache.store(&k, &v, before, 0);
        cache.store(&k[before * width..], &v[before * width..], rows, before);
        let mut out = vec![f32::NAN; q.len()];
        let visible = if causal { before + 1 } else { tokens };
        let call = Call { shape, q: &q, cache: &cache, slopes, rows, visible, causal, out: out.as_mut_ptr() };
        attend(kernels, &Pool::alone(), &[call]);
        let wanted = naive(shape, &q, &k, &v, slopes, rows, |row| if causal { before + row + 1 } else { tokens });
        let allowed = if precision == Precision::F32 { 1e-5 } else { 1e-3 };
        for (i, (got, wanted)) in out.iter().zip(&wanted).enumerate() {
            let name = kernels.name;
            assert!(
                (got - wanted).abs() <= allowed,
                "{name} {shape:?} {before}+{rows} {precision:?} {i}: {got} {wanted}"
            );
        }
    }

    #[test]
    fn attention_is_its_definition_on_every_instruction_set() {
        for kernels in available() {
            for (heads, kv_heads, head_dim) in [(1, 1, 2), (4, 2, 16), (6, 2, 64), (14, 2, 64), (3, 3, 80)] {
                let shape = Attention { heads, kv_heads, head_dim };
                for (before, rows) in [(0, 1), (0, 5), (3, 1), (30, 9), (64, 2), (150, 7)] {
                    for precision in [Precision::F32, Precision::F16] {
                        let slopes: Vec<f32> = (0..heads).map(|h| 0.5f32.powi(h as i32)).collect();
                        check(kernels, shape, (before, rows), true, precision, None);
                        check(kernels, shape, (before, rows), true, precision, Some(&slopes));
                        check(kernels, shape, (before, rows), false, precision, None);
                    }
                }
            }
        }
    }

    #[test]
    fn a_cache_that_was_cut_back_is_overwritten() {
        let kernels = available()[0];
        let shape = Attention { heads: 1, kv_heads: 1, head_dim: 2 };
        let mut cache = CpuCache::new(kernels, 1, 2, Precision::F32, &Arc::new(AtomicUsize::new(0)));
        cache.store(&[9.0; 20], &[9.0; 20], 10, 0);
        cache.store(&[1.0, 0.0], &[5.0, 6.0], 1, 0);
        let mut out = [0.0; 2];
        let call = Call {
            shape,
            q: &[1.0, 1.0],
            cache: &cache,
            slopes: None,
            rows: 1,
            visible: 1,
            causal: true,
            out: out.as_mut_ptr(),
        };
        attend(kernels, &Pool::alone(), &[call]);
        assert_eq!(out, [5.0, 6.0]);
    }
}
