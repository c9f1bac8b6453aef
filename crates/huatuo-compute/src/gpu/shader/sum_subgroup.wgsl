// Sums over the lanes of a workgroup: within subgroups of any width, then over their sums in shared memory.
// LANES * SLOTS_AND_ONE; a size of its own, because not every compiler takes a product here.
override SUMS: u32 = 64u;
var<workgroup> sums: array<f32, SUMS>;
var<workgroup> some_sums: array<f32, SUMS>;
var<private> subgroups: u32;

// Adds up what lanes left in sums[slot * LANES + lane]; afterwards `total` may be asked for any slot.
fn sum_up(index: u32) {
    // Counted, not asked for: the built-in values are a kernel's arguments, and kernels don't know which of these files
    // they are joined with.
    let size = subgroupAdd(1u);
    let is_first = subgroupExclusiveAdd(1u) == 0u;
    subgroups = LANES / size;
    for (var slot = 0u; slot < SLOTS_AND_ONE; slot++) {
        let sum = subgroupAdd(sums[slot * LANES + index]);
        if (is_first) {
            some_sums[slot * LANES + index / size] = sum;
        }
    }
    workgroupBarrier();
}

fn total(slot: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < subgroups; i++) {
        sum += some_sums[slot * LANES + i];
    }
    return sum;
}
