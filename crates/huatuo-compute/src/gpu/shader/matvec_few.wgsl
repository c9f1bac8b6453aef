// Some tokens times a matrix, for texts that are written beside each other: out = x · weightsᵀ + bias.
//
// As in `matvec` a lane owns a row of each of ROW_GROUPS groups of 32, and SLICES slices of lanes share the columns. A weight
// is read and taken out of its word once for eight tokens, and their activations are read once for all rows of the lane:
// what a lane reads passes through the same narrow door whether others read it, too, or not. Workgroups with the same rows
// and other tokens follow one another, so that they find weights that are near already.
override SLICES: u32 = 1u;
override LANES: u32 = 32u;
// Four times LANES; a size of its own, because not every compiler takes a product here.
override SUMS: u32 = 128u;
// 1, 2, 4 or 8.
override ROW_GROUPS: u32 = 1u;

// Four tokens' sums of the slices.
var<workgroup> sums: array<vec4<f32>, SUMS>;

// Eight weights of four rows.
struct Rows {
    a: Pair,
    b: Pair,
    c: Pair,
    d: Pair,
}

// The same of eight.
struct Weights {
    first: Rows,
    second: Rows,
}

// Sums of eight tokens, each of four rows and four more.
struct Sums {
    s0: vec4<f32>,
    t0: vec4<f32>,
    s1: vec4<f32>,
    t1: vec4<f32>,
    s2: vec4<f32>,
    t2: vec4<f32>,
    s3: vec4<f32>,
    t3: vec4<f32>,
    s4: vec4<f32>,
    t4: vec4<f32>,
    s5: vec4<f32>,
    t5: vec4<f32>,
    s6: vec4<f32>,
    t6: vec4<f32>,
    s7: vec4<f32>,
    t7: vec4<f32>,
}

fn weights_of(block: u32, lane: u32, k: u32) -> Pair {
    let factors = load_factors(block, lane);
    let pair = load_pair(block, lane, k);
    let scale = select(factors.scales.x, factors.scales.y, k > 1u) * SPREAD;
    let minimum = select(factors.minimums.x, factors.minimums.y, k > 1u) * OFFSET;
    return Pair(scale * pair.low - minimum, scale * pair.high - minimum);
}

fn rows(blocks: vec4<u32>, lane: u32, k: u32) -> Rows {
    var w: Rows;
    w.a = weights_of(blocks.x, lane, k);
    if (ROW_GROUPS > 1u) {
        w.b = weights_of(blocks.y, lane, k);
    }
    if (ROW_GROUPS > 2u) {
        w.c = weights_of(blocks.z, lane, k);
        w.d = weights_of(blocks.w, lane, k);
    }
    return w;
}

fn weights(first: vec4<u32>, second: vec4<u32>, lane: u32, k: u32) -> Weights {
    var w: Weights;
    w.first = rows(first, lane, k);
    if (ROW_GROUPS > 4u) {
        w.second = rows(second, lane, k);
    }
    return w;
}

fn eight(at: u32) -> Pair {
    return Pair(own(at, 0u, 0u), own(at, 1u, 0u));
}

fn along(sum: f32, x: Pair, w: Pair) -> f32 {
    let low = fma(x.low.w, w.low.w, fma(x.low.z, w.low.z, fma(x.low.y, w.low.y, fma(x.low.x, w.low.x, sum))));
    return fma(x.high.w, w.high.w, fma(x.high.z, w.high.z, fma(x.high.y, w.high.y, fma(x.high.x, w.high.x, low))));
}

// A token's sums of four rows with eight of its activations.
fn add(sum: vec4<f32>, x: Pair, w: Rows) -> vec4<f32> {
    var result = sum;
    result.x = along(sum.x, x, w.a);
    if (ROW_GROUPS > 1u) {
        result.y = along(sum.y, x, w.b);
    }
    if (ROW_GROUPS > 2u) {
        result.z = along(sum.z, x, w.c);
        result.w = along(sum.w, x, w.d);
    }
    return result;
}

fn add_all(sums: Sums, starts0: vec4<u32>, starts1: vec4<u32>, quad: u32, w: Weights) -> Sums {
    var s = sums;
    let x0 = eight(starts0.x + quad);
    s.s0 = add(s.s0, x0, w.first);
    if (ROW_GROUPS > 4u) {
        s.t0 = add(s.t0, x0, w.second);
    }
    let x1 = eight(starts0.y + quad);
    s.s1 = add(s.s1, x1, w.first);
    if (ROW_GROUPS > 4u) {
        s.t1 = add(s.t1, x1, w.second);
    }
    let x2 = eight(starts0.z + quad);
    s.s2 = add(s.s2, x2, w.first);
    if (ROW_GROUPS > 4u) {
        s.t2 = add(s.t2, x2, w.second);
    }
    let x3 = eight(starts0.w + quad);
    s.s3 = add(s.s3, x3, w.first);
    if (ROW_GROUPS > 4u) {
        s.t3 = add(s.t3, x3, w.second);
    }
    let x4 = eight(starts1.x + quad);
    s.s4 = add(s.s4, x4, w.first);
    if (ROW_GROUPS > 4u) {
        s.t4 = add(s.t4, x4, w.second);
    }
    let x5 = eight(starts1.y + quad);
    s.s5 = add(s.s5, x5, w.first);
    if (ROW_GROUPS > 4u) {
        s.t5 = add(s.t5, x5, w.second);
    }
    let x6 = eight(starts1.z + quad);
    s.s6 = add(s.s6, x6, w.first);
    if (ROW_GROUPS > 4u) {
        s.t6 = add(s.t6, x6, w.second);
    }
    let x7 = eight(starts1.w + quad);
    s.s7 = add(s.s7, x7, w.first);
    if (ROW_GROUPS > 4u) {
        s.t7 = add(s.t7, x7, w.second);
    }
    return s;
}

fn write_rows(token: u32, row: u32, values: vec4<f32>) {
    write(token, row, values.x);
    if (ROW_GROUPS > 1u) {
        write(token, row + 32u, values.y);
    }
    if (ROW_GROUPS > 2u) {
        write(token, row + 64u, values.z);
        write(token, row + 96u, values.w);
    }
}

// Adds up what the slices have of four tokens, a slice a token.
fn join(token: u32, row: u32, index: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
    if (SLICES == 1u) {
        write_rows(token, row, a);
        write_rows(token + 1u, row, b);
        write_rows(token + 2u, row, c);
        write_rows(token + 3u, row, d);
        return;
    }
    sums[index] = a;
    sums[LANES + index] = b;
    sums[2u * LANES + index] = c;
    sums[3u * LANES + index] = d;
    workgroupBarrier();
    for (var own = index / 32u; own < 4u; own += SLICES) {
        var sum = vec4<f32>(0.0);
        for (var slice = 0u; slice < SLICES; slice++) {
            sum += sums[own * LANES + slice * 32u + index % 32u];
        }
        write_rows(token + own, row, sum);
    }
    workgroupBarrier();
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    const FOUR = vec4<u32>(0u, 1u, 2u, 3u);
    let lane = index % 32u;
    // Groups behind the last one are computed as the last, and not written; so are tokens.
    let last_group = vec4<u32>((step.count - 1u) / 32u);
    let bases0 = min(vec4<u32>(ROW_GROUPS * group.y) + FOUR, last_group) * BLOCKS;
    let bases1 = min(vec4<u32>(ROW_GROUPS * group.y + 4u) + FOUR, last_group) * BLOCKS;
    let token = 8u * group.x;
    let last = vec4<u32>(step.rows - 1u);
    let starts0 = min(vec4<u32>(token) + FOUR, last) * QUADS;
    let starts1 = min(vec4<u32>(token + 4u) + FOUR, last) * QUADS;
    var s: Sums;
    for (var block = index / 32u; block < BLOCKS; block += SLICES) {
        let blocks0 = bases0 + vec4<u32>(block);
        let blocks1 = bases1 + vec4<u32>(block);
        let w0 = weights(blocks0, blocks1, lane, 0u);
        let w1 = weights(blocks0, blocks1, lane, 1u);
        let w2 = weights(blocks0, blocks1, lane, 2u);
        let w3 = weights(blocks0, blocks1, lane, 3u);
        let quad = 8u * block;
        s = add_all(s, starts0, starts1, quad, w0);
        s = add_all(s, starts0, starts1, quad + 2u, w1);
        s = add_all(s, starts0, starts1, quad + 4u, w2);
        s = add_all(s, starts0, starts1, quad + 6u, w3);
    }
    let row = 32u * ROW_GROUPS * group.y + lane;
    join(token, row, index, s.s0, s.s1, s.s2, s.s3);
    join(token + 4u, row, index, s.s4, s.s5, s.s6, s.s7);
    if (ROW_GROUPS > 4u) {
        join(token, row + 128u, index, s.t0, s.t1, s.t2, s.t3);
        join(token + 4u, row + 128u, index, s.t4, s.t5, s.t6, s.t7);
    }
}
