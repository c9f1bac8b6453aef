// A few tokens times a matrix, for decoding: out = x · weightsᵀ + bias.
//
// A lane owns a row of each of ROW_GROUPS groups of 32, so all lanes read the same x, and what a lane adds up is its result.
// SLICES slices of lanes share the columns, for devices that need more lanes than there are rows; only then are sums of
// lanes added. With NORM, x is normed on the way: its gain is multiplied in, its size divided out of the result. With GATED,
// the matrix is a gate with its up projection below, and the result is silu(gate) * up. With ADD, the result is added to
// what is there.
override SLICES: u32 = 1u;
override LANES: u32 = 32u;
// 1, 2 or 4; with GATED, half of them are of the gate.
override ROW_GROUPS: u32 = 1u;

// Sums of the slices: one a row group, and that of the squares of x.
var<workgroup> sums: array<vec4<f32>, LANES>;
var<workgroup> sizes: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let token = group.y;
    let lane = index % 32u;
    // Groups behind the last one are computed as the last, and not written.
    let own_groups = select(ROW_GROUPS, ROW_GROUPS / 2u, GATED);
    let first = group.x * own_groups;
    let last = (select(step.count, HALF, GATED) - 1u) / 32u;
    var groups = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
    if (GATED) {
        let up = vec4<u32>(HALF / 32u);
        groups = select(vec4<u32>(groups.x, groups.x, 0u, 0u) + up * vec4<u32>(0u, 1u, 0u, 0u),
            groups.xyxy + up * vec4<u32>(0u, 0u, 1u, 1u), ROW_GROUPS == 4u);
    }
    let start = token * QUADS;
    let bases = groups * BLOCKS;
    var sum = vec4<f32>(0.0);
    var squares = Own(0.0);
    for (var block = index / 32u; block < BLOCKS; block += SLICES) {
        let quad = 8u * block;
        let a = own(start, quad + 0u, lane);
        let b = own(start, quad + 1u, lane);
        let c = own(start, quad + 2u, lane);
        let d = own(start, quad + 3u, lane);
        let e = own(start, quad + 4u, lane);
        let f = own(start, quad + 5u, lane);
        let g = own(start, quad + 6u, lane);
        let h = own(start, quad + 7u, lane);
        squares += squared(a) + squared(b) + squared(c) + squared(d) + squared(e) + squared(f) + squared(g) + squared(h);
        let a4 = all(gained(quad + 0u, lane, a));
        let b4 = all(gained(quad + 1u, lane, b));
        let c4 = all(gained(quad + 2u, lane, c));
        let d4 = all(gained(quad + 3u, lane, d));
        let e4 = all(gained(quad + 4u, lane, e));
        let f4 = all(gained(quad + 5u, lane, f));
        let g4 = all(gained(quad + 6u, lane, g));
        let h4 = all(gained(quad + 7u, lane, h));
        let offsets = vec2<f32>(dot(a4 + b4 + c4 + d4, OFFSET), dot(e4 + f4 + g4 + h4, OFFSET));
        let n = Numbers(a4 * SPREAD, b4 * SPREAD, c4 * SPREAD, d4 * SPREAD,
            e4 * SPREAD, f4 * SPREAD, g4 * SPREAD, h4 * SPREAD, offsets);
        sum += rows_product(bases + vec4<u32>(block), lane, n);
    }
    var size = total(squares);
    if (SLICES > 1u) {
        sums[index] = sum;
        sizes[index] = size;
        workgroupBarrier();
        if (index >= 32u) {
            return;
        }
        for (var slice = 1u; slice < SLICES; slice++) {
            sum += sums[slice * 32u + index];
            size += sizes[slice * 32u + index];
        }
    }
    let factor = select(1.0, inverseSqrt(size / f32(4u * QUADS) + EPSILON), NORM);
    let row = first * 32u + lane;
    if (GATED) {
        write(token, row, sum.x, select(sum.y, sum.z, ROW_GROUPS == 4u), factor);
        if (ROW_GROUPS == 4u) {
            write(token, row + 32u, sum.y, sum.w, factor);
        }
        return;
    }
    write(token, row, sum.x, 0.0, factor);
    if (ROW_GROUPS > 1u) {
        write(token, row + 32u, sum.y, 0.0, factor);
    }
    if (ROW_GROUPS > 2u) {
        write(token, row + 64u, sum.z, 0.0, factor);
        write(token, row + 96u, sum.w, 0.0, factor);
    }
}
