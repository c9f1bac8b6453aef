// The exact GELU in place; erf as in Abramowitz and Stegun 1964, 7.1.26.
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let polynomial = t * (0.2548296 + t * (-0.28449672 + t * (1.4214138 + t * (-1.453152 + t * 1.0614054))));
    return sign(x) * (1.0 - polynomial * exp(-x * x));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = at.x; i < step.count; i += 64u * groups.x) {
        x[i] *= 0.5 * (1.0 + erf(x[i] * 0.70710678));
    }
}
