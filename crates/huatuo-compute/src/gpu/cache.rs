//! Keys and values of one layer on the device.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::buffer::{GpuBuffer, Ledger, Place, binding_bytes};
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
    ledger: Arc<Ledger>,
}

impl Drop for GpuCache {
    fn drop(&mut self) {
        self.ledger.caches.fetch_sub(self.bytes(), Ordering::Relaxed);
    }
}

impl GpuCache {
    pub(super) fn new(device: &Gpu, kv_heads: usize, head_dim: usize, precision: Precision) -> Self {
        let nothing = device.numbers(0);
        let ledger = Arc::clone(device.ledger());
        Self { kv_heads, head_dim, precision, room: 0, keys: nothing.clone(), values: nothing, ledger }
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

    /// Room after [`Self::reserve`].
    fn room_for(&self, tokens: usize) -> usize {
        if tokens <= self.room { self.room } else { tokens.max(2 * self.room).max(FIRST_ROOM) }
    }

    /// Bytes that [`Self::reserve`] would add.
    pub(super) fn growth(&self, tokens: usize) -> usize {
        2 * 4 * (self.room_for(tokens) - self.room) * self.words()
    }

    /// A copy of the first tokens.
    pub(super) fn fork(&self, device: &Gpu, tokens: usize) -> Self {
        let mut fork = Self::new(device, self.kv_heads, self.head_dim, self.precision);
        fork.reserve(device, tokens);
        let words = tokens * self.words();
        for (from, to) in [(&self.keys, &fork.keys), (&self.values, &fork.values)] {
            let mut recorder = device.recorder();
            let place = Place { bytes: binding_bytes(4 * words), ..from.whole() };
            recorder.copy_at(place, &to.allocation.buffer, to.start);
            recorder.keep(&to.allocation);
        }
        fork
    }

    /// Makes room for so many tokens, keeping those that are there.
    pub(super) fn reserve(&mut self, device: &Gpu, tokens: usize) {
        let room = self.room_for(tokens);
        if room == self.room {
            return;
        }
        self.ledger.caches.fetch_add(self.growth(tokens), Ordering::Relaxed);
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
