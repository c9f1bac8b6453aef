// Keys and values in single precision, `[token, kv_head, head_dim]`.
@group(0) @binding(1) var<storage, read> keys: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> values: array<vec2<f32>>;

fn key(pair: u32) -> vec2<f32> {
    return keys[pair];
}

fn value(pair: u32) -> vec2<f32> {
    return values[pair];
}
