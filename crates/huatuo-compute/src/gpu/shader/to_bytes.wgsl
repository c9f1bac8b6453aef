// Activations as bytes, a lane a block of 32: once for all the workgroups that multiply them.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> x_bytes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> x_factors: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = at.x; i < step.count; i += 64u * groups.x) {
        let quad = 8u * i;
        let block = packed(x[quad], x[quad + 1u], x[quad + 2u], x[quad + 3u],
            x[quad + 4u], x[quad + 5u], x[quad + 6u], x[quad + 7u]);
        x_bytes[2u * i] = block.low;
        x_bytes[2u * i + 1u] = block.high;
        x_factors[i] = block.factors;
    }
}
