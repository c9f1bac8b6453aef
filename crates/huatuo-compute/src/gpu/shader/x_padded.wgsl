// Each lane reads all activations, whose rows end within a block.
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;

// What a lane reads of a quad.
alias Own = vec4<f32>;

fn own(start: u32, quad: u32, lane: u32) -> Own {
    return select(vec4<f32>(0.0), x[start + min(quad, QUADS - 1u)], quad < QUADS);
}

fn gained(quad: u32, lane: u32, number: Own) -> Own {
    if (NORM) {
        return number * gain[min(quad, QUADS - 1u)];
    }
    return number;
}

// What a number adds to the size that the norm divides by.
fn squared(number: Own) -> Own {
    return select(Own(0.0), number * number, NORM);
}

fn all(number: Own) -> vec4<f32> {
    return number;
}

fn total(number: Own) -> f32 {
    return number.x + number.y + number.z + number.w;
}
