// Cached keys and values in half precision, two numbers a word, `[token, kv_head, head_dim]`.
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<u32>;

fn key(pair: u32) -> vec2<f32> {
    return unpack2x16float(keys[pair]);
}

fn value(pair: u32) -> vec2<f32> {
    return unpack2x16float(values[pair]);
}
