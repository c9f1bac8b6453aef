// What the next choice depends on: the last token, the automaton's state, how many tokens count as written, and these,
// the oldest one overwritten by the next.
@group(0) @binding(1) var<storage, read_write> choice: array<u32>;

const TOKEN: u32 = 0u;
const STATE: u32 = 1u;
const WRITTEN: u32 = 2u;
// The token and one: what is read back, so that a run that failed is told from token 0.
const RESULT: u32 = 3u;
const RECENT: u32 = 4u;
// In place of a state: the token may not follow. In place of a token: no score was a number.
const NONE: u32 = 0xffffffffu;
const LOWEST: f32 = -3.4028234e38;

// Tokens that count as written before at most.
override WINDOW: u32 = 0u;

struct Scored {
    score: f32,
    token: u32,
}

// Of equal scores the first token wins.
fn better(a: Scored, b: Scored) -> Scored {
    if (b.score > a.score || (b.score == a.score && b.token < a.token)) {
        return b;
    }
    return a;
}

var<workgroup> candidates: array<Scored, 64>;

// The best of what each lane brings.
fn best_of_lanes(lane: u32, own: Scored) -> Scored {
    candidates[lane] = own;
    workgroupBarrier();
    var best = candidates[0];
    for (var i = 1u; i < 64u; i++) {
        best = better(best, candidates[i]);
    }
    workgroupBarrier();
    return best;
}

// Whether a score is a number; by its bits, because a compiler may take it for granted.
fn is_number(score: f32) -> bool {
    return (bitcast<u32>(score) & 0x7f800000u) != 0x7f800000u;
}

// Takes note of the chosen token; for one lane.
fn note(best: Scored, next_state: u32) {
    if (best.token == NONE || !is_number(best.score)) {
        choice[TOKEN] = NONE;
        choice[RESULT] = NONE;
        return;
    }
    choice[TOKEN] = best.token;
    choice[RESULT] = best.token + 1u;
    choice[STATE] = next_state;
    if (WINDOW > 0u) {
        choice[RECENT + choice[WRITTEN] % max(WINDOW, 1u)] = best.token;
        choice[WRITTEN] += 1u;
    }
}
