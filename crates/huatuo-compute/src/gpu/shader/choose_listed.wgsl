// The best of some tokens, each with what is added to its score; one workgroup.
@group(0) @binding(2) var<storage, read> scores: array<f32>;
@group(0) @binding(3) var<storage, read> allowed: array<Scored>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    var own = Scored(LOWEST, NONE);
    for (var i = lane; i < step.count; i += 64u) {
        let listed = allowed[i];
        if (listed.token < step.first) {
            own = better(own, Scored(scores[listed.token] + listed.score, listed.token));
        }
    }
    let winner = best_of_lanes(lane, own);
    if (lane == 0u) {
        note(winner, choice[STATE]);
    }
}
