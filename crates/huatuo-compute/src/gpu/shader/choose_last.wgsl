// The best token of all; one workgroup.
override AUTOMATON: bool = false;
override CLASSES: u32 = 1u;

@group(0) @binding(2) var<storage, read> best: array<Scored>;
@group(0) @binding(3) var<storage, read> classes: array<u32>;
@group(0) @binding(4) var<storage, read> next: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    var own = Scored(LOWEST, NONE);
    for (var i = lane; i < step.count; i += 64u) {
        own = better(own, best[i]);
    }
    let winner = best_of_lanes(lane, own);
    if (lane == 0u) {
        var state = 0u;
        if (AUTOMATON && winner.token != NONE) {
            let class_of = (classes[winner.token / 2u] >> (16u * (winner.token & 1u))) & 0xffffu;
            state = next[choice[STATE] * CLASSES + class_of];
        }
        note(winner, state);
    }
}
