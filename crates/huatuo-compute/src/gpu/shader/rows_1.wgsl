// A lane has one row.
fn rows_product(blocks: vec4<u32>, lane: u32, n: Numbers) -> vec4<f32> {
    return vec4<f32>(row_product(blocks.x, lane, n), 0.0, 0.0, 0.0);
}
