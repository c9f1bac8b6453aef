// Cached keys and values in half precision, two numbers a word, `[token, kv_head, head_dim]`.
@group(0) @binding(1) var<storage, read_write> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<u32>;

fn write_key(pair: u32, numbers: vec2<f32>) {
    keys[pair] = pack2x16float(numbers);
}

fn write_value(pair: u32, numbers: vec2<f32>) {
    values[pair] = pack2x16float(numbers);
}
