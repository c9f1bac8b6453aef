// Sums over the lanes of a workgroup through shared memory, for devices without subgroups.
// LANES * SLOTS_AND_ONE; a size of its own, because not every compiler takes a product here.
override SUMS: u32 = 64u;
var<workgroup> sums: array<f32, SUMS>;
var<workgroup> some_sums: array<f32, SUMS>;

// Adds up what lanes left in sums[slot * LANES + lane]; afterwards `total` may be asked for any slot.
fn sum_up(index: u32) {
    workgroupBarrier();
    // The LANES sums of a slot become 8; `total` makes one of these.
    for (var i = index; i < SLOTS_AND_ONE * 8u; i += LANES) {
        let start = i / 8u * LANES + i % 8u;
        var sum = 0.0;
        for (var j = 0u; j < LANES; j += 8u) {
            sum += sums[start + j];
        }
        some_sums[i] = sum;
    }
    workgroupBarrier();
}

fn total(slot: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < 8u; i++) {
        sum += some_sums[slot * 8u + i];
    }
    return sum;
}
