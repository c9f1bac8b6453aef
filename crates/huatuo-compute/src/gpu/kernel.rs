//! Kernels compiled for their shapes, each once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::buffer::Place;
use super::device::Shared;
use super::recorder::TABLE_BYTES;
use super::sources::{Choices, KERNELS, KernelSource};

/// What changes from call to call: `shader/step.wgsl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Step {
    pub rows: u32,
    pub position: u32,
    pub first: u32,
    pub count: u32,
}

/// One run of a kernel.
pub(super) struct Call<'a> {
    pub kernel: &'static str,
    pub choices: Choices,
    /// Values of the kernel's overrides.
    pub constants: &'a [(&'static str, f64)],
    pub step: Step,
    /// By binding, from 1 on, without that of the table.
    pub places: &'a [Place<'a>],
    /// What is bound anew for each call, where the kernel has a table.
    pub table: Table<'a>,
    pub grid: [u32; 3],
}

/// What a kernel's table is.
#[derive(Clone, Copy)]
pub(super) enum Table<'a> {
    /// Bytes that only this call reads.
    Bytes(&'a [u8]),
    /// Something on the device.
    Place(Place<'a>),
}

/// A kernel for one choice of files and one set of constants.
pub(super) struct Pipeline {
    pub id: usize,
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
    pub table: Option<u32>,
}

type Key = (&'static str, Choices, Vec<(&'static str, u64)>);

#[derive(Default)]
pub(super) struct Pipelines {
    made: Mutex<HashMap<Key, Arc<Pipeline>>>,
}

impl Pipelines {
    pub fn get(&self, shared: &Shared, call: &Call<'_>) -> Arc<Pipeline> {
        let constants = call.constants.iter().map(|(name, value)| (*name, value.to_bits())).collect();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let id = made.len();
        let entry = made.entry((call.kernel, call.choices, constants));
        entry.or_insert_with(|| Arc::new(compile(shared, call, id))).clone()
    }
}

fn compile(shared: &Shared, call: &Call<'_>, id: usize) -> Pipeline {
    let source = KERNELS.iter().find(|kernel| kernel.name == call.kernel);
    let source = source.unwrap_or_else(|| unreachable!("no kernel {}", call.kernel));
    let text = source.text(call.choices);
    let layout = layout(&shared.device, source, &text);
    let module = module(&shared.device, source.name, text);
    let pipeline_layout = shared.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(source.name),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let pipeline = shared.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(source.name),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: call.constants,
            // Kernels write what they read.
            zero_initialize_workgroup_memory: false,
        },
        cache: None,
    });
    Pipeline { id, pipeline, layout, table: source.table }
}

#[cfg(target_arch = "wasm32")]
fn module(device: &wgpu::Device, label: &str, text: String) -> wgpu::ShaderModule {
    // The browser wants to be told, and can't see that lanes of a quad always go the same way.
    let text = match text.contains("subgroupAdd") || text.contains("quadBroadcast") {
        true => format!("enable subgroups;\ndiagnostic(off, subgroup_uniformity);\n{text}"),
        false => text,
    };
    let source = wgpu::ShaderSource::Wgsl(text.into());
    device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(label), source })
}

#[cfg(not(target_arch = "wasm32"))]
fn module(device: &wgpu::Device, label: &str, text: String) -> wgpu::ShaderModule {
    let source = wgpu::ShaderSource::Wgsl(text.into());
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(label), source };
    // SAFETY: the kernels keep to their bindings, whose sizes `operators.rs` and `chooser.rs` see to; their loops end.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

/// The bindings that a shader declares, `@group(0) @binding(n) var<…>` at the beginning of a line each.
fn layout(device: &wgpu::Device, source: &KernelSource, text: &str) -> wgpu::BindGroupLayout {
    let declared = text.lines().filter_map(|line| line.strip_prefix("@group(0) @binding("));
    let mut entries: Vec<wgpu::BindGroupLayoutEntry> = declared
        .filter_map(|line| {
            let (number, rest) = line.split_once(')')?;
            let binding = number.parse().ok()?;
            let ty = if rest.starts_with(" var<uniform>") {
                wgpu::BufferBindingType::Uniform
            } else {
                wgpu::BufferBindingType::Storage { read_only: rest.starts_with(" var<storage, read>") }
            };
            let has_dynamic_offset = binding == 0 || source.table == Some(binding);
            let ty = wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None };
            Some(wgpu::BindGroupLayoutEntry { binding, visibility: wgpu::ShaderStages::COMPUTE, ty, count: None })
        })
        .collect();
    entries.sort_by_key(|entry| entry.binding);
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(source.name), entries: &entries })
}

/// The bind group of a call; offsets of step and table are given when it is set.
pub(super) fn bind_group(
    shared: &Shared,
    pipeline: &Pipeline,
    arena: &wgpu::Buffer,
    places: &[Place<'_>],
    table: Table<'_>,
) -> wgpu::BindGroup {
    let bind = |buffer, offset: usize, bytes: usize| {
        let size = std::num::NonZeroU64::new(bytes as u64);
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: offset as u64, size })
    };
    let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: bind(arena, 0, size_of::<Step>()) }];
    let mut places = places.iter();
    for binding in 1.. {
        if pipeline.table == Some(binding) {
            let resource = match table {
                Table::Bytes(_) => bind(arena, 0, TABLE_BYTES),
                Table::Place(place) => bind(&place.allocation.buffer, place.start, place.bytes),
            };
            entries.push(wgpu::BindGroupEntry { binding, resource });
            continue;
        }
        let Some(place) = places.next() else { break };
        let resource = bind(&place.allocation.buffer, place.start, place.bytes);
        entries.push(wgpu::BindGroupEntry { binding, resource });
    }
    let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
    shared.device.create_bind_group(&descriptor)
}
