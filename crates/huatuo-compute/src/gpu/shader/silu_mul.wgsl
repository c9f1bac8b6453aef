// gate = silu(gate) * up.
@group(0) @binding(1) var<storage, read_write> gate: array<f32>;
@group(0) @binding(2) var<storage, read_write> up: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = at.x; i < step.count; i += 64u * groups.x) {
        gate[i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
    }
}
