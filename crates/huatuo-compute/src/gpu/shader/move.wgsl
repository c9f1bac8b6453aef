// Vectors of a buffer to another part of it, `step.count` from `step.first` on to `step.position`; the parts have nothing in
// common.
@group(0) @binding(1) var<storage, read_write> words: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = id.x; i < step.count; i += groups.x * 64u) {
        words[step.position + i] = words[step.first + i];
    }
}
