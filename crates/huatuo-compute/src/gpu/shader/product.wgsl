// A row's block times a block of activations. Straight lines without a branch: some devices run both sides of each, and
// pay for every variable that is set.
// Eight quads, spread as the weights are, and what the offset of weights meets in either half.
struct Numbers {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
    offsets: vec2<f32>,
}

fn row_product(block: u32, lane: u32, n: Numbers) -> f32 {
    let p = load_pair(block, lane, 0u);
    let q = load_pair(block, lane, 1u);
    let r = load_pair(block, lane, 2u);
    let s = load_pair(block, lane, 3u);
    let low = dot(p.low, n.a) + dot(p.high, n.b) + dot(q.low, n.c) + dot(q.high, n.d);
    let high = dot(r.low, n.e) + dot(r.high, n.f) + dot(s.low, n.g) + dot(s.high, n.h);
    let factors = load_factors(block, lane);
    return factors.scales.x * low + factors.scales.y * high - dot(factors.minimums, n.offsets);
}
