// Joins the splits of an attention, a workgroup a head of a token.
override HEADS: u32 = 1u;
override HEAD_DIM: u32 = 2u;

@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let of_head = group.y * HEADS + group.x;
    let width = HEAD_DIM + 2u;
    let start = of_head * step.count * width;
    var top = parts[start];
    for (var i = 1u; i < step.count; i++) {
        top = max(top, parts[start + i * width]);
    }
    var sum = 0.0;
    for (var i = 0u; i < step.count; i++) {
        sum += exp(parts[start + i * width] - top) * parts[start + i * width + 1u];
    }
    for (var d = lane; d < HEAD_DIM; d += 64u) {
        var value = 0.0;
        for (var i = 0u; i < step.count; i++) {
            value += exp(parts[start + i * width] - top) * parts[start + i * width + 2u + d];
        }
        out[of_head * HEAD_DIM + d] = value / sum;
    }
}
