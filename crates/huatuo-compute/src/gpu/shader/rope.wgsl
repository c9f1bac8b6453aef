// Rotary embedding in place, a lane a pair.
override HEADS: u32 = 1u;
override HEAD_DIM: u32 = 2u;
override PAIRS: u32 = 1u;
override NEIGHBOURS: bool = false;

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> turns: array<vec2<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = (group.y * HEADS + group.x) * HEAD_DIM;
    for (var pair = lane; pair < PAIRS; pair += 64u) {
        let turn = turns[group.y * PAIRS + pair];
        let a = head + select(pair, 2u * pair, NEIGHBOURS);
        let b = a + select(PAIRS, 1u, NEIGHBOURS);
        let numbers = vec2<f32>(x[a], x[b]);
        x[a] = numbers.x * turn.x - numbers.y * turn.y;
        x[b] = numbers.y * turn.x + numbers.x * turn.y;
    }
}
