// Queries and keys normed by head (NORM) and turned by their positions; keys and values go to the cache. A workgroup has
// one head of one token: first the heads of the queries, then those of the keys, then those of the values.
override HEADS: u32 = 1u;
override KV_HEADS: u32 = 1u;
override HEAD_DIM: u32 = 2u;
// Rotary pairs of a head; 0 for none.
override PAIRS: u32 = 0u;
// Whether a pair is two neighbours, or i and i + PAIRS.
override NEIGHBOURS: bool = false;
override NORM: bool = false;
override EPSILON: f32 = 0.0;
// Rows of several texts: before the turns stands for each of the `step.count` of them which row it is, and the pair of numbers
// in the cache where its own begin.
override TEXTS: bool = false;
const LANES: u32 = 64u;

@group(0) @binding(3) var<storage, read_write> q: array<f32>;
@group(0) @binding(4) var<storage, read_write> k: array<f32>;
@group(0) @binding(5) var<storage, read_write> v: array<f32>;
@group(0) @binding(6) var<storage, read> q_gain: array<f32>;
@group(0) @binding(7) var<storage, read> k_gain: array<f32>;
// Cosine and sine of each row's pairs. They come from the processor: a device's own need not be right for large angles.
@group(0) @binding(8) var<storage, read> turns: array<vec2<u32>>;

var<workgroup> head: array<f32, HEAD_DIM>;

fn turn_of(row: u32, pair: u32) -> vec2<f32> {
    return bitcast<vec2<f32>>(turns[step.count + row * PAIRS + pair]);
}

fn turned(row: u32, i: u32) -> f32 {
    if (i >= 2u * PAIRS) {
        return head[i];
    }
    if (NEIGHBOURS) {
        let turn = turn_of(row, i / 2u);
        return head[i] * turn.x + select(-turn.y, turn.y, (i & 1u) == 1u) * head[i ^ 1u];
    }
    if (i < PAIRS) {
        let turn = turn_of(row, i);
        return head[i] * turn.x - head[i + PAIRS] * turn.y;
    }
    let turn = turn_of(row, i - PAIRS);
    return head[i] * turn.x + head[i - PAIRS] * turn.y;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var row = group.y;
    var first_pair = (step.position + row) * KV_HEADS * HEAD_DIM / 2u;
    if (TEXTS) {
        let own = turns[group.y];
        row = own.x;
        first_pair = own.y;
    }
    let is_query = group.x < HEADS;
    let is_key = !is_query && group.x < HEADS + KV_HEADS;
    let kv_head = select(group.x - HEADS - KV_HEADS, group.x - HEADS, is_key);
    let pair = first_pair + kv_head * HEAD_DIM / 2u;
    if (!is_query && !is_key) {
        let source = (row * KV_HEADS + kv_head) * HEAD_DIM;
        for (var i = lane; i < HEAD_DIM / 2u; i += LANES) {
            write_value(pair + i, vec2<f32>(v[source + 2u * i], v[source + 2u * i + 1u]));
        }
        return;
    }
    let source = select((row * KV_HEADS + kv_head) * HEAD_DIM, (row * HEADS + group.x) * HEAD_DIM, is_query);
    for (var i = lane; i < HEAD_DIM; i += LANES) {
        if (is_query) {
            head[i] = q[source + i];
        } else {
            head[i] = k[source + i];
        }
    }
    workgroupBarrier();
    if (NORM) {
        var squares = 0.0;
        for (var i = 0u; i < HEAD_DIM; i++) {
            squares += head[i] * head[i];
        }
        let scale = inverseSqrt(squares / f32(HEAD_DIM) + EPSILON);
        workgroupBarrier();
        for (var i = lane; i < HEAD_DIM; i += LANES) {
            if (is_query) {
                head[i] = head[i] * scale * q_gain[i];
            } else {
                head[i] = head[i] * scale * k_gain[i];
            }
        }
        workgroupBarrier();
    }
    if (is_query) {
        for (var i = lane; i < HEAD_DIM; i += LANES) {
            q[source + i] = turned(row, i);
        }
    } else {
        for (var i = lane; i < HEAD_DIM / 2u; i += LANES) {
            write_key(pair + i, vec2<f32>(turned(row, 2u * i), turned(row, 2u * i + 1u)));
        }
    }
}
