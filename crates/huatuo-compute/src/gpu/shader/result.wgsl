// What a product for decoding does with the sum of a row.
override BIAS: bool = false;
override ADD: bool = false;
// The matrix is a gate with its up projection below, HALF rows further, whole groups: the result is silu(gate) * up.
override GATED: bool = false;
override HALF: u32 = 0u;
// Added under the root of the norm.
override EPSILON: f32 = 0.0;

@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

fn write(token: u32, row: u32, sum: f32, up_sum: f32, factor: f32) {
    if (row >= select(step.count, HALF, GATED)) {
        return;
    }
    let output = step.first + row;
    var result = sum * factor;
    if (BIAS) {
        result += bias[output];
    }
    if (GATED) {
        var up = up_sum * factor;
        if (BIAS) {
            up += bias[output + HALF];
        }
        result = result / (1.0 + exp(-result)) * up;
    }
    let at = place(token, output);
    if (ADD) {
        result += out[at];
    }
    out[at] = result;
}
