// Joins the splits of an attention, 64 at most, a workgroup a head of a token.
override HEADS: u32 = 1u;
override HEAD_DIM: u32 = 2u;
const LANES: u32 = 64u;

@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

var<workgroup> tops: array<f32, LANES>;
var<workgroup> weights: array<f32, LANES>;
var<workgroup> sums: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let of_head = group.y * HEADS + group.x;
    let width = HEAD_DIM + 2u;
    let start = of_head * step.count * width;
    let own = start + min(lane, step.count - 1u) * width;
    let own_top = parts[own];
    let own_sum = parts[own + 1u];
    tops[lane] = own_top;
    workgroupBarrier();
    var top = own_top;
    for (var i = 0u; i < step.count; i++) {
        top = max(top, tops[i]);
    }
    let weight = exp(own_top - top);
    weights[lane] = weight;
    sums[lane] = weight * own_sum;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < step.count; i++) {
        sum += sums[i];
    }
    for (var d = lane; d < HEAD_DIM; d += LANES) {
        var value = 0.0;
        for (var i = 0u; i < step.count; i++) {
            value += weights[i] * parts[start + i * width + 2u + d];
        }
        out[of_head * HEAD_DIM + d] = value / sum;
    }
}
