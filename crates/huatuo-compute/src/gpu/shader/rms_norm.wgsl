// Root-mean-square norm, a workgroup a row.
override LANES: u32 = 64u;
const SLOTS_AND_ONE: u32 = 1u;
override COLUMNS: u32 = 1u;
override EPSILON: f32 = 0.0;

@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let row = group.x * COLUMNS;
    var squares = 0.0;
    for (var i = index; i < COLUMNS; i += LANES) {
        squares += x[row + i] * x[row + i];
    }
    sums[index] = squares;
    sum_up(index);
    let scale = inverseSqrt(total(0u) / f32(COLUMNS) + EPSILON);
    for (var i = index; i < COLUMNS; i += LANES) {
        out[row + i] = x[row + i] * scale * gain[i];
    }
}
