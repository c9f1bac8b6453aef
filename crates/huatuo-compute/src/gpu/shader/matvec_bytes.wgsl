// A few tokens times a quantized matrix, for decoding, in products of bytes: out = x · weightsᵀ + bias.
//
// As `matvec`, but the workgroup first makes bytes of the activations, a scale for each block of 32, so that four weights
// are multiplied at once and weights need not become numbers.
override SLICES: u32 = 1u;
override LANES: u32 = 32u;
// Rows of a lane: 1 or 2; with GATED 2, of the gate and of its up projection.
override ROW_GROUPS: u32 = 1u;
// Blocks of activations that are made bytes at once, and twice as many.
override CHUNK: u32 = 1u;
override HALVES: u32 = 2u;

var<workgroup> x_bytes: array<vec4<u32>, HALVES>;
// Of each block of activations, as in `Packed`.
var<workgroup> x_factors: array<vec4<f32>, CHUNK>;
var<workgroup> sums: array<vec2<f32>, LANES>;
var<workgroup> sizes: array<f32, LANES>;

// Makes bytes of a block; gives the squares of what it reads.
fn make_bytes(start: u32, block: u32, at: u32) -> f32 {
    let quad = 8u * block;
    let a = own(start, quad + 0u, 0u);
    let b = own(start, quad + 1u, 0u);
    let c = own(start, quad + 2u, 0u);
    let d = own(start, quad + 3u, 0u);
    let e = own(start, quad + 4u, 0u);
    let f = own(start, quad + 5u, 0u);
    let g = own(start, quad + 6u, 0u);
    let h = own(start, quad + 7u, 0u);
    let block_bytes = packed(
        gained(quad + 0u, 0u, a), gained(quad + 1u, 0u, b), gained(quad + 2u, 0u, c), gained(quad + 3u, 0u, d),
        gained(quad + 4u, 0u, e), gained(quad + 5u, 0u, f), gained(quad + 6u, 0u, g), gained(quad + 7u, 0u, h),
    );
    x_bytes[2u * at] = block_bytes.low;
    x_bytes[2u * at + 1u] = block_bytes.high;
    x_factors[at] = block_bytes.factors;
    return total(squared(a) + squared(b) + squared(c) + squared(d) + squared(e) + squared(f) + squared(g) + squared(h));
}

fn row_product(block: u32, lane: u32, low: vec4<u32>, high: vec4<u32>, x_factor: vec4<f32>) -> f32 {
    let p = load_bytes(block, lane, 0u);
    let q = load_bytes(block, lane, 1u);
    let r = load_bytes(block, lane, 2u);
    let s = load_bytes(block, lane, 3u);
    let factors = load_factors(block, lane);
    let products = vec2<i32>(
        dot4I8Packed(p.x, low.x) + dot4I8Packed(p.y, low.y) + dot4I8Packed(q.x, low.z) + dot4I8Packed(q.y, low.w),
        dot4I8Packed(r.x, high.x) + dot4I8Packed(r.y, high.y) + dot4I8Packed(s.x, high.z) + dot4I8Packed(s.y, high.w),
    );
    let product = x_factor.x * dot(factors.scales, vec2<f32>(products));
    return product - select(0.0, dot(factors.minimums, x_factor.yz), HAS_OFFSET);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let token = group.y;
    let lane = index % 32u;
    let slice = index / 32u;
    // Groups behind the last one are computed as the last, and not written.
    let first = group.x * select(ROW_GROUPS, 1u, GATED);
    let last = (select(step.count, HALF, GATED) - 1u) / 32u;
    let own_group = min(first, last);
    let other_group = select(min(first + 1u, last), own_group + HALF / 32u, GATED);
    let base = own_group * BLOCKS;
    let other_base = other_group * BLOCKS;
    let start = token * QUADS;
    var sum = vec2<f32>(0.0);
    var squares = 0.0;
    for (var chunk = 0u; chunk < BLOCKS; chunk += CHUNK) {
        let blocks = min(CHUNK, BLOCKS - chunk);
        for (var i = index; i < blocks; i += LANES) {
            squares += make_bytes(start, chunk + i, i);
        }
        workgroupBarrier();
        // Two blocks at once, so that more weights are on their way; the second may be behind the end, and counts nothing.
        for (var i = slice; i < blocks; i += 2u * SLICES) {
            let has_second = i + SLICES < blocks;
            let j = select(i, i + SLICES, has_second);
            let low = x_bytes[2u * i];
            let high = x_bytes[2u * i + 1u];
            let x_factor = x_factors[i];
            let second_low = x_bytes[2u * j];
            let second_high = x_bytes[2u * j + 1u];
            let second_factor = select(vec4<f32>(0.0), x_factors[j], has_second);
            sum.x += row_product(base + chunk + i, lane, low, high, x_factor)
                + row_product(base + chunk + j, lane, second_low, second_high, second_factor);
            if (ROW_GROUPS > 1u) {
                sum.y += row_product(other_base + chunk + i, lane, low, high, x_factor)
                    + row_product(other_base + chunk + j, lane, second_low, second_high, second_factor);
            }
        }
        workgroupBarrier();
    }
    sums[index] = sum;
    sizes[index] = squares;
    workgroupBarrier();
    if (index < 32u) {
        for (var i = 1u; i < SLICES; i++) {
            sum += sums[i * 32u + index];
            squares += sizes[i * 32u + index];
        }
        sizes[index] = squares;
    }
    workgroupBarrier();
    if (index >= 32u) {
        return;
    }
    var size = 0.0;
    if (NORM) {
        for (var i = 0u; i < 32u; i++) {
            size += sizes[i];
        }
    }
    let factor = select(1.0, inverseSqrt(size / f32(4u * QUADS) + EPSILON), NORM);
    let row = first * 32u + lane;
    write(token, row, sum.x, sum.y, factor);
    if (ROW_GROUPS > 1u && !GATED) {
        write(token, row + 32u, sum.y, 0.0, factor);
    }
}
