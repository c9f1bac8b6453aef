// Cached keys and values in single precision, eight numbers of a head in two vectors, `[token, kv_head, head_dim]`.
@group(0) @binding(1) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> values: array<vec4<f32>>;

struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn key(at: u32) -> Eight {
    return Eight(keys[2u * at], keys[2u * at + 1u]);
}

fn value(at: u32) -> Eight {
    return Eight(values[2u * at], values[2u * at + 1u]);
}
