// Keys and values of the first tokens in a cache as singles.
override KV_PAIRS: u32 = 1u;

@group(0) @binding(3) var<storage, read_write> k: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> v: array<vec2<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < KV_PAIRS; i += 64u) {
        let at = group.x * KV_PAIRS + i;
        k[at] = key(at);
        v[at] = value(at);
    }
}
