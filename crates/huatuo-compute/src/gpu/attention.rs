//! Attention over cached tokens, or over those of the same text.

use std::sync::PoisonError;

use super::buffer::{GpuBuffer, Place};
use super::device::Gpu;
use super::kernel::{Step, Table};
use super::products::LEAST_TILED;
use super::sources::WEIGHTS;
use super::tuning::Tuning;
use crate::Attention;

/// Teams of 64 lanes that share a workgroup's attention at most: `shader/attention_eights.wgsl`.
const MOST_TEAMS: usize = 4;
/// Workgroups that share a head's attention at most: `shader/attention_join.wgsl`.
const MOST_SPLITS: usize = 64;
/// Numbers of a head that attention has registers for.
pub(super) const LONGEST_HEAD: usize = 256;
/// Workgroups of 64 lanes from which on a card is busy.
const MANY_GROUPS: usize = 1024;

/// Which cached tokens rows see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// A row those up to its own, which stands behind so many.
    UpTo(usize),
    /// A row those from a first one to a last one: two words for each row in the table.
    Range,
    /// Rows of several texts those of their own text: four words for each in the table, the row, nothing, the pair of numbers
    /// that the text's keys begin with, the tokens that it sees.
    Texts,
}

/// Keys and values, and the rows that see them.
pub(super) struct Seen<'a> {
    pub keys: Place<'a>,
    pub values: Place<'a>,
    pub rows: usize,
    pub table: &'a [u8],
}

impl Gpu {
    /// Attention of so many rows, of which each is among those of one of the caches; `kind` is how they are stored, `longest`
    /// the most tokens that a row sees.
    #[allow(clippy::too_many_arguments)] // an operator's operands
    pub(super) fn attention(
        &self,
        shape: Attention,
        q: &GpuBuffer,
        (kind, caches): (usize, &[Seen<'_>]),
        slopes: Option<&GpuBuffer>,
        sight: Sight,
        (rows, longest): (usize, usize),
        out: &GpuBuffer,
    ) {
        let Attention { heads, kv_heads, head_dim } = shape;
        assert!(head_dim <= LONGEST_HEAD && head_dim.is_multiple_of(2));
        assert!(q.len.min(out.len) >= rows * heads * head_dim && slopes.is_none_or(|slopes| slopes.len >= heads));
        let Tuning { split, vectors, .. } = self.tuning();
        // Many rows keep the device busy without splits and teams; where it computes on the processor, some do.
        let is_busy = rows >= LEAST_TILED && (rows * heads >= MANY_GROUPS || !vectors);
        let split = if is_busy { longest } else { split * longest.div_ceil(split * MOST_SPLITS) };
        let splits = longest.div_ceil(split.max(1)).max(1);
        let split = if splits == 1 { longest.next_multiple_of(64) } else { split };
        let parts = self.parts(rows * heads * splits * (head_dim + 2));
        let nothing = self.nothing();
        let head = [("HEADS", heads as f64), ("HEAD_DIM", head_dim as f64)];
        let mut constants = vec![
            ("KV_HEADS", kv_heads as f64),
            ("CAUSAL", f64::from(u8::from(sight != Sight::Range))),
            ("TEXTS", f64::from(u8::from(sight == Sight::Texts))),
            ("SLOPES", f64::from(u8::from(slopes.is_some()))),
        ];
        constants.extend(head);
        let kernel = if vectors && head_dim.is_multiple_of(8) {
            let eights = head_dim / 8;
            let most = if is_busy { 1 } else { MOST_TEAMS };
            let teams = longest.min(split).div_ceil(64).clamp(1, most).next_power_of_two();
            let sizes = [
                ("EIGHTS", eights),
                ("QUARTERS", 2 * eights),
                ("GROUPS", 64 / eights),
                ("TEAMS", teams),
                ("LANES", 64 * teams),
                ("WEIGHTS", 16 * teams),
                ("SUMS", 128 * teams),
            ];
            constants.extend(sizes.map(|(name, size)| (name, size as f64)));
            "attention_eights"
        } else {
            constants.push(("PAIRS", (head_dim / 2) as f64));
            "attention"
        };
        let position = if let Sight::UpTo(position) = sight { position as u32 } else { 0 };
        let slopes = slopes.map_or(nothing, |slopes| slopes.whole());
        let choices = self.choices(WEIGHTS[0], kind);
        for Seen { keys, values, rows, table } in caches {
            let step = Step { rows: *rows as u32, position, first: split as u32, count: splits as u32 };
            let places = [*keys, *values, q.whole(), slopes, out.whole(), parts.whole()];
            let grid = [heads, *rows, splits];
            self.call_with(kernel, choices, &constants, step, &places, Table::Bytes(table), grid);
        }
        if splits > 1 {
            let step = Step { count: splits as u32, ..Step::default() };
            self.call("attention_join", &head, step, &[parts.whole(), out.whole()], [heads, rows, 1]);
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
