// x = layer norm of x + y, a workgroup a row.
const LANES: u32 = 64u;
const SLOTS_AND_ONE: u32 = 1u;
override COLUMNS: u32 = 1u;
override EPSILON: f32 = 0.0;

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let row = group.x * COLUMNS;
    var sum = 0.0;
    for (var i = index; i < COLUMNS; i += LANES) {
        let both = x[row + i] + y[row + i];
        x[row + i] = both;
        sum += both;
    }
    sums[index] = sum;
    sum_up(index);
    let mean = total(0u) / f32(COLUMNS);
    var squares = 0.0;
    for (var i = index; i < COLUMNS; i += LANES) {
        let difference = x[row + i] - mean;
        squares += difference * difference;
    }
    workgroupBarrier();
    sums[index] = squares;
    sum_up(index);
    let scale = inverseSqrt(total(0u) / f32(COLUMNS) + EPSILON);
    for (var i = index; i < COLUMNS; i += LANES) {
        x[row + i] = (x[row + i] - mean) * scale * weight[i] + bias[i];
    }
}
