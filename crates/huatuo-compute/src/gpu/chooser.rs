//! Choosing the next token on the device, so that four bytes come back instead of a vocabulary's scores.

use futures_channel::oneshot;

use super::buffer::{GpuBuffer, Place};
use super::device::Gpu;
use super::kernel::{Step, Table};
use crate::{ChoiceRule, ComputeError, Draw};

/// Scores of a workgroup.
const CHUNK: usize = 1024;
/// Where the result stands, and the tokens that count as written: `shader/choice.wgsl`.
const RESULT: usize = 3;
const RECENT: usize = 4;
/// In place of a token: no score was a number.
const NONE: u32 = u32::MAX;

/// What the next choice depends on, on the device.
pub struct GpuChooser {
    choice: GpuBuffer,
    classes: GpuBuffer,
    next: GpuBuffer,
    best: GpuBuffer,
    vocabulary: usize,
    class_count: usize,
    has_automaton: bool,
    penalty: f32,
    window: usize,
    draw: Option<Draw>,
}

/// A token that is being chosen.
pub struct GpuChosen {
    staging: wgpu::Buffer,
    is_mapped: oneshot::Receiver<bool>,
}

impl GpuChooser {
    pub(super) fn new(device: &Gpu, rule: ChoiceRule) -> Self {
        let ChoiceRule { vocabulary, automaton, state, draw, penalty, window, written } = rule;
        let window = if penalty == 1.0 { 0 } else { window };
        let recent = &written[written.len().saturating_sub(window)..];
        let mut choice = vec![NONE, state, recent.len() as u32, 0];
        choice.extend(recent);
        choice.resize(RECENT + window.max(1), 0);
        let words = |words: &[u32]| {
            let buffer = device.numbers(words.len());
            device.write(&buffer.allocation, 0, bytemuck::cast_slice(words));
            buffer
        };
        let pair = |pair: &[u16]| u32::from(pair[0]) | pair.get(1).map_or(0, |high| u32::from(*high) << 16);
        let classes = automaton.as_ref().map_or(Vec::new(), |a| a.classes().chunks(2).map(pair).collect());
        Self {
            choice: words(&choice),
            classes: words(&classes),
            next: words(automaton.as_ref().map_or(&[], |a| a.transitions())),
            best: device.numbers(2 * vocabulary.div_ceil(CHUNK) * draw.map_or(1, |draw| draw.top_k)),
            vocabulary,
            class_count: automaton.as_ref().map_or(1, |a| a.class_count()),
            has_automaton: automaton.is_some(),
            penalty,
            window,
            draw,
        }
    }

    /// Where the last token stands.
    pub(super) fn token(&self) -> Place<'_> {
        self.choice.whole()
    }

    /// Notes what chooses the best token, and the copy of it.
    pub(super) fn choose(
        &self,
        device: &Gpu,
        scores: &GpuBuffer,
        allowed: Option<&[(u32, f32)]>,
        random: f32,
    ) -> GpuChosen {
        let window = ("WINDOW", self.window as f64);
        let step = |first: usize, count: usize| Step { first: first as u32, count: count as u32, ..Step::default() };
        let (choice, classes, next, best) =
            (self.choice.whole(), self.classes.whole(), self.next.whole(), self.best.whole());
        if self.window > 0 {
            let constants = [window, ("PENALTY", f64::from(self.penalty))];
            device.call("penalize", &constants, step(0, self.vocabulary), &[choice, scores.whole()], [1, 1, 1]);
        }
        if let Some(allowed) = allowed {
            let table: Vec<[u32; 2]> = allowed.iter().map(|(id, more)| [more.to_bits(), *id]).collect();
            let table = Table::Bytes(bytemuck::cast_slice(&table));
            let step = step(self.vocabulary, allowed.len());
            device.call_with_table("choose_listed", &[window], step, &[choice, scores.whole()], table, [1, 1, 1]);
        } else {
            let automaton = [
                window,
                ("AUTOMATON", f64::from(u8::from(self.has_automaton))),
                ("CLASSES", self.class_count as f64),
                ("TOP", self.draw.map_or(1, |draw| draw.top_k) as f64),
            ];
            let (groups, places) = (self.vocabulary.div_ceil(CHUNK), [choice, scores.whole(), classes, next, best]);
            let last = [choice, best, classes, next];
            let (all, joined) = (step(0, self.vocabulary), step(0, groups));
            match self.draw {
                None => {
                    device.call("choose", &automaton[..3], all, &places, [groups, 1, 1]);
                    device.call("choose_last", &automaton[..3], joined, &last, [1, 1, 1]);
                }
                Some(Draw { temperature, top_p, min_p, .. }) => {
                    let drawn = [("TEMPERATURE", temperature), ("TOP_P", top_p), ("MIN_P", min_p)];
                    let drawn = drawn.map(|(name, value)| (name, f64::from(value)));
                    let step = Step { position: random.to_bits(), ..joined };
                    device.call("choose_likeliest", &automaton, all, &places, [groups, 1, 1]);
                    device.call("choose_drawn", &[automaton.as_slice(), &drawn].concat(), step, &last, [1, 1, 1]);
                }
            }
        }
        let (staging, is_mapped) = device.read_word(Place { start: choice.start + 4 * RESULT, ..choice });
        GpuChosen { staging, is_mapped }
    }
}

impl GpuChosen {
    pub(super) async fn token(self, device: &Gpu) -> Result<Option<u32>, ComputeError> {
        match device.word(self.staging, self.is_mapped).await? {
            0 => Err(ComputeError::DeviceLost), // nothing was chosen: the call was refused
            NONE => Ok(None),
            token => Ok(Some(token - 1)),
        }
    }
}
