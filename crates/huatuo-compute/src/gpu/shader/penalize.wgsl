// Makes tokens that were written before less likely, each once however often it was written; one workgroup.
override PENALTY: f32 = 1.0;

@group(0) @binding(2) var<storage, read_write> scores: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    let count = min(choice[WRITTEN], WINDOW);
    for (var i = lane; i < count; i += 64u) {
        let token = choice[RECENT + i];
        var is_last = token < step.count;
        for (var j = i + 1u; j < count; j++) {
            is_last = is_last && choice[RECENT + j] != token;
        }
        if (is_last) {
            let score = scores[token];
            scores[token] = select(score / PENALTY, score * PENALTY, score < 0.0);
        }
    }
}
