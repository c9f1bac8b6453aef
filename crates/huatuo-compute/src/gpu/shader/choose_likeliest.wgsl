// The TOP likeliest tokens of each 1024 that the automaton allows, best first.
override AUTOMATON: bool = false;
override CLASSES: u32 = 1u;
override TOP: u32 = 1u;

@group(0) @binding(2) var<storage, read> scores: array<f32>;
// Two classes a word.
@group(0) @binding(3) var<storage, read> classes: array<u32>;
@group(0) @binding(4) var<storage, read> next: array<u32>;
@group(0) @binding(5) var<storage, read_write> best: array<Scored>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * 1024u;
    let row = choice[STATE] * CLASSES;
    var own: array<f32, 16>;
    for (var i = 0u; i < 16u; i++) {
        let token = first + 64u * i + lane;
        own[i] = LOWEST;
        if (token < step.count) {
            var may = true;
            if (AUTOMATON) {
                may = next[row + ((classes[token / 2u] >> (16u * (token & 1u))) & 0xffffu)] != NONE;
            }
            let score = scores[token];
            let is_nan = !is_number(score) && (bitcast<u32>(score) & 0x7fffffu) != 0u;
            if (may && !is_nan && score > LOWEST) {
                own[i] = score;
            }
        }
    }
    for (var place = 0u; place < TOP; place++) {
        var mine = Scored(LOWEST, NONE);
        for (var i = 0u; i < 16u; i++) {
            if (own[i] > mine.score) {
                mine = Scored(own[i], first + 64u * i + lane);
            }
        }
        let winner = best_of_lanes(lane, mine);
        if (lane == 0u) {
            best[group.x * TOP + place] = winner;
        }
        if (winner.token != NONE && (winner.token - first) % 64u == lane) {
            own[(winner.token - first) / 64u] = LOWEST;
        }
    }
}
