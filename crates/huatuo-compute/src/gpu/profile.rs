//! How long each kernel takes, by the device's own clock.

use std::collections::BTreeMap;

use super::device::Shared;

/// Kernels of one submission at most; what is beyond isn't timed.
const MOST_KERNELS: u32 = 2048;

/// Runs of a kernel, and the seconds that they took.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelTime {
    /// How often it ran.
    pub runs: u64,
    /// In sum, until the next kernel could begin.
    pub seconds: f64,
}

/// The clock's readings: one at the beginning of each submission, one behind each kernel.
pub(super) struct Profile {
    readings: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    names: Vec<&'static str>,
    times: BTreeMap<&'static str, KernelTime>,
}

impl Profile {
    pub const FEATURES: wgpu::Features =
        wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);

    /// `None` where the device has no clock that kernels may be timed with.
    pub fn new(device: &wgpu::Device) -> Option<Self> {
        use wgpu::BufferUsages;
        if !device.features().contains(Self::FEATURES) {
            return None;
        }
        let buffer = |usage| {
            let size = 8 * u64::from(MOST_KERNELS + 1);
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        Some(Self {
            readings: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: MOST_KERNELS + 1,
            }),
            resolved: buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC),
            staging: buffer(BufferUsages::MAP_READ | BufferUsages::COPY_DST),
            names: Vec::new(),
            times: BTreeMap::new(),
        })
    }

    /// Reads the clock behind a kernel, and before the first one.
    pub fn begin(&self, pass: &mut wgpu::ComputePass<'_>) {
        if self.names.is_empty() {
            pass.write_timestamp(&self.readings, 0);
        }
    }

    pub fn ran(&mut self, pass: &mut wgpu::ComputePass<'_>, name: &'static str) {
        if (self.names.len() as u32) < MOST_KERNELS {
            self.names.push(name);
            pass.write_timestamp(&self.readings, self.names.len() as u32);
        }
    }

    pub fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        if !self.names.is_empty() {
            let count = self.names.len() as u32 + 1;
            encoder.resolve_query_set(&self.readings, 0..count, &self.resolved, 0);
            encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, 8 * u64::from(count));
        }
    }

    /// Waits for what was submitted, and adds it up.
    pub fn collect(&mut self, shared: &Shared) {
        if self.names.is_empty() {
            return;
        }
        let end = 8 * (self.names.len() as u64 + 1);
        self.staging.map_async(wgpu::MapMode::Read, 0..end, |_| ());
        let waited = shared.device.poll(wgpu::PollType::wait_indefinitely());
        if let (Ok(_), Ok(range)) = (waited, self.staging.get_mapped_range(0..end)) {
            let ticks: Vec<u64> =
                range.chunks_exact(8).map(|b| b.iter().rev().fold(0, |t, b| t << 8 | u64::from(*b))).collect();
            let period = f64::from(shared.queue.get_timestamp_period()) * 1e-9;
            for (name, pair) in self.names.drain(..).zip(ticks.windows(2)) {
                let time = self.times.entry(name).or_default();
                time.runs += 1;
                time.seconds += pair[1].saturating_sub(pair[0]) as f64 * period;
            }
        }
        self.names.clear();
        self.staging.unmap();
    }

    pub fn take(&mut self) -> BTreeMap<&'static str, KernelTime> {
        std::mem::take(&mut self.times)
    }
}
