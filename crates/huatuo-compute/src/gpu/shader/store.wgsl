// Keys and values of some tokens behind those in the cache, a workgroup a token.
override KV_PAIRS: u32 = 1u;

@group(0) @binding(3) var<storage, read> k: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> v: array<vec2<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < KV_PAIRS; i += 64u) {
        let source = group.x * KV_PAIRS + i;
        let to = (step.position + group.x) * KV_PAIRS + i;
        write_key(to, k[source]);
        write_value(to, v[source]);
    }
}
