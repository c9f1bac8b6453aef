// Each lane reads all activations as they are; rows are whole blocks.
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;

// What a lane reads of a quad.
alias Own = vec4<f32>;

fn own(start: u32, quad: u32, lane: u32) -> Own {
    return x[start + quad];
}

fn gained(quad: u32, lane: u32, number: Own) -> Own {
    return number;
}

// What a number adds to the size that the norm divides by.
fn squared(number: Own) -> Own {
    return Own(0.0);
}

fn all(number: Own) -> vec4<f32> {
    return number;
}

fn total(number: Own) -> f32 {
    return number.x + number.y + number.z + number.w;
}
