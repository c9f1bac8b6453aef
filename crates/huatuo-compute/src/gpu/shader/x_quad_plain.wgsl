// Four neighbouring lanes read a quad of activations together; rows are whole blocks.
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read> gain: array<f32>;

// What a lane reads of a quad.
alias Own = f32;

fn own(start: u32, quad: u32, lane: u32) -> Own {
    return x[4u * (start + quad) + (lane & 3u)];
}

fn gained(quad: u32, lane: u32, number: Own) -> Own {
    return number;
}

// What a number adds to the size that the norm divides by.
fn squared(number: Own) -> Own {
    return Own(0.0);
}

fn all(number: Own) -> vec4<f32> {
    return vec4<f32>(
        quadBroadcast(number, 0u), quadBroadcast(number, 1u), quadBroadcast(number, 2u), quadBroadcast(number, 3u),
    );
}

fn total(number: Own) -> f32 {
    let four = all(number);
    return four.x + four.y + four.z + four.w;
}
