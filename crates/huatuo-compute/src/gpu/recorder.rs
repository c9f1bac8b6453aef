//! Calls of kernels that wait to be submitted together.

use std::collections::HashMap;
use std::sync::Arc;

use super::buffer::{ALIGNMENT, Allocation, Place};
use super::device::Shared;
use super::kernel::{Call, Pipeline, Step, Table, bind_group};
use super::profile::Profile;

/// Most bytes of a call's table: what 256 tokens of the longest heads turn by takes half of it.
pub(super) const TABLE_BYTES: usize = 1 << 19;
/// Bytes of steps and tables that wait at most.
const ARENA_BYTES: usize = 1 << 21;

/// Bind groups that are kept at most.
const MOST_GROUPS: usize = 1 << 13;

/// What was submitted since the device was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs of kernels.
    pub dispatches: u64,
    /// Command buffers.
    pub submits: u64,
    /// Bytes that were read back.
    pub bytes_read: u64,
}

enum Operation {
    Run { pipeline: Arc<Pipeline>, group: Arc<wgpu::BindGroup>, offsets: Vec<u32>, grid: [u32; 3], name: &'static str },
    Copy { from: wgpu::Buffer, start: u64, to: wgpu::Buffer, at: u64, bytes: u64 },
}

/// Pipeline, then allocation, start and bytes of each place.
type GroupKey = (usize, Vec<(u64, usize, usize)>);

pub(super) struct Recorder {
    operations: Vec<Operation>,
    /// Steps and tables of the calls that wait, as they will lie in `arena`.
    waiting: Vec<u8>,
    steps: Vec<(Step, u32)>,
    /// Tables of the calls that wait, which others may share: those of all layers are alike where one text is read.
    tables: Vec<(Vec<u8>, u32)>,
    arena: wgpu::Buffer,
    /// What must not go before the calls that wait are submitted.
    kept: Vec<Arc<Allocation>>,
    groups: HashMap<GroupKey, Arc<wgpu::BindGroup>>,
    pub counts: Counts,
    /// Where kernels are timed.
    pub profile: Option<Profile>,
}

impl Recorder {
    pub fn new(device: &wgpu::Device) -> Self {
        use wgpu::BufferUsages;
        let arena = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("steps and tables"),
            size: (ARENA_BYTES + TABLE_BYTES) as u64,
            usage: BufferUsages::UNIFORM | BufferUsages::STORAGE | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self {
            operations: Vec::new(),
            waiting: Vec::new(),
            steps: Vec::new(),
            tables: Vec::new(),
            arena,
            kept: Vec::new(),
            groups: HashMap::new(),
            counts: Counts::default(),
            profile: None,
        }
    }

    /// Forgets bind groups of allocations that are gone.
    pub fn forget(&mut self, gone: &mut Vec<u64>) {
        if !gone.is_empty() {
            self.groups.retain(|(_, places), _| !places.iter().any(|(id, ..)| gone.contains(id)));
            gone.clear();
        }
    }

    pub fn push(&mut self, shared: &Shared, call: &Call<'_>) {
        let table_bytes = match call.table {
            Table::Bytes(bytes) => bytes.len(),
            Table::Place(_) => 0,
        };
        assert!(table_bytes <= TABLE_BYTES, "a table of {table_bytes} bytes");
        if self.waiting.len() + 2 * ALIGNMENT + table_bytes > ARENA_BYTES {
            self.submit(shared);
        }
        let pipeline = shared.pipelines.get(shared, call);
        let mut offsets = vec![self.step(call.step)];
        let mut places: Vec<Place<'_>> = call.places.to_vec();
        match call.table {
            Table::Bytes(bytes) if pipeline.table.is_some() => offsets.push(self.table(bytes)),
            Table::Bytes(_) => {}
            Table::Place(place) => {
                places.push(place);
                offsets.push(0);
            }
        }
        // Places in what caches share come and go, while the allocation stays.
        if self.groups.len() > MOST_GROUPS {
            self.groups.clear();
        }
        let key = (pipeline.id, places.iter().map(|p| (p.allocation.id, p.start, p.bytes)).collect());
        let arena = &self.arena;
        let group = self.groups.entry(key);
        let group =
            group.or_insert_with(|| Arc::new(bind_group(shared, &pipeline, arena, call.places, call.table))).clone();
        self.kept.extend(places.iter().map(|place| place.allocation.clone()));
        self.operations.push(Operation::Run { pipeline, group, offsets, grid: call.grid, name: call.kernel });
    }

    fn step(&mut self, step: Step) -> u32 {
        if let Some((_, at)) = self.steps.iter().rev().find(|(known, _)| *known == step) {
            return *at;
        }
        let at = self.append(bytemuck::bytes_of(&step));
        self.steps.push((step, at));
        at
    }

    fn table(&mut self, bytes: &[u8]) -> u32 {
        if let Some((_, at)) = self.tables.iter().rev().find(|(known, _)| known == bytes) {
            return *at;
        }
        let at = self.append(bytes);
        self.tables.push((bytes.to_vec(), at));
        at
    }

    fn append(&mut self, bytes: &[u8]) -> u32 {
        let at = self.waiting.len();
        self.waiting.extend_from_slice(bytes);
        self.waiting.resize(self.waiting.len().next_multiple_of(ALIGNMENT), 0);
        at as u32
    }

    /// Copies bytes to a buffer that is made for reading.
    pub fn copy(&mut self, place: Place<'_>, to: &wgpu::Buffer) {
        self.counts.bytes_read += place.bytes as u64;
        self.copy_at(place, to, 0);
    }

    /// Keeps an allocation until what waits is submitted.
    pub fn keep(&mut self, allocation: &Arc<Allocation>) {
        self.kept.push(allocation.clone());
    }

    /// Copies bytes from one place on the device to another.
    pub fn copy_at(&mut self, place: Place<'_>, to: &wgpu::Buffer, at: usize) {
        self.kept.push(place.allocation.clone());
        self.operations.push(Operation::Copy {
            from: place.allocation.buffer.clone(),
            start: place.start as u64,
            to: to.clone(),
            at: at as u64,
            bytes: place.bytes as u64,
        });
    }

    pub fn submit(&mut self, shared: &Shared) {
        if self.operations.is_empty() {
            return;
        }
        if !self.waiting.is_empty() {
            shared.queue.write_buffer(&self.arena, 0, &self.waiting);
        }
        let mut encoder = shared.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut operations = self.operations.drain(..).peekable();
        while let Some(operation) = operations.next() {
            match operation {
                Operation::Copy { from, start, to, at, bytes } => {
                    encoder.copy_buffer_to_buffer(&from, start, &to, at, bytes);
                }
                first @ Operation::Run { .. } => {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                    if let Some(profile) = &self.profile {
                        profile.begin(&mut pass);
                    }
                    let mut next = Some(first);
                    while let Some(Operation::Run { pipeline, group, offsets, grid, name }) = next {
                        pass.set_pipeline(&pipeline.pipeline);
                        pass.set_bind_group(0, &*group, &offsets);
                        pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
                        self.counts.dispatches += 1;
                        if let Some(profile) = &mut self.profile {
                            profile.ran(&mut pass, name);
                        }
                        next = operations.next_if(|operation| matches!(operation, Operation::Run { .. }));
                    }
                }
            }
        }
        drop(operations);
        if let Some(profile) = &self.profile {
            profile.resolve(&mut encoder);
        }
        shared.queue.submit([encoder.finish()]);
        if let Some(profile) = &mut self.profile {
            profile.collect(shared);
        }
        self.counts.submits += 1;
        self.waiting.clear();
        self.kept.clear();
        self.steps.clear();
        self.tables.clear();
    }
}
