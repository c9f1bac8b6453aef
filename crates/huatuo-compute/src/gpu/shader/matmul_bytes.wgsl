// Many tokens times a quantized matrix, for prefill, in products of bytes: out = x · weightsᵀ + bias.
//
// A workgroup owns a tile of 64 tokens and 32 outputs; a lane multiplies 8 tokens by 4 outputs, 8 apart each. While a block
// of the tile is multiplied, the next one is on its way.
@group(0) @binding(3) var<storage, read> x_bytes: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> x_factors: array<vec4<f32>>;

var<workgroup> x_tile: array<vec4<u32>, 128>;
var<workgroup> x_factor_tile: array<vec4<f32>, 64>;
var<workgroup> weight_tile: array<vec4<u32>, 64>;
var<workgroup> scale_tile: array<vec4<f32>, 32>;

// What a lane brings of a block: half a row's weights, and a token's activations.
struct Own {
    weights: vec4<u32>,
    factors: vec4<f32>,
    low: vec4<u32>,
    high: vec4<u32>,
    x_factors: vec4<f32>,
}

fn load(base: u32, token: u32, lane: u32, index: u32) -> Own {
    let row = lane % 32u;
    let half = lane / 32u;
    let first = load_bytes(base + index, row, 2u * half);
    let second = load_bytes(base + index, row, 2u * half + 1u);
    let factors = load_factors(base + index, row);
    let at = token * BLOCKS + index;
    return Own(vec4<u32>(first, second), vec4<f32>(factors.scales, factors.minimums),
        x_bytes[2u * at], x_bytes[2u * at + 1u], x_factors[at]);
}

fn dot4(x: vec4<u32>, w: vec4<u32>) -> i32 {
    return dot4I8Packed(x.x, w.x) + dot4I8Packed(x.y, w.y) + dot4I8Packed(x.z, w.z) + dot4I8Packed(x.w, w.w);
}

fn products(t: u32, o: u32) -> vec4<f32> {
    let low = x_tile[2u * t];
    let high = x_tile[2u * t + 1u];
    let f = x_factor_tile[t];
    let a = vec4<i32>(dot4(low, weight_tile[o]), dot4(low, weight_tile[o + 8u]),
        dot4(low, weight_tile[o + 16u]), dot4(low, weight_tile[o + 24u]));
    let b = vec4<i32>(dot4(high, weight_tile[o + 32u]), dot4(high, weight_tile[o + 40u]),
        dot4(high, weight_tile[o + 48u]), dot4(high, weight_tile[o + 56u]));
    let s0 = scale_tile[o];
    let s1 = scale_tile[o + 8u];
    let s2 = scale_tile[o + 16u];
    let s3 = scale_tile[o + 24u];
    var product = vec4<f32>(a + b) * vec4<f32>(s0.x, s1.x, s2.x, s3.x);
    if (HAS_TWO_SCALES) {
        product = vec4<f32>(a) * vec4<f32>(s0.x, s1.x, s2.x, s3.x) + vec4<f32>(b) * vec4<f32>(s0.y, s1.y, s2.y, s3.y);
    }
    product *= f.x;
    if (HAS_OFFSET) {
        product -= f.y * vec4<f32>(s0.z, s1.z, s2.z, s3.z) + f.z * vec4<f32>(s0.w, s1.w, s2.w, s3.w);
    }
    return product;
}

fn write_row(token: u32, output: u32, values: vec4<f32>) {
    write(token, output, values.x);
    write(token, output + 8u, values.y);
    write(token, output + 16u, values.z);
    write(token, output + 24u, values.w);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let base = group.x * BLOCKS;
    let first_token = 64u * group.y;
    let token = min(first_token + lane, step.rows - 1u);
    let t = lane / 8u;
    let o = lane % 8u;
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    var sum4 = vec4<f32>(0.0);
    var sum5 = vec4<f32>(0.0);
    var sum6 = vec4<f32>(0.0);
    var sum7 = vec4<f32>(0.0);
    var next = load(base, token, lane, 0u);
    for (var index = 0u; index < BLOCKS; index++) {
        workgroupBarrier();
        weight_tile[lane] = next.weights;
        if (lane < 32u) {
            scale_tile[lane] = next.factors;
        }
        x_tile[2u * lane] = next.low;
        x_tile[2u * lane + 1u] = next.high;
        x_factor_tile[lane] = next.x_factors;
        workgroupBarrier();
        next = load(base, token, lane, min(index + 1u, BLOCKS - 1u));
        sum0 += products(t, o);
        sum1 += products(t + 8u, o);
        sum2 += products(t + 16u, o);
        sum3 += products(t + 24u, o);
        sum4 += products(t + 32u, o);
        sum5 += products(t + 40u, o);
        sum6 += products(t + 48u, o);
        sum7 += products(t + 56u, o);
    }
    let output = 32u * group.x + o;
    write_row(first_token + t, output, sum0);
    write_row(first_token + t + 8u, output, sum1);
    write_row(first_token + t + 16u, output, sum2);
    write_row(first_token + t + 24u, output, sum3);
    write_row(first_token + t + 32u, output, sum4);
    write_row(first_token + t + 40u, output, sum5);
    write_row(first_token + t + 48u, output, sum6);
    write_row(first_token + t + 56u, output, sum7);
}
