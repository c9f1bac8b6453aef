// Attention of one head of one token over a range of cached tokens (Dao et al. 2022), which several workgroups may share,
// `step.first` tokens each (split-K): block after block of 64 tokens, a lane scores a token, then sums up pairs of the values' numbers.
override HEADS: u32 = 1u;
override KV_HEADS: u32 = 1u;
override HEAD_DIM: u32 = 2u;
// Half of it; a size of its own, because not every compiler takes a quotient for an array.
override PAIRS: u32 = 1u;
// Whether token `row` sees the first `position + row + 1` tokens; else it sees those from ranges[row].x up to ranges[row].y.
override CAUSAL: bool = true;
// Rows of several texts: ranges has two entries for each of them, which row it is, then which pair of numbers its text's
// keys begin with, and how many tokens it sees.
override TEXTS: bool = false;
override SLOPES: bool = false;
const LANES: u32 = 64u;
// Pairs of a head that a lane sums up: up to 256 numbers a head.
const PAIRS_OF_LANE: u32 = 2u;

@group(0) @binding(3) var<storage, read> q: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> slopes: array<f32>;
@group(0) @binding(5) var<storage, read> ranges: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
// Of each split: the highest score, the sum of weights, the weighted sum of values.
@group(0) @binding(7) var<storage, read_write> parts: array<f32>;

var<workgroup> query: array<vec2<f32>, PAIRS>;
var<workgroup> weights: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    const LOWEST = -3.0e38;
    let head = group.x;
    var row = group.y;
    let pairs = PAIRS;
    let kv_head = head / (HEADS / KV_HEADS);
    var range = vec2<u32>(0u, step.position + row + 1u);
    var start = 0u;
    if (TEXTS) {
        let own = ranges[2u * group.y + 1u];
        start = own.x;
        range = vec2<u32>(0u, own.y);
        row = ranges[2u * group.y].x;
    } else if (!CAUSAL) {
        range = ranges[row];
    }
    let first = range.x + group.z * step.first;
    let end = min(range.y, first + step.first);
    let scale = inverseSqrt(f32(HEAD_DIM));
    for (var i = lane; i < pairs; i += LANES) {
        query[i] = q[(row * HEADS + head) * pairs + i] * scale;
    }
    workgroupBarrier();
    var top = LOWEST;
    var sum = 0.0;
    var values: array<vec2<f32>, PAIRS_OF_LANE>;
    for (var block = first; block < end; block += LANES) {
        let count = min(LANES, end - block);
        var score = LOWEST;
        if (lane < count) {
            let at = start + ((block + lane) * KV_HEADS + kv_head) * pairs;
            var both = vec2<f32>(0.0);
            for (var i = 0u; i < pairs; i++) {
                both += query[i] * key(at + i);
            }
            score = both.x + both.y;
            if (SLOPES) {
                score -= slopes[head] * f32(range.y - 1u - block - lane);
            }
        }
        weights[lane] = score;
        workgroupBarrier();
        var new_top = top;
        for (var i = 0u; i < count; i++) {
            new_top = max(new_top, weights[i]);
        }
        workgroupBarrier();
        weights[lane] = exp(score - new_top);
        workgroupBarrier();
        let shrink = exp(top - new_top);
        sum *= shrink;
        for (var j = 0u; j < PAIRS_OF_LANE; j++) {
            values[j] *= shrink;
        }
        for (var i = 0u; i < count; i++) {
            let weight = weights[i];
            let at = start + ((block + i) * KV_HEADS + kv_head) * pairs;
            sum += weight;
            for (var j = 0u; j < PAIRS_OF_LANE; j++) {
                if (lane + j * LANES < pairs) {
                    values[j] += weight * value(at + lane + j * LANES);
                }
            }
        }
        top = new_top;
        workgroupBarrier();
    }
    if (step.count == 1u) {
        for (var j = 0u; j < PAIRS_OF_LANE; j++) {
            let pair = lane + j * LANES;
            if (pair < pairs) {
                let at = (row * HEADS + head) * HEAD_DIM + 2u * pair;
                out[at] = values[j].x / sum;
                out[at + 1u] = values[j].y / sum;
            }
        }
        return;
    }
    let at = ((row * HEADS + head) * step.count + group.z) * (HEAD_DIM + 2u);
    if (lane == 0u) {
        parts[at] = top;
        parts[at + 1u] = sum;
    }
    for (var j = 0u; j < PAIRS_OF_LANE; j++) {
        let pair = lane + j * LANES;
        if (pair < pairs) {
            parts[at + 2u + 2u * pair] = values[j].x;
            parts[at + 3u + 2u * pair] = values[j].y;
        }
    }
}
