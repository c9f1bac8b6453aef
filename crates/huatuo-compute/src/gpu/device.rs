//! The device itself: adapter, limits, memory, and the calls of kernels that wait to be submitted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;

use super::buffer::{Allocation, GpuBuffer, Ledger, Place, binding_bytes};
use super::cache::Slabs;
use super::kernel::{Call, Pipelines};
use super::profile::{KernelTime, Profile};
use super::recorder::{Counts, Recorder};
use super::tuning::Tuning;
use super::turns::Turns;
use crate::ComputeError;

/// What a device is asked for.
#[derive(Clone, Debug)]
pub struct GpuOptions {
    /// Part of an adapter's name, lower case, where there are several.
    pub adapter: Option<String>,
    /// Whether subgroups are used where the device has them.
    pub subgroups: bool,
    /// Most bytes that may be allocated when weights are brought; `None` leaves it to the driver.
    pub budget: Option<u64>,
    /// Whether kernels are timed, one submission after the other.
    pub profile: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self { adapter: None, subgroups: true, budget: None, profile: false }
    }
}

/// A graphics processor.
#[derive(Clone)]
pub struct Gpu {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    limits: wgpu::Limits,
    tuning: Mutex<Tuning>,
    /// Which of [`super::sources::SUMS`] is used.
    pub sum: &'static str,
    /// Whether kernels may multiply bytes, `dot4I8Packed`.
    pub has_bytes: bool,
    /// Whether kernels may compute in half precision.
    pub has_halves: bool,
    lost: Arc<AtomicBool>,
    /// Whether it was lost because its memory ran out.
    ran_out: Arc<AtomicBool>,
    next_id: AtomicU64,
    budget: Option<u64>,
    ledger: Arc<Ledger>,
    pub pipelines: Pipelines,
    recorder: Mutex<Recorder>,
    /// What kernels are bound to where they need nothing.
    nothing: GpuBuffer,
    /// Splits of attentions that wait to be joined.
    pub parts: Mutex<Option<GpuBuffer>>,
    /// Activations as bytes, and their factors, of the product that is noted.
    pub bytes: Mutex<Option<[GpuBuffer; 2]>>,
    /// Memory of caches that share it.
    pub slabs: Slabs,
    /// What the rows of the step at hand turn by.
    pub turns: Mutex<Turns>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({})", self.name())
    }
}

impl Gpu {
    /// Takes the fastest adapter there is, or the one asked for.
    pub async fn request(options: &GpuOptions) -> Result<Self, ComputeError> {
        Self::request_tuned(options, None).await
    }

    /// The same, with another layout of kernels than the adapter's.
    pub(super) async fn request_tuned(options: &GpuOptions, tuning: Option<Tuning>) -> Result<Self, ComputeError> {
        let (adapter, instance) = adapter(options).await?;
        let info = adapter.get_info();
        let offered = adapter.limits();
        let limits = wgpu::Limits {
            max_buffer_size: offered.max_buffer_size,
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_storage_buffers_per_shader_stage: offered.max_storage_buffers_per_shader_stage,
            max_compute_workgroup_storage_size: offered.max_compute_workgroup_storage_size,
            max_compute_invocations_per_workgroup: offered.max_compute_invocations_per_workgroup,
            max_compute_workgroup_size_x: offered.max_compute_workgroup_size_x,
            ..wgpu::Limits::default()
        };
        let mut features = adapter.features() & (wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16);
        if !options.subgroups {
            features.remove(wgpu::Features::SUBGROUP);
        }
        if options.profile {
            features |= adapter.features() & Profile::FEATURES;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("huatuo"),
            required_features: features,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|error| unavailable(&error))?;
        drop(instance);
        let lost = Arc::new(AtomicBool::new(false));
        let flag = lost.clone();
        device.set_device_lost_callback(move |_, _| flag.store(true, Ordering::Relaxed));
        let (flag, ran_out) = (lost.clone(), Arc::new(AtomicBool::new(false)));
        let has_run_out = ran_out.clone();
        // Out of memory, or a call that the device refuses: nothing computed after it can be trusted.
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            report(&error);
            has_run_out.fetch_or(matches!(error, wgpu::Error::OutOfMemory { .. }), Ordering::Relaxed);
            flag.store(true, Ordering::Relaxed);
        }));
        let subgroups = options.subgroups && has_subgroups(&device);
        let tuning = tuning.unwrap_or_else(|| Tuning::of(&info, subgroups));
        let has_halves = device.features().contains(wgpu::Features::SHADER_F16);
        let ledger = Arc::new(Ledger::default());
        let nothing = {
            let buffer = device.create_buffer(&storage(binding_bytes(0) as u64));
            GpuBuffer { allocation: Allocation::new(0, buffer, ledger.clone()), start: 0, len: 4 }
        };
        let mut recorder = Recorder::new(&device);
        recorder.profile = options.profile.then(|| Profile::new(&device)).flatten();
        let recorder = Mutex::new(recorder);
        let shared = Shared {
            device,
            queue,
            tuning: Mutex::new(tuning),
            info,
            limits,
            sum: super::sources::SUMS[usize::from(subgroups)],
            has_bytes: has_bytes(),
            has_halves,
            lost,
            ran_out,
            next_id: AtomicU64::new(1),
            budget: options.budget,
            ledger,
            pipelines: Pipelines::default(),
            recorder,
            nothing,
            parts: Mutex::new(None),
            bytes: Mutex::new(None),
            slabs: Slabs::default(),
            turns: Mutex::new(Turns::default()),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The adapter, for people.
    pub fn name(&self) -> String {
        let info = &self.shared.info;
        let subgroups = if self.has_subgroups() { "subgroups" } else { "no subgroups" };
        let name = if info.name.is_empty() { "WebGPU" } else { &info.name };
        format!("{name}, {subgroups}")
    }

    /// Whether kernels sum up within subgroups.
    pub fn has_subgroups(&self) -> bool {
        self.shared.sum == "sum_subgroup"
    }

    /// What is allocated.
    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.shared.ledger
    }

    /// Whether the device is gone, or refused a call; nothing computed since can be trusted.
    pub fn is_lost(&self) -> bool {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Loses the device, for tests of what happens then.
    pub fn lose(&self) {
        self.shared.device.destroy();
        self.shared.lost.store(true, Ordering::Relaxed);
    }

    /// Whether it was lost because its memory ran out: another device of the same kind would not help.
    pub fn ran_out_of_memory(&self) -> bool {
        self.shared.ran_out.load(Ordering::Relaxed)
    }

    /// Gives the device up when something has no room any more.
    pub(super) fn run_out_of_memory(&self) {
        self.shared.ran_out.store(true, Ordering::Relaxed);
        self.lose();
    }

    /// Times of kernels since this was asked last; nothing where the device isn't profiled.
    pub fn kernel_times(&self) -> BTreeMap<&'static str, KernelTime> {
        self.recorder().profile.as_mut().map(Profile::take).unwrap_or_default()
    }

    /// What was submitted so far.
    pub fn counts(&self) -> Counts {
        self.recorder().counts
    }

    /// How products are computed.
    pub fn tuning(&self) -> Tuning {
        *self.shared.tuning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what [`Device::tune`](crate::Device::tune) found at an earlier start on the same adapter: [`Self::tuning`] as text.
    pub fn take_tuning(&self, kept: &str) {
        let has = |way| self.has_way(way);
        let mut tuning = self.tuning();
        tuning.take(kept, has);
        self.change(|own| *own = tuning);
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Tuning)) {
        change(&mut self.shared.tuning.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Most lanes of a product's workgroup.
    pub(super) fn most_lanes(&self) -> usize {
        const LANE_BYTES: u32 = 20; // of sums; the other half of shared memory is left for activations as bytes
        self.largest_workgroup().min(self.shared.limits.max_compute_workgroup_storage_size / 2 / LANE_BYTES) as usize
    }

    /// Lanes that a workgroup may have.
    pub(super) fn largest_workgroup(&self) -> u32 {
        let limits = &self.shared.limits;
        limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x)
    }

    /// Most lanes of the workgroup of a product for some tokens.
    pub(super) fn most_few_lanes(&self) -> usize {
        const LANE_BYTES: u32 = 64; // four tokens' sums
        self.most_lanes().min((self.shared.limits.max_compute_workgroup_storage_size / LANE_BYTES) as usize)
    }

    /// Blocks of activations, of 48 bytes each, that a product's workgroup makes bytes at once in shared memory.
    pub(super) fn blocks_at_once(&self) -> usize {
        if self.shared.limits.max_compute_workgroup_storage_size >= 32 << 10 { 256 } else { 128 }
    }

    /// Most bytes of a binding and of an allocation.
    pub(super) fn largest_binding(&self) -> usize {
        let limits = &self.shared.limits;
        (limits.max_storage_buffer_binding_size).min(limits.max_buffer_size).try_into().unwrap_or(usize::MAX)
    }

    /// Bytes that are still free of the budget; nothing where there is none.
    pub fn room(&self) -> Option<u64> {
        Some(self.shared.budget?.saturating_sub(self.shared.ledger.live.load(Ordering::Relaxed)))
    }

    /// Refuses what doesn't fit into the budget.
    pub(super) fn check_room(&self, name: &str, bytes: usize) -> Result<(), ComputeError> {
        match self.room() {
            Some(room) if room < bytes as u64 => Err(ComputeError::NoMemory { name: name.to_owned(), bytes }),
            _ => Ok(()),
        }
    }

    pub(super) fn allocate(&self, bytes: usize) -> Arc<Allocation> {
        let buffer = self.shared.device.create_buffer(&storage(bytes as u64));
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        Allocation::new(id, buffer, self.shared.ledger.clone())
    }

    pub(super) fn numbers(&self, len: usize) -> GpuBuffer {
        GpuBuffer { allocation: self.allocate(binding_bytes(4 * len)), start: 0, len }
    }

    pub(super) fn write(&self, allocation: &Allocation, start: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.shared.queue.write_buffer(&allocation.buffer, start as u64, bytes);
        }
    }

    pub(super) fn nothing(&self) -> Place<'_> {
        self.shared.nothing.whole()
    }

    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.shared.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call of a kernel.
    pub(super) fn record(&self, call: &Call<'_>) {
        let mut recorder = self.recorder();
        if let Ok(mut gone) = self.shared.ledger.gone.lock() {
            recorder.forget(&mut gone);
        }
        recorder.push(&self.shared, call);
    }

    /// Submits what was noted.
    pub fn submit(&self) {
        self.recorder().submit(&self.shared);
    }

    /// Waits until all that was noted has run.
    pub(super) async fn settle(&self) -> Result<(), ComputeError> {
        self.submit();
        let (done, is_done) = oneshot::channel();
        self.shared.queue.on_submitted_work_done(move || _ = done.send(true));
        match wait(&self.shared.device, is_done).await && !self.is_lost() {
            true => Ok(()),
            false => Err(ComputeError::DeviceLost),
        }
    }

    /// Bytes a second that the device copies, read and written: what a decoder's speed is measured against.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn copy_bandwidth(&self) -> Result<f64, ComputeError> {
        const MOST_BYTES: usize = 256 << 20;
        const COPIES: usize = 8;
        // Devices that rest take a while to get up to speed.
        const LONGEST: std::time::Duration = std::time::Duration::from_millis(500);
        let numbers = self.largest_binding().min(MOST_BYTES) / 4;
        let [from, to] = [self.numbers(numbers), self.numbers(numbers)];
        let (mut best, begun) = (0.0f64, std::time::Instant::now());
        for round in 0.. {
            self.settle().await?;
            let started = std::time::Instant::now();
            for _ in 0..COPIES {
                match round % 2 {
                    0 => self.recorder().copy_at(from.whole(), &to.allocation.buffer, 0),
                    _ => self.pointwise("copy_rows", 0, numbers / 4, &[from.whole(), to.whole()]),
                }
            }
            self.settle().await?;
            best = best.max((2 * 4 * numbers * COPIES) as f64 / started.elapsed().as_secs_f64());
            if round >= 3 && begun.elapsed() > LONGEST {
                break;
            }
        }
        Ok(best)
    }

    /// Bytes of a place, once all that was noted has run.
    pub(super) async fn fetch(&self, place: Place<'_>) -> Result<Vec<u8>, ComputeError> {
        let staging = self.staging(place.bytes);
        {
            let mut recorder = self.recorder();
            recorder.copy(place, &staging);
            recorder.submit(&self.shared);
        }
        let is_mapped = map(&staging);
        self.mapped(&staging, is_mapped).await
    }

    /// Submits what was noted and then reads a word, which [`Self::word`] waits for.
    pub(super) fn read_word(&self, place: Place<'_>) -> (wgpu::Buffer, oneshot::Receiver<bool>) {
        let place = Place { bytes: 4, ..place };
        let staging = self.staging(4);
        {
            let mut recorder = self.recorder();
            recorder.copy(place, &staging);
            recorder.submit(&self.shared);
        }
        let is_mapped = map(&staging);
        (staging, is_mapped)
    }

    /// A word that was read.
    pub(super) async fn word(
        &self,
        staging: wgpu::Buffer,
        is_mapped: oneshot::Receiver<bool>,
    ) -> Result<u32, ComputeError> {
        let bytes = self.mapped(&staging, is_mapped).await?;
        Ok(bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word)))
    }

    fn staging(&self, bytes: usize) -> wgpu::Buffer {
        self.shared.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes as u64,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// Bytes of a buffer that was made for reading.
    async fn mapped(
        &self,
        staging: &wgpu::Buffer,
        is_mapped: oneshot::Receiver<bool>,
    ) -> Result<Vec<u8>, ComputeError> {
        if !wait(&self.shared.device, is_mapped).await || self.is_lost() {
            self.shared.lost.store(true, Ordering::Relaxed);
            return Err(ComputeError::DeviceLost);
        }
        let bytes = staging.get_mapped_range(..).map_err(|_| ComputeError::DeviceLost)?.to_vec();
        staging.destroy();
        Ok(bytes)
    }
}

fn storage(size: u64) -> wgpu::BufferDescriptor<'static> {
    use wgpu::BufferUsages;
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false }
}

fn unavailable(error: &impl fmt::Display) -> ComputeError {
    ComputeError::NoDevice { reason: error.to_string() }
}

#[cfg(target_arch = "wasm32")]
async fn adapter(_: &GpuOptions) -> Result<(wgpu::Adapter, wgpu::Instance), ComputeError> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..wgpu::RequestAdapterOptions::default()
    };
    let adapter = instance.request_adapter(&options).await.map_err(|error| unavailable(&error))?;
    Ok((adapter, instance))
}

#[cfg(not(target_arch = "wasm32"))]
async fn adapter(options: &GpuOptions) -> Result<(wgpu::Adapter, wgpu::Instance), ComputeError> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    // Real ones before those that compute on the processor.
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => 2,
        wgpu::DeviceType::Cpu => 3,
    });
    let wanted = |adapter: &wgpu::Adapter| {
        options.adapter.as_ref().is_none_or(|part| adapter.get_info().name.to_lowercase().contains(part.as_str()))
    };
    let found = adapters.into_iter().find(wanted);
    let adapter = found.ok_or_else(|| unavailable(&"no adapter of Vulkan or Metal was found"))?;
    Ok((adapter, instance))
}

#[cfg(target_arch = "wasm32")]
fn has_subgroups(_: &wgpu::Device) -> bool {
    is_told("huatuoSubgroups")
}

/// wgpu's table of features lacks the browser's, so the page asks for them and leaves word here.
#[cfg(target_arch = "wasm32")]
fn is_told(name: &str) -> bool {
    js_sys::Reflect::get(&js_sys::global(), &name.into()).is_ok_and(|found| found.is_truthy())
}

#[cfg(target_arch = "wasm32")]
fn has_bytes() -> bool {
    is_told("huatuoPackedProducts")
}

#[cfg(not(target_arch = "wasm32"))]
fn has_bytes() -> bool {
    true // where the driver has no such instruction, the kernel is translated into others
}

#[cfg(not(target_arch = "wasm32"))]
fn has_subgroups(device: &wgpu::Device) -> bool {
    device.features().contains(wgpu::Features::SUBGROUP)
}

/// Begins to map a buffer; the channel tells whether it could be.
fn map(staging: &wgpu::Buffer) -> oneshot::Receiver<bool> {
    let (done, is_mapped) = oneshot::channel();
    staging.map_async(wgpu::MapMode::Read, .., move |result| _ = done.send(result.is_ok()));
    is_mapped
}

/// What was called back with, false where nothing was; the browser calls back by itself.
#[cfg(target_arch = "wasm32")]
async fn wait(_: &wgpu::Device, called: oneshot::Receiver<bool>) -> bool {
    called.await.unwrap_or(false)
}

/// What was called back with, false where nothing was; blocks until then, but not for what was submitted later.
#[cfg(not(target_arch = "wasm32"))]
async fn wait(device: &wgpu::Device, mut called: oneshot::Receiver<bool>) -> bool {
    const SLICE: std::time::Duration = std::time::Duration::from_micros(50);
    loop {
        match called.try_recv() {
            Ok(Some(is_fine)) => return is_fine,
            Ok(None) if device.poll(wgpu::PollType::Poll).is_ok() => std::thread::sleep(SLICE),
            _ => return false,
        }
    }
}

#[cfg(target_arch = "wasm32")]
fn report(_: &wgpu::Error) {} // the browser writes it to its console

#[cfg(not(target_arch = "wasm32"))]
fn report(error: &wgpu::Error) {
    eprintln!("the graphics processor refused a call: {error}");
}
