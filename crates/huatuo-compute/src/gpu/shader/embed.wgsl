// out[row] = table[ids[row]], a workgroup a row. Rows of other parts of the table are left to their own call.
override COLUMNS: u32 = 32u;

@group(0) @binding(3) var<storage, read> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let id = ids[group.x];
    if (id < step.first || id - step.first >= step.count) {
        return;
    }
    for (var i = lane; i < BLOCKS; i += 64u) {
        let block = (id - step.first) / 32u * BLOCKS + i;
        let own_lane = (id - step.first) % 32u;
        let factors = load_factors(block, own_lane);
        for (var k = 0u; k < 4u; k++) {
            let pair = load_pair(block, own_lane, k);
            let low = factors.scales[k / 2u] * pair.low * SPREAD - factors.minimums[k / 2u] * OFFSET;
            let high = factors.scales[k / 2u] * pair.high * SPREAD - factors.minimums[k / 2u] * OFFSET;
            for (var j = 0u; j < 4u; j++) {
                let column = 32u * i + 8u * k + j;
                if (column < COLUMNS) {
                    out[group.x * COLUMNS + column] = low[j];
                }
                if (column + 4u < COLUMNS) {
                    out[group.x * COLUMNS + column + 4u] = high[j];
                }
            }
        }
    }
}
