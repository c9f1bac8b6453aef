// Draws a token among the TOP likeliest of all, with the number whose bits are `step.position`; one workgroup.
override AUTOMATON: bool = false;
override CLASSES: u32 = 1u;
override TOP: u32 = 1u;
override TEMPERATURE: f32 = 1.0;
override TOP_P: f32 = 1.0;
override MIN_P: f32 = 0.0;

@group(0) @binding(2) var<storage, read> best: array<Scored>;
@group(0) @binding(3) var<storage, read> classes: array<u32>;
@group(0) @binding(4) var<storage, read> next: array<u32>;

// How many of each list were taken; as many lists as a vocabulary of 2^19 has thousands.
var<workgroup> taken: array<u32, 512>;
var<workgroup> likeliest: array<Scored, 64>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < step.count; i += 64u) {
        taken[i] = 0u;
    }
    for (var place = 0u; place < TOP; place++) {
        var mine = Scored(LOWEST, NONE);
        var list = 0u;
        for (var i = lane; i < step.count; i += 64u) {
            if (taken[i] < TOP) {
                let head = best[i * TOP + taken[i]];
                if (head.token != NONE && better(mine, head).token == head.token) {
                    mine = head;
                    list = i;
                }
            }
        }
        let winner = best_of_lanes(lane, mine);
        if (winner.token == mine.token && winner.token != NONE) {
            taken[list] += 1u;
        }
        likeliest[place] = winner;
    }
    workgroupBarrier();
    if (lane != 0u) {
        return;
    }
    var total = 0.0;
    for (var i = 0u; i < TOP; i++) {
        if (likeliest[i].token != NONE) {
            total += exp((likeliest[i].score - likeliest[0].score) / TEMPERATURE);
        }
    }
    var kept = 0u;
    var sum = 0.0;
    for (var i = 0u; i < TOP; i++) {
        let weight = exp((likeliest[i].score - likeliest[0].score) / TEMPERATURE);
        if (likeliest[i].token == NONE || (kept > 0u && (sum >= TOP_P * total || weight < MIN_P))) {
            break;
        }
        kept += 1u;
        sum += weight;
    }
    var left = bitcast<f32>(step.position) * sum;
    var drawn = 0u;
    for (var i = 0u; i < kept; i++) {
        drawn = i;
        left -= exp((likeliest[i].score - likeliest[0].score) / TEMPERATURE);
        if (left < 0.0) {
            break;
        }
    }
    var winner = likeliest[drawn];
    winner.score = likeliest[0].score; // which tells whether the scores are numbers
    var state = 0u;
    if (AUTOMATON && winner.token != NONE) {
        let class_of = (classes[winner.token / 2u] >> (16u * (winner.token & 1u))) & 0xffffu;
        state = next[choice[STATE] * CLASSES + class_of];
    }
    note(winner, state);
}
