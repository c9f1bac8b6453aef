// As `attention`, for heads of whole vectors of eight numbers. A team of 64 lanes takes every TEAMS-th block of 64 tokens: a
// lane scores a token, then all share the values, a lane eight numbers of every GROUPS-th token. Loads don't wait for one
// another, which is what a graphics card's time goes to.
override HEADS: u32 = 1u;
override KV_HEADS: u32 = 1u;
override HEAD_DIM: u32 = 8u;
// HEAD_DIM / 8, HEAD_DIM / 4, and how many times LANES has the former.
override EIGHTS: u32 = 1u;
override QUARTERS: u32 = 2u;
override GROUPS: u32 = 64u;
override TEAMS: u32 = 1u;
// TEAMS times 64, 16 and 128; sizes of their own, because not every compiler takes a product for an array.
override LANES: u32 = 64u;
override WEIGHTS: u32 = 16u;
override SUMS: u32 = 128u;
// Whether token `row` sees the first `position + row + 1` tokens; else it sees those from ranges[row].x up to ranges[row].y.
override CAUSAL: bool = true;
// Rows of several texts: ranges has two entries for each of them, which row it is, then which pair of numbers its text's
// keys begin with, and how many tokens it sees.
override TEXTS: bool = false;
override SLOPES: bool = false;
// Lanes of a team, and a quarter of them.
const TEAM: u32 = 64u;
const TEAM_QUARTERS: u32 = 16u;

@group(0) @binding(3) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> slopes: array<f32>;
@group(0) @binding(5) var<storage, read> ranges: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
// Of each split: the highest score, the sum of weights, the weighted sum of values.
@group(0) @binding(7) var<storage, read_write> parts: array<f32>;

var<workgroup> query: array<vec4<f32>, QUARTERS>;
var<workgroup> weights: array<vec4<f32>, WEIGHTS>;
var<workgroup> sums: array<vec4<f32>, SUMS>;
// The highest score and the sum of weights of each team.
var<workgroup> results: array<vec2<f32>, TEAMS>;

fn add(sum: Eight, weight: f32, numbers: Eight) -> Eight {
    return Eight(sum.low + weight * numbers.low, sum.high + weight * numbers.high);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    const LOWEST = -3.0e38;
    let head = group.x;
    var row = group.y;
    let lane = index % TEAM;
    let team = index / TEAM;
    let own_weights = team * TEAM_QUARTERS;
    let kv_head = head / (HEADS / KV_HEADS);
    var range = vec2<u32>(0u, step.position + row + 1u);
    var start = 0u;
    if (TEXTS) {
        let own = ranges[2u * group.y + 1u];
        start = own.x / 4u;
        range = vec2<u32>(0u, own.y);
        row = ranges[2u * group.y].x;
    } else if (!CAUSAL) {
        range = ranges[row];
    }
    let first = range.x + group.z * step.first;
    let end = min(range.y, first + step.first);
    let scale = inverseSqrt(f32(HEAD_DIM));
    for (var i = index; i < QUARTERS; i += LANES) {
        query[i] = q[(row * HEADS + head) * QUARTERS + i] * scale;
    }
    workgroupBarrier();
    let column = lane % EIGHTS;
    let own_group = lane / EIGHTS;
    var top = LOWEST;
    var sum = 0.0;
    var numbers = Eight(vec4<f32>(0.0), vec4<f32>(0.0));
    for (var blocks = first; blocks < end; blocks += LANES) {
        // A team behind the last token has no token of its own, and gives those of others no weight.
        let block = blocks + team * TEAM;
        let count = min(TEAM, max(end, block) - block);
        let token = min(block + lane, end - 1u);
        let key_at = start + (token * KV_HEADS + kv_head) * EIGHTS;
        var products = vec4<f32>(0.0);
        for (var i = 0u; i < EIGHTS; i++) {
            let k = key(key_at + i);
            products += query[2u * i] * k.low + query[2u * i + 1u] * k.high;
        }
        var score = products.x + products.y + products.z + products.w;
        if (SLOPES) {
            score -= slopes[head] * f32(range.y - 1u - token);
        }
        score = select(LOWEST, score, lane < count);
        weights[own_weights + lane / 4u][lane % 4u] = score;
        workgroupBarrier();
        var tops = vec4<f32>(top);
        for (var i = 0u; i < TEAM_QUARTERS; i++) {
            tops = max(tops, weights[own_weights + i]);
        }
        let new_top = max(max(tops.x, tops.y), max(tops.z, tops.w));
        workgroupBarrier();
        weights[own_weights + lane / 4u][lane % 4u] = select(0.0, exp(score - new_top), lane < count);
        workgroupBarrier();
        let shrink = exp(top - new_top);
        top = new_top;
        var block_sum = vec4<f32>(0.0);
        for (var i = 0u; i < TEAM_QUARTERS; i++) {
            block_sum += weights[own_weights + i];
        }
        sum = sum * shrink + dot(block_sum, vec4<f32>(1.0));
        numbers = Eight(numbers.low * shrink, numbers.high * shrink);
        if (own_group < GROUPS) {
            // Four tokens at once; those behind the last one have no weight.
            for (var i = own_group; i < count; i += 4u * GROUPS) {
                let four = min(vec4<u32>(i) + GROUPS * vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(TEAM - 1u));
                let is_new = vec4<u32>(i) + GROUPS * vec4<u32>(0u, 1u, 2u, 3u) == four;
                let token = min(vec4<u32>(block) + four, vec4<u32>(end - 1u));
                let at = (token * KV_HEADS + kv_head) * EIGHTS + start + column;
                let a = value(at.x);
                let b = value(at.y);
                let c = value(at.z);
                let d = value(at.w);
                let quarter = own_weights + four / 4u;
                let place = four % 4u;
                numbers = add(numbers, select(0.0, weights[quarter.x][place.x], is_new.x), a);
                numbers = add(numbers, select(0.0, weights[quarter.y][place.y], is_new.y), b);
                numbers = add(numbers, select(0.0, weights[quarter.z][place.z], is_new.z), c);
                numbers = add(numbers, select(0.0, weights[quarter.w][place.w], is_new.w), d);
            }
        }
        workgroupBarrier();
    }
    sums[2u * index] = numbers.low;
    sums[2u * index + 1u] = numbers.high;
    if (lane == 0u) {
        results[team] = vec2<f32>(top, sum);
    }
    workgroupBarrier();
    if (index >= QUARTERS) {
        return;
    }
    top = results[0].x;
    for (var i = 1u; i < TEAMS; i++) {
        top = max(top, results[i].x);
    }
    sum = 0.0;
    var result = vec4<f32>(0.0);
    for (var i = 0u; i < TEAMS; i++) {
        let shrink = exp(results[i].x - top);
        sum += shrink * results[i].y;
        var of_team = vec4<f32>(0.0);
        for (var j = 0u; j < GROUPS; j++) {
            of_team += sums[i * 2u * TEAM + j * QUARTERS + index];
        }
        result += shrink * of_team;
    }
    if (step.count == 1u) {
        let at = (row * HEADS + head) * HEAD_DIM + 4u * index;
        result /= sum;
        out[at] = result.x;
        out[at + 1u] = result.y;
        out[at + 2u] = result.z;
        out[at + 3u] = result.w;
        return;
    }
    let at = ((row * HEADS + head) * step.count + group.z) * (HEAD_DIM + 2u);
    if (index == 0u) {
        parts[at] = top;
        parts[at + 1u] = sum;
    }
    parts[at + 2u + 4u * index] = result.x;
    parts[at + 3u + 4u * index] = result.y;
    parts[at + 4u + 4u * index] = result.z;
    parts[at + 5u + 4u * index] = result.w;
}
