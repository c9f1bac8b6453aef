// Cached keys and values in single precision, `[token, kv_head, head_dim]`.
@group(0) @binding(1) var<storage, read_write> keys: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> values: array<vec2<f32>>;

fn write_key(pair: u32, numbers: vec2<f32>) {
    keys[pair] = numbers;
}

fn write_value(pair: u32, numbers: vec2<f32>) {
    values[pair] = numbers;
}
