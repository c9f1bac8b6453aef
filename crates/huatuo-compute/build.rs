//! Validates every kernel in every combination of the files it may be put together from.

use naga::valid::{Capabilities, ValidationFlags, Validator};

#[allow(dead_code)] // the crate uses the rest
#[path = "src/gpu/sources.rs"]
mod sources;

use sources::{ACTIVATIONS, CACHES, Choices, KERNELS, KernelSource, NUMBERS, Part, ROWS, SUMS, WEIGHTS, bytes_of};

fn main() {
    println!("cargo::rerun-if-changed=src/gpu/sources.rs");
    println!("cargo::rerun-if-changed=src/gpu/shader");
    let mut failures = Vec::new();
    for kernel in &KERNELS {
        for choices in combinations(kernel) {
            if let Err(error) = validate(&kernel.text(choices)) {
                failures.push(format!("{} with {choices:?}:\n{error}", kernel.name));
            }
        }
    }
    if !failures.is_empty() {
        panic!("{} shaders are not valid:\n{}", failures.len(), failures.join("\n"));
    }
}

/// The choices that make a difference to a kernel.
fn combinations(kernel: &KernelSource) -> Vec<Choices> {
    let of = |part: Part, all: usize| if kernel.parts.contains(&part) { all } else { 1 };
    let caches = of(Part::Cache, CACHES.len()).max(of(Part::CacheWrite, CACHES.len()));
    let caches = caches.max(of(Part::CacheEights, CACHES.len()));
    let (activations, rows) = (of(Part::Activations, ACTIVATIONS.len()), of(Part::Rows, ROWS.len()));
    let mut choices = Vec::new();
    let as_bytes = kernel.parts.contains(&Part::Bytes);
    let weights = WEIGHTS.iter().filter(|weights| !as_bytes || bytes_of(weights).is_some());
    for weights in weights.take(of(Part::Weights, WEIGHTS.len())) {
        let reads = |activations: &&&str| match kernel.name {
            // A lane makes bytes of whole quads, and quads are read together only from whole blocks.
            "matvec_bytes" => matches!(**activations, "x_plain" | "x_normed"),
            _ => true,
        };
        for activations in ACTIVATIONS.iter().take(activations).filter(reads) {
            for rows in ROWS.iter().take(rows) {
                for sum in SUMS.iter().take(of(Part::Sum, SUMS.len())) {
                    for numbers in NUMBERS.iter().take(of(Part::Numbers, NUMBERS.len())) {
                        let choice = |cache| Choices { weights, activations, numbers, rows, sum, cache };
                        choices.extend((0..caches).map(choice));
                    }
                }
            }
        }
    }
    choices
}

fn validate(text: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    let mut validator = Validator::new(
        ValidationFlags::all(),
        Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32 | Capabilities::SHADER_FLOAT16,
    );
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
    validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    validator.validate(&module).map_err(|error| error.emit_to_string(text)).map(drop)
}
