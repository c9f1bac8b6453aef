//! Keys and values of one layer on the device.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::buffer::{ALIGNMENT, GpuBuffer, Ledger, Place};
use super::device::Gpu;
use super::kernel::Step;
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
    /// Its place in a slab, where caches share memory.
    _lease: Option<Lease>,
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
        Self { kv_heads, head_dim, precision, room: 0, keys: nothing.clone(), values: nothing, ledger, _lease: None }
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

    /// Where a token's keys, and its values, stand in the allocation of either, in pairs of numbers.
    pub(super) fn pair_of(&self, token: usize) -> usize {
        let words_of_pair = match self.precision {
            Precision::F32 => 2,
            Precision::F16 => 1,
        };
        self.keys.start / 4 / words_of_pair + token * self.kv_heads * self.head_dim / 2
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
        self.copy_to(device, tokens, &fork.keys, &fork.values);
        fork
    }

    /// Copies the first tokens to other places.
    fn copy_to(&self, device: &Gpu, tokens: usize, keys: &GpuBuffer, values: &GpuBuffer) {
        let words = tokens * self.words();
        for (from, to) in [(&self.keys, keys), (&self.values, values)] {
            device.copy_words(from, to, words);
        }
    }

    /// Makes room for so many tokens, keeping those that are there.
    pub(super) fn reserve(&mut self, device: &Gpu, tokens: usize) {
        let room = self.room_for(tokens);
        if room == self.room {
            return;
        }
        self.ledger.caches.fetch_add(self.growth(tokens), Ordering::Relaxed);
        let words = room * self.words();
        let (keys, values, lease) = match device.shared.slabs.lease(device, words) {
            Some(lease) => {
                let [keys, values] = lease.buffers();
                (keys, values, Some(lease))
            }
            None => {
                if device.check_room("keys and values", 2 * 4 * words).is_err() {
                    device.run_out_of_memory(); // operators can't fail: it shows when a result is waited for
                }
                (device.numbers(words), device.numbers(words), None)
            }
        };
        self.copy_to(device, self.room, &keys, &values);
        (self.keys, self.values, self.room, self._lease) = (keys, values, room, lease);
    }
}

impl Gpu {
    /// Copies words from one buffer to another, which may be a part of the same allocation.
    fn copy_words(&self, from: &GpuBuffer, to: &GpuBuffer, words: usize) {
        if words == 0 {
            return;
        }
        debug_assert!(words <= from.len.min(to.len));
        if !Arc::ptr_eq(&from.allocation, &to.allocation) {
            let mut recorder = self.recorder();
            recorder.copy_at(Place { bytes: 4 * words, ..from.whole() }, &to.allocation.buffer, to.start);
            recorder.keep(&to.allocation);
            return;
        }
        // A buffer can't be copied to itself. Leases begin and end with whole vectors of four.
        let [first, position, count] = [from.start / 16, to.start / 16, words.div_ceil(4)].map(|n| n as u32);
        let step = Step { first, position, count, rows: 0 };
        self.call("move", &[], step, &[from.all()], [(count as usize).div_ceil(64).clamp(1, 4096), 1, 1]);
    }
}

/// Memory that the caches of many texts share, so that one run of a kernel reaches all of them.
#[derive(Default)]
pub(super) struct Slabs {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Words of the keys of a slab, and of the values; 0 where caches share nothing.
    words: usize,
    /// Held by their leases alone: a slab goes with the last of them.
    slabs: Vec<Weak<Slab>>,
}

struct Slab {
    keys: GpuBuffer,
    values: GpuBuffer,
    /// Words that nobody has, in order, none beside another.
    free: Mutex<Vec<Range<usize>>>,
}

/// Words of a slab, given back when dropped; what was recorded before runs before what the next one records.
struct Lease {
    slab: Arc<Slab>,
    words: Range<usize>,
}

impl Slabs {
    /// From now on caches share slabs of so many bytes.
    pub fn share(&self, bytes: usize) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).words = bytes / 2 / 4;
    }

    /// Those that are held.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.inner.lock().unwrap().slabs.iter().filter(|slab| slab.strong_count() > 0).count()
    }

    /// A place for so many words of keys and as many of values; nothing where caches don't share memory, or it has no room.
    fn lease(&self, device: &Gpu, words: usize) -> Option<Lease> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.words == 0 {
            return None;
        }
        let words = words.next_multiple_of(ALIGNMENT / 4);
        inner.slabs.retain(|slab| slab.strong_count() > 0);
        if let Some(lease) = inner.slabs.iter().find_map(|slab| slab.upgrade()?.lease(words)) {
            return Some(lease);
        }
        let size = inner.words.max(words);
        device.check_room("keys and values", 2 * 4 * size).ok()?; // one cache alone may still fit
        let (keys, values) = (device.numbers(size), device.numbers(size));
        let free = Mutex::new(std::iter::once(0..size).collect());
        let slab = Arc::new(Slab { keys, values, free });
        inner.slabs.push(Arc::downgrade(&slab));
        slab.lease(words)
    }
}

impl Slab {
    /// The first free place that is large enough.
    fn lease(self: &Arc<Self>, words: usize) -> Option<Lease> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let at = free.iter().position(|range| range.len() >= words)?;
        let first = free[at].start;
        free[at].start += words;
        if free[at].is_empty() {
            free.remove(at);
        }
        Some(Lease { slab: Arc::clone(self), words: first..first + words })
    }
}

impl Lease {
    /// The keys' part and that of the values.
    fn buffers(&self) -> [GpuBuffer; 2] {
        let part = |whole: &GpuBuffer| GpuBuffer {
            allocation: Arc::clone(&whole.allocation),
            start: whole.start + 4 * self.words.start,
            len: self.words.len(),
        };
        [part(&self.slab.keys), part(&self.slab.values)]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut free = self.slab.free.lock().unwrap_or_else(PoisonError::into_inner);
        let at = free.partition_point(|range| range.start < self.words.start);
        free.insert(at, self.words.clone());
        if free.get(at + 1).is_some_and(|next| next.start == free[at].end) {
            free[at].end = free.remove(at + 1).end;
        }
        if at > 0 && free[at - 1].end == free[at].start {
            free[at - 1].end = free.remove(at).end;
        }
    }
}
