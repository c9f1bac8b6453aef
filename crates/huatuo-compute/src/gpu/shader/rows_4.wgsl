// A lane has a row of four groups.
fn rows_product(blocks: vec4<u32>, lane: u32, n: Numbers) -> vec4<f32> {
    return vec4<f32>(
        row_product(blocks.x, lane, n),
        row_product(blocks.y, lane, n),
        row_product(blocks.z, lane, n),
        row_product(blocks.w, lane, n),
    );
}
