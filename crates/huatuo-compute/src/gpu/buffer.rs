//! Memory of the device.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Where places in a buffer that are bound begin, in bytes: what every device allows.
pub(super) const ALIGNMENT: usize = 256;

/// One allocation. Bind groups that name it are forgotten when it goes.
pub(super) struct Allocation {
    pub id: u64,
    pub buffer: wgpu::Buffer,
    ledger: Arc<Ledger>,
}

/// What is allocated on a device.
#[derive(Default)]
pub(super) struct Ledger {
    /// Bytes.
    pub live: AtomicU64,
    /// Of these, bytes that caches of keys and values have room for.
    pub caches: AtomicUsize,
    /// Allocations that went since somebody looked.
    pub gone: Mutex<Vec<u64>>,
}

impl Allocation {
    pub fn new(id: u64, buffer: wgpu::Buffer, ledger: Arc<Ledger>) -> Arc<Self> {
        ledger.live.fetch_add(buffer.size(), Ordering::Relaxed);
        Arc::new(Self { id, buffer, ledger })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.buffer.destroy(); // at once: a page's collector would take its time
        self.ledger.live.fetch_sub(self.buffer.size(), Ordering::Relaxed);
        if let Ok(mut gone) = self.ledger.gone.lock() {
            gone.push(self.id);
        }
    }
}

/// Activations or a weight vector on the device: a part of an allocation.
#[derive(Clone)]
pub struct GpuBuffer {
    pub(super) allocation: Arc<Allocation>,
    /// Bytes before it.
    pub(super) start: usize,
    /// Numbers that it holds.
    pub(super) len: usize,
}

impl GpuBuffer {
    /// What a kernel is bound to.
    pub(super) fn whole(&self) -> Place<'_> {
        Place { allocation: &self.allocation, start: self.start, bytes: binding_bytes(4 * self.len) }
    }

    /// The whole allocation that it is a part of.
    pub(super) fn all(&self) -> Place<'_> {
        Place { allocation: &self.allocation, start: 0, bytes: self.allocation.buffer.size() as usize }
    }
}

/// A part of an allocation that a kernel is bound to.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub allocation: &'a Arc<Allocation>,
    pub start: usize,
    pub bytes: usize,
}

/// Bytes of a binding: never none, and whole vectors of four.
pub(super) fn binding_bytes(bytes: usize) -> usize {
    bytes.next_multiple_of(16).max(16)
}
