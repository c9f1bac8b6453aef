// Many tokens times a matrix, for prefill: out = x · weightsᵀ + bias.
//
// A workgroup owns a tile of 64 tokens and 64 outputs. Block after block, its lanes bring 64 rows of 32 dequantized weights
// and as much of x into shared memory, columns first; a lane multiplies 8 tokens by 8 outputs in registers. Neighbouring
// lanes read neighbouring outputs of the same tokens.

var<workgroup> x_tile: array<Number, 2048>;
var<workgroup> weight_tile: array<Number, 2048>;

fn write_row(token: u32, output: u32, low: vec4<f32>, high: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        write(token, output + 8u * i, low[i] / X_SCALE);
        write(token, output + 32u + 8u * i, high[i] / X_SCALE);
    }
}

fn x_at(token: u32, quad: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), own(min(token, step.rows - 1u) * QUADS, quad, 0u), token < step.rows);
}

// Weights of a column, eight outputs apart.
fn four_weights(at: u32) -> Four {
    return Four(weight_tile[at], weight_tile[at + 8u], weight_tile[at + 16u], weight_tile[at + 24u]);
}

fn put(column: u32, lane: u32, weights: vec4<f32>, numbers: vec4<f32>) {
    let at = column * 64u + lane;
    weight_tile[at] = Number(weights.x);
    weight_tile[at + 64u] = Number(weights.y);
    weight_tile[at + 128u] = Number(weights.z);
    weight_tile[at + 192u] = Number(weights.w);
    x_tile[at] = Number(numbers.x * X_SCALE);
    x_tile[at + 64u] = Number(numbers.y * X_SCALE);
    x_tile[at + 128u] = Number(numbers.z * X_SCALE);
    x_tile[at + 192u] = Number(numbers.w * X_SCALE);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_output = group.x * 64u;
    let first_token = group.y * 64u;
    // Groups behind the last one are computed as the last, and not written.
    let base = min((first_output + lane) / 32u, (step.count - 1u) / 32u) * BLOCKS;
    let row_lane = lane % 32u;
    let token = first_token + lane;
    let tokens_at = lane / 8u * 8u;
    let outputs_at = lane % 8u;
    var r0 = vec4<f32>(0.0); var s0 = vec4<f32>(0.0);
    var r1 = vec4<f32>(0.0); var s1 = vec4<f32>(0.0);
    var r2 = vec4<f32>(0.0); var s2 = vec4<f32>(0.0);
    var r3 = vec4<f32>(0.0); var s3 = vec4<f32>(0.0);
    var r4 = vec4<f32>(0.0); var s4 = vec4<f32>(0.0);
    var r5 = vec4<f32>(0.0); var s5 = vec4<f32>(0.0);
    var r6 = vec4<f32>(0.0); var s6 = vec4<f32>(0.0);
    var r7 = vec4<f32>(0.0); var s7 = vec4<f32>(0.0);
    for (var index = 0u; index < BLOCKS; index++) {
        let factors = load_factors(base + index, row_lane);
        for (var i = 0u; i < 4u; i++) {
            let pair = load_pair(base + index, row_lane, i);
            let scale = select(factors.scales.x, factors.scales.y, i > 1u) * SPREAD;
            let minimum = select(factors.minimums.x, factors.minimums.y, i > 1u) * OFFSET;
            put(8u * i, lane, scale * pair.low - minimum, x_at(token, 8u * index + 2u * i));
            put(8u * i + 4u, lane, scale * pair.high - minimum, x_at(token, 8u * index + 2u * i + 1u));
        }
        workgroupBarrier();
        // Four columns at once: some devices pay for every variable that is set.
        for (var k = 0u; k < 32u; k += 4u) {
            let t = k * 64u + tokens_at;
            let o = k * 64u + outputs_at;
            let v0 = four_weights(o + 0u);
            let w0 = four_weights(o + 32u);
            let v1 = four_weights(o + 64u);
            let w1 = four_weights(o + 96u);
            let v2 = four_weights(o + 128u);
            let w2 = four_weights(o + 160u);
            let v3 = four_weights(o + 192u);
            let w3 = four_weights(o + 224u);
            let n0 = Four(x_tile[t + 0u], x_tile[t + 64u], x_tile[t + 128u], x_tile[t + 192u]);
            r0 += vec4<f32>(n0.x * v0 + n0.y * v1 + n0.z * v2 + n0.w * v3);
            s0 += vec4<f32>(n0.x * w0 + n0.y * w1 + n0.z * w2 + n0.w * w3);
            let n1 = Four(x_tile[t + 1u], x_tile[t + 65u], x_tile[t + 129u], x_tile[t + 193u]);
            r1 += vec4<f32>(n1.x * v0 + n1.y * v1 + n1.z * v2 + n1.w * v3);
            s1 += vec4<f32>(n1.x * w0 + n1.y * w1 + n1.z * w2 + n1.w * w3);
            let n2 = Four(x_tile[t + 2u], x_tile[t + 66u], x_tile[t + 130u], x_tile[t + 194u]);
            r2 += vec4<f32>(n2.x * v0 + n2.y * v1 + n2.z * v2 + n2.w * v3);
            s2 += vec4<f32>(n2.x * w0 + n2.y * w1 + n2.z * w2 + n2.w * w3);
            let n3 = Four(x_tile[t + 3u], x_tile[t + 67u], x_tile[t + 131u], x_tile[t + 195u]);
            r3 += vec4<f32>(n3.x * v0 + n3.y * v1 + n3.z * v2 + n3.w * v3);
            s3 += vec4<f32>(n3.x * w0 + n3.y * w1 + n3.z * w2 + n3.w * w3);
            let n4 = Four(x_tile[t + 4u], x_tile[t + 68u], x_tile[t + 132u], x_tile[t + 196u]);
            r4 += vec4<f32>(n4.x * v0 + n4.y * v1 + n4.z * v2 + n4.w * v3);
            s4 += vec4<f32>(n4.x * w0 + n4.y * w1 + n4.z * w2 + n4.w * w3);
            let n5 = Four(x_tile[t + 5u], x_tile[t + 69u], x_tile[t + 133u], x_tile[t + 197u]);
            r5 += vec4<f32>(n5.x * v0 + n5.y * v1 + n5.z * v2 + n5.w * v3);
            s5 += vec4<f32>(n5.x * w0 + n5.y * w1 + n5.z * w2 + n5.w * w3);
            let n6 = Four(x_tile[t + 6u], x_tile[t + 70u], x_tile[t + 134u], x_tile[t + 198u]);
            r6 += vec4<f32>(n6.x * v0 + n6.y * v1 + n6.z * v2 + n6.w * v3);
            s6 += vec4<f32>(n6.x * w0 + n6.y * w1 + n6.z * w2 + n6.w * w3);
            let n7 = Four(x_tile[t + 7u], x_tile[t + 71u], x_tile[t + 135u], x_tile[t + 199u]);
            r7 += vec4<f32>(n7.x * v0 + n7.y * v1 + n7.z * v2 + n7.w * v3);
            s7 += vec4<f32>(n7.x * w0 + n7.y * w1 + n7.z * w2 + n7.w * w3);
        }
        workgroupBarrier();
    }
    let t = first_token + tokens_at;
    let o = first_output + outputs_at;
    write_row(t, o, r0, s0);
    write_row(t + 1u, o, r1, s1);
    write_row(t + 2u, o, r2, s2);
    write_row(t + 3u, o, r3, s3);
    write_row(t + 4u, o, r4, s4);
    write_row(t + 5u, o, r5, s5);
    write_row(t + 6u, o, r6, s6);
    write_row(t + 7u, o, r7, s7);
}
