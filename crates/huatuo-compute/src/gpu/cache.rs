//! Keys and values of one layer on the device.

use super::buffer::GpuBuffer;
use super::device::Gpu;
use crate::Precision;

/// Tokens that a new cache has room for.
const FIRST_ROOM: usize = 256;

/// Keys and values `[token, kv_heads, head_dim]`; room doubles with the conversation.
pub struct GpuCache {
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) precision: Precision,
    /// Tokens that there is room for.
    pub(super) room: usize,
    pub(super) keys: GpuBuffer,
    pub(super) values: GpuBuffer,
}

impl GpuCache {
    pub(super) fn new(device: &Gpu, kv_heads: usize, head_dim: usize, precision: Precision) -> Self {
        let nothing = device.numbers(0);
        Self { kv_heads, head_dim, precision, room: 0, keys: nothing.clone(), values: nothing }
    }

    /// Index into the shaders' kinds of caches.
    pub(super) fn kind(&self) -> usize {
        match self.precision {
            Precision::F32 => 0,
            Precision::F16 => 1,
        }
    }

    /// Words of a token's keys.
    fn words(&self) -> usize {
        match self.precision {
            Precision::F32 => self.kv_heads * self.head_dim,
            Precision::F16 => (self.kv_heads * self.head_dim).div_ceil(2),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        2 * 4 * self.room * self.words()
    }

    /// Makes room for so many tokens, keeping those that are there.
    pub(super) fn reserve(&mut self, device: &Gpu, tokens: usize) {
        if tokens <= self.room {
            return;
        }
        let room = tokens.max(2 * self.room).max(FIRST_ROOM);
        let words = self.words();
        if device.check_room("keys and values", 2 * 4 * room * words).is_err() {
            device.run_out_of_memory(); // operators can't fail: it shows when a result is waited for
        }
        for buffer in [&mut self.keys, &mut self.values] {
            let larger = device.numbers(room * words);
            if self.room > 0 {
                let mut recorder = device.recorder();
                recorder.copy_at(buffer.whole(), &larger.allocation.buffer, 0);
                recorder.keep(&larger.allocation);
            }
            *buffer = larger;
        }
        self.room = room;
    }
}
