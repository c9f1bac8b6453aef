// What a product for prefill does with the sum of a token and an output.
override BIAS: bool = false;
override ADD: bool = false;

@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

fn write(token: u32, output: u32, value: f32) {
    if (token >= step.rows || output >= step.count) {
        return;
    }
    var result = value;
    if (BIAS) {
        result += bias[step.first + output];
    }
    let at = place(token, step.first + output);
    if (ADD) {
        result += out[at];
    }
    out[at] = result;
}
