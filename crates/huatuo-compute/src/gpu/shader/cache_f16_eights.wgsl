// Cached keys and values in half precision, eight numbers of a head a vector, `[token, kv_head, head_dim]`.
@group(0) @binding(1) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> values: array<vec4<u32>>;

struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn eight(words: vec4<u32>) -> Eight {
    return Eight(
        vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)),
        vec4<f32>(unpack2x16float(words.z), unpack2x16float(words.w)),
    );
}

fn key(at: u32) -> Eight {
    return eight(keys[at]);
}

fn value(at: u32) -> Eight {
    return eight(values[at]);
}
