// out from quad `position` on = x from quad `first` on, `count` quads.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = at.x; i < step.count; i += 64u * groups.x) {
        out[step.position + i] = x[step.first + i];
    }
}
