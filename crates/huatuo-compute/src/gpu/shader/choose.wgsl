// The best token of each 1024 that the automaton allows.
override AUTOMATON: bool = false;
override CLASSES: u32 = 1u;

@group(0) @binding(2) var<storage, read> scores: array<f32>;
// Two classes a word.
@group(0) @binding(3) var<storage, read> classes: array<u32>;
@group(0) @binding(4) var<storage, read> next: array<u32>;
@group(0) @binding(5) var<storage, read_write> best: array<Scored>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * 1024u;
    let end = min(step.count, first + 1024u);
    let row = choice[STATE] * CLASSES;
    var own = Scored(LOWEST, NONE);
    for (var token = first + lane; token < end; token += 64u) {
        let score = scores[token];
        // One that is infinite wins, and is told; one that is no number at all never does.
        let is_nan = !is_number(score) && (bitcast<u32>(score) & 0x7fffffu) != 0u;
        if (is_nan || score <= own.score) {
            continue;
        }
        if (AUTOMATON) {
            let class_of = (classes[token / 2u] >> (16u * (token & 1u))) & 0xffffu;
            if (next[row + class_of] == NONE) {
                continue;
            }
        }
        own = Scored(score, token);
    }
    let winner = best_of_lanes(lane, own);
    if (lane == 0u) {
        best[group.x] = winner;
    }
}
