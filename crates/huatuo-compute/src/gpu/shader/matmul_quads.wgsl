// Many tokens times a matrix, for prefill, on devices whose lanes can hand each other numbers: out = x · weightsᵀ + bias.
//
// A lane owns a row of each of four groups of 32, and 8 tokens. It takes weights out of their words itself, once for its
// tokens, and shares the reading of activations with its neighbours; nothing passes through shared memory.

// Half a block of four rows: a column each, and what it is scaled with.
struct Columns {
    c0: vec4<f32>,
    c1: vec4<f32>,
    c2: vec4<f32>,
    c3: vec4<f32>,
    c4: vec4<f32>,
    c5: vec4<f32>,
    c6: vec4<f32>,
    c7: vec4<f32>,
    c8: vec4<f32>,
    c9: vec4<f32>,
    c10: vec4<f32>,
    c11: vec4<f32>,
    c12: vec4<f32>,
    c13: vec4<f32>,
    c14: vec4<f32>,
    c15: vec4<f32>,
    scales: vec4<f32>,
    minimums: vec4<f32>,
}

fn columns(blocks: vec4<u32>, lane: u32, half: u32) -> Columns {
    let a0 = load_pair(blocks.x, lane, 2u * half);
    let b0 = load_pair(blocks.y, lane, 2u * half);
    let c0 = load_pair(blocks.z, lane, 2u * half);
    let d0 = load_pair(blocks.w, lane, 2u * half);
    let a1 = load_pair(blocks.x, lane, 2u * half + 1u);
    let b1 = load_pair(blocks.y, lane, 2u * half + 1u);
    let c1 = load_pair(blocks.z, lane, 2u * half + 1u);
    let d1 = load_pair(blocks.w, lane, 2u * half + 1u);
    let a = load_factors(blocks.x, lane);
    let b = load_factors(blocks.y, lane);
    let c = load_factors(blocks.z, lane);
    let d = load_factors(blocks.w, lane);
    return Columns(
        vec4<f32>(a0.low.x, b0.low.x, c0.low.x, d0.low.x),
        vec4<f32>(a0.low.y, b0.low.y, c0.low.y, d0.low.y),
        vec4<f32>(a0.low.z, b0.low.z, c0.low.z, d0.low.z),
        vec4<f32>(a0.low.w, b0.low.w, c0.low.w, d0.low.w),
        vec4<f32>(a0.high.x, b0.high.x, c0.high.x, d0.high.x),
        vec4<f32>(a0.high.y, b0.high.y, c0.high.y, d0.high.y),
        vec4<f32>(a0.high.z, b0.high.z, c0.high.z, d0.high.z),
        vec4<f32>(a0.high.w, b0.high.w, c0.high.w, d0.high.w),
        vec4<f32>(a1.low.x, b1.low.x, c1.low.x, d1.low.x),
        vec4<f32>(a1.low.y, b1.low.y, c1.low.y, d1.low.y),
        vec4<f32>(a1.low.z, b1.low.z, c1.low.z, d1.low.z),
        vec4<f32>(a1.low.w, b1.low.w, c1.low.w, d1.low.w),
        vec4<f32>(a1.high.x, b1.high.x, c1.high.x, d1.high.x),
        vec4<f32>(a1.high.y, b1.high.y, c1.high.y, d1.high.y),
        vec4<f32>(a1.high.z, b1.high.z, c1.high.z, d1.high.z),
        vec4<f32>(a1.high.w, b1.high.w, c1.high.w, d1.high.w),
        vec4<f32>(a.scales[half], b.scales[half], c.scales[half], d.scales[half]),
        vec4<f32>(a.minimums[half], b.minimums[half], c.minimums[half], d.minimums[half]),
    );
}

// Half a block of a token's activations times four rows.
fn token_product(start: u32, quad: u32, lane: u32, w: Columns) -> vec4<f32> {
    let a = all(own(start, quad, lane));
    let b = all(own(start, quad + 1u, lane));
    let c = all(own(start, quad + 2u, lane));
    let d = all(own(start, quad + 3u, lane));
    let offset = dot(a + b + c + d, OFFSET);
    let p = a * SPREAD;
    let q = b * SPREAD;
    let r = c * SPREAD;
    let s = d * SPREAD;
    // In the shape of a tree: sums that wait for one another are slow where registers are few.
    let sum = (((p.x * w.c0 + p.y * w.c1) + (p.z * w.c2 + p.w * w.c3))
        + ((q.x * w.c4 + q.y * w.c5) + (q.z * w.c6 + q.w * w.c7)))
        + (((r.x * w.c8 + r.y * w.c9) + (r.z * w.c10 + r.w * w.c11))
        + ((s.x * w.c12 + s.y * w.c13) + (s.z * w.c14 + s.w * w.c15)));
    return w.scales * sum - w.minimums * offset;
}

fn write_rows(token: u32, row: u32, values: vec4<f32>) {
    write(token, row, values.x);
    write(token, row + 32u, values.y);
    write(token, row + 64u, values.z);
    write(token, row + 96u, values.w);
}

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    // Groups behind the last one are computed as the last, and not written; so are tokens.
    let groups = min(vec4<u32>(4u * group.x) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>((step.count - 1u) / 32u));
    let bases = groups * BLOCKS;
    let first = 8u * group.y;
    let last = step.rows - 1u;
    let start0 = min(first + 0u, last) * QUADS;
    let start1 = min(first + 1u, last) * QUADS;
    let start2 = min(first + 2u, last) * QUADS;
    let start3 = min(first + 3u, last) * QUADS;
    let start4 = min(first + 4u, last) * QUADS;
    let start5 = min(first + 5u, last) * QUADS;
    let start6 = min(first + 6u, last) * QUADS;
    let start7 = min(first + 7u, last) * QUADS;
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    var sum4 = vec4<f32>(0.0);
    var sum5 = vec4<f32>(0.0);
    var sum6 = vec4<f32>(0.0);
    var sum7 = vec4<f32>(0.0);
    for (var index = 0u; index < 2u * BLOCKS; index++) {
        let w = columns(bases + vec4<u32>(index / 2u), lane, index & 1u);
        let quad = 4u * index;
        sum0 += token_product(start0, quad, lane, w);
        sum1 += token_product(start1, quad, lane, w);
        sum2 += token_product(start2, quad, lane, w);
        sum3 += token_product(start3, quad, lane, w);
        sum4 += token_product(start4, quad, lane, w);
        sum5 += token_product(start5, quad, lane, w);
        sum6 += token_product(start6, quad, lane, w);
        sum7 += token_product(start7, quad, lane, w);
    }
    let row = 128u * group.x + lane;
    write_rows(first + 0u, row, sum0);
    write_rows(first + 1u, row, sum1);
    write_rows(first + 2u, row, sum2);
    write_rows(first + 3u, row, sum3);
    write_rows(first + 4u, row, sum4);
    write_rows(first + 5u, row, sum5);
    write_rows(first + 6u, row, sum6);
    write_rows(first + 7u, row, sum7);
}
