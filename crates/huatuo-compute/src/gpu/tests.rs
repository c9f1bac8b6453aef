//! Every kernel beside its twin on the CPU, on shapes that fill blocks, tiles and workgroups and on those that don't.

use std::sync::OnceLock;

use pollster::block_on;

use super::tuning::{Few, Layout, Shape, Tuning, Way};
use super::{Gpu, GpuBuffer, GpuOptions};
use crate::cpu::to_f32;
use crate::{
    Attention, Automaton, ChoiceRule, Cpu, Device, Draw, Encoding, Heads, Linear, Norm, Pairing, Precision, Rotary,
    Span, TensorView,
};

/// Devices with and without subgroups.
fn devices() -> &'static [Gpu] {
    &all_devices()[..2]
}

/// The same, and some with layouts that graphics cards get, one in half precision, the last two with some tokens at once. `HUATUO_GPU` names an adapter;
/// where there is none the tests fail, because `cargo xtask test` installs one that computes on the processor.
fn all_devices() -> &'static [Gpu] {
    static DEVICES: OnceLock<Vec<Gpu>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let device = |subgroups, tuning| {
            let adapter = std::env::var("HUATUO_GPU").ok();
            let options = GpuOptions { adapter, subgroups, ..GpuOptions::default() };
            block_on(Gpu::request_tuned(&options, tuning)).expect("an adapter; `cargo xtask test` installs Mesa's")
        };
        let tuning =
            |lanes, row_groups, way, prefill| Some(Tuning::all(Shape { lanes, row_groups, way }, None, prefill));
        let few = |few: [(usize, usize); 2]| {
            let few = few.map(|(lanes, row_groups)| Few { lanes, row_groups });
            Some(Tuning::all(Shape { lanes: 512, row_groups: 1, way: Way::Plain }, Some(few), Way::Tiles))
        };
        vec![
            device(false, None),
            device(true, None),
            device(true, tuning(512, 1, Way::Plain, Way::Plain)),
            device(false, tuning(2048, 2, Way::Plain, Way::Tiles)),
            device(true, tuning(512, 1, Way::Bytes, Way::Bytes)),
            device(false, tuning(2048, 2, Way::Bytes, Way::Tiles)),
            device(false, tuning(2048, 2, Way::Plain, Way::Halves)),
            device(true, few([(512, 1), (0, 8)])),
            device(false, few([(2048, 2), (4096, 4)])),
        ]
    })
}

fn noise(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn tensor<'a>(shape: &'a [usize], encoding: Encoding, bytes: &'a [u8]) -> TensorView<'a> {
    TensorView { name: "test", shape, encoding, bytes }
}

fn vector<D: Device>(device: &D, numbers: &[f32]) -> D::Buffer {
    device.vector(&tensor(&[numbers.len()], Encoding::F32, bytemuck::cast_slice(numbers))).unwrap()
}

/// Weights of any encoding: made-up blocks with sane scales.
fn weights(encoding: Encoding, rows: usize, columns: usize) -> Vec<u8> {
    let numbers = noise(rows + columns, rows * columns);
    match encoding {
        Encoding::F32 => bytemuck::cast_slice(&numbers).to_vec(),
        Encoding::F16 => numbers.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
        Encoding::Bf16 => numbers.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
        _ => {
            let blocks = rows * columns / encoding.block_len();
            let mut bytes: Vec<u8> =
                (0..blocks * encoding.block_bytes()).map(|i| (i * 151 + i / 7 * 31) as u8).collect();
            for (i, block) in bytes.chunks_exact_mut(encoding.block_bytes()).enumerate() {
                let scale = half::f16::from_f32(0.001 * (1 + i % 5) as f32).to_le_bytes();
                match encoding {
                    Encoding::Q8_0 | Encoding::Q4_0 => block[..2].copy_from_slice(&scale),
                    Encoding::Q4K | Encoding::Q5K => {
                        block[..2].copy_from_slice(&scale);
                        block[2..4].copy_from_slice(&scale);
                    }
                    _ => block[208..].copy_from_slice(&half::f16::from_f32(0.0001).to_le_bytes()),
                }
            }
            bytes
        }
    }
}

/// Activations as products of bytes see them.
fn as_bytes(x: &mut [f32]) {
    for block in x.chunks_mut(32) {
        let top = block.iter().fold(0.0f32, |top, x| top.max(x.abs()));
        block.iter_mut().for_each(|x| *x = (*x / top * 127.0 + 0.5).floor() * (top / 127.0));
    }
}

#[track_caller]
fn same(gpu: &Gpu, got: &GpuBuffer, wanted: &[f32], allowed: f32, what: &str) {
    let mut numbers = vec![f32::NAN; wanted.len()];
    block_on(gpu.read(got, 0, &mut numbers)).unwrap();
    let scale = wanted.iter().fold(1.0f32, |most, x| most.max(x.abs()));
    for (i, (got, wanted)) in numbers.iter().zip(wanted).enumerate() {
        assert!((got - wanted).abs() <= allowed * scale, "{what} on {gpu:?}, number {i}: {got}, wanted {wanted}");
    }
}

/// Shapes `[rows, columns]` of weights; quantized rows are whole blocks.
fn shapes(encoding: Encoding) -> Vec<(usize, usize)> {
    match encoding.block_len() {
        256 => vec![(1, 256), (9, 512), (65, 2304)],
        32 => vec![(1, 32), (9, 96), (70, 896), (130, 2112)],
        _ => vec![(1, 4), (7, 36), (70, 896), (129, 2052), (130, 2080)],
    }
}

#[test]
fn products_are_those_of_the_dequantized_weights() {
    let cpu = Cpu::new();
    for (i, gpu) in all_devices().iter().enumerate() {
        for encoding in Encoding::ALL {
            // Each shape is a kernel of its own, which Mesa compiles for half a second: two of them for the layouts of cards.
            let shapes = match shapes(encoding)[..] {
                [_, small, .., odd, whole] if i >= devices().len() && encoding.block_len() == 1 => {
                    vec![small, odd, whole]
                }
                [_, small, .., large] if i >= devices().len() => vec![small, large],
                ref all => all.to_vec(),
            };
            for (m, n) in shapes {
                let bytes = weights(encoding, m, n);
                let shape = [m, n];
                let view = tensor(&shape, encoding, &bytes);
                // With scales rounded as both devices round them.
                let mut single = vec![0.0; m * n];
                cpu.embed(&cpu.matrix(&view).unwrap(), &(0..m as u32).collect::<Vec<_>>(), &mut single);
                let twin = cpu.matrix(&tensor(&shape, Encoding::F32, bytemuck::cast_slice(&single))).unwrap();
                let (matrix, bias) = (gpu.matrix(&view).unwrap(), noise(3, m));
                for rows in [1, 3, 5, 64, 67] {
                    let mut x = noise(rows, rows * n);
                    let on_gpu = vector(gpu, &x);
                    let way = match gpu.layout(&matrix, rows) {
                        Layout::One => gpu.tuning().plan(encoding).decode.way,
                        Layout::Few { .. } => Way::Plain,
                        Layout::Many(way) => way,
                    };
                    if way == Way::Bytes && encoding.block_len() > 1 {
                        as_bytes(&mut x);
                    }
                    let mut wanted = vec![0.0; rows * m];
                    let twin_bias = Some(bias.clone());
                    let projection = crate::Projection { weight: &twin, bias: twin_bias.as_ref(), out: &mut wanted };
                    cpu.project(&x, rows, &mut [projection]);
                    let gpu_bias = vector(gpu, &bias);
                    let mut out = gpu.buffer(rows * m);
                    let projection = crate::Projection { weight: &matrix, bias: Some(&gpu_bias), out: &mut out };
                    gpu.project(&on_gpu, rows, &mut [projection]);
                    // Half precision has eleven bits.
                    let allowed = if way == Way::Halves && gpu.has_way(way) { 3e-3 } else { 2e-5 };
                    same(gpu, &out, &wanted, allowed, &format!("{encoding:?} {m}x{n}, {rows} rows"));
                }
            }
        }
    }
}

#[test]
fn embeddings_are_rows_of_the_table() {
    let cpu = Cpu::new();
    for gpu in devices() {
        for encoding in Encoding::ALL {
            for (m, n) in shapes(encoding) {
                let bytes = weights(encoding, m, n);
                let shape = [m, n];
                let (table, twin) =
                    (gpu.matrix(&tensor(&shape, encoding, &bytes)), cpu.matrix(&tensor(&shape, encoding, &bytes)));
                let ids = [0, m as u32 - 1, m as u32 / 2];
                let (mut out, mut wanted) = (gpu.buffer(3 * n), vec![0.0; 3 * n]);
                gpu.embed(&table.unwrap(), &ids, &mut out);
                cpu.embed(&twin.unwrap(), &ids, &mut wanted);
                same(gpu, &out, &wanted, 1e-6, &format!("{encoding:?} {m}x{n}"));
            }
        }
    }
}

/// A linear layer on a device.
fn linear<D: Device>(device: &D, encoding: Encoding, (m, n): (usize, usize), bias: bool) -> Linear<D> {
    let (bytes, shape) = (weights(encoding, m, n), [m, n]);
    let single = to_f32(&tensor(&shape, encoding, &bytes));
    let weight = device.matrix(&tensor(&shape, Encoding::F32, bytemuck::cast_slice(&single))).unwrap();
    Linear { weight, bias: bias.then(|| vector(device, &noise(m, m))) }
}

/// The first part of a block, as the decoder asks for it.
fn block<D: Device>(device: &D, rows: usize, hidden: usize, ff: usize, biased: bool) -> Vec<D::Buffer> {
    let layer = |m, n| linear(device, Encoding::F32, (m, n), biased);
    let [q, k, v] = device.join([layer(hidden, hidden), layer(64, hidden), layer(32, hidden)]);
    let [gate, up] = device.join([layer(ff, hidden), layer(ff, hidden)]);
    let down = layer(hidden, ff);
    let mut x = vector(device, &noise(5, rows * hidden));
    let norm = Norm { weight: vector(device, &noise(6, hidden)), epsilon: 1e-5 };
    let mut normed = device.buffer(rows * hidden);
    let [mut a, mut b, mut c] = device.buffers([rows * hidden, rows * 64, rows * 32]);
    let [mut g, mut u] = device.buffers([rows * ff, rows * ff]);
    device.norm_project(&x, &norm, rows, &mut normed, &mut [q.onto(&mut a), k.onto(&mut b), v.onto(&mut c)]);
    device.norm_gate(&x, &norm, rows, &mut normed, [gate.onto(&mut g), up.onto(&mut u)]);
    device.project_add(&g, rows, &down, &mut normed, &mut x);
    vec![a, b, c, g, x]
}

#[test]
fn fused_layers_are_those_made_one_after_the_other() {
    // Without the one in half precision.
    for gpu in all_devices()[..6].iter().chain(&all_devices()[7..]) {
        for (rows, hidden, ff) in [(1, 64, 36), (2, 96, 300), (4, 896, 64), (5, 64, 36), (64, 96, 300)] {
            for biased in [false, true] {
                let wanted = block(&Cpu::new(), rows, hidden, ff, biased);
                let got = block(gpu, rows, hidden, ff, biased);
                for (i, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
                    same(gpu, got, wanted, 1e-4, &format!("result {i} of {rows} rows, {hidden}, {ff}, bias {biased}"));
                }
            }
        }
    }
}

#[test]
fn norms_and_activations_are_their_twins() {
    let cpu = Cpu::new();
    for gpu in &all_devices()[..4] {
        for (rows, columns) in [(1, 4), (3, 65), (7, 896)] {
            let len = rows * columns;
            let (x, y, w, b) = (noise(1, len), noise(2, len), noise(3, columns), noise(4, columns));
            let on = |numbers: &[f32]| vector(gpu, numbers);
            let (mut out, mut wanted) = (gpu.buffer(len), vec![0.0; len]);
            gpu.rms_norm(&on(&x), &on(&w), 1e-5, rows, &mut out);
            cpu.rms_norm(&x, &w, 1e-5, rows, &mut wanted);
            same(gpu, &out, &wanted, 1e-5, "rms_norm");
            let (mut out, mut wanted) = (on(&x), x.clone());
            gpu.add_layer_norm(&mut out, &on(&y), &on(&w), &on(&b), 1e-5, rows);
            cpu.add_layer_norm(&mut wanted, &y, &w, &b, 1e-5, rows);
            same(gpu, &out, &wanted, 1e-5, "add_layer_norm");
            let (mut out, mut wanted) = (on(&x), x.clone());
            gpu.silu_mul(&mut out, &on(&y), len);
            cpu.silu_mul(&mut wanted, &y, len);
            gpu.add(&mut out, &on(&y), len);
            cpu.add(&mut wanted, &y, len);
            gpu.gelu(&mut out, len);
            cpu.gelu(&mut wanted, len);
            same(gpu, &out, &wanted, 1e-5, "silu_mul, add, gelu");
            let (mut out, mut wanted) = (gpu.buffer(4), vec![0.0; 4]);
            gpu.copy_rows(&on(&x), len / 4 - 1, 1, 4, &mut out, 0);
            cpu.copy_rows(&x, len / 4 - 1, 1, 4, &mut wanted, 0);
            same(gpu, &out, &wanted, 0.0, "copy_rows");
        }
    }
}

/// Attention of a chunk behind what was read before; what it gives, and the keys that the cache holds.
fn attend<D: Device>(
    device: &D,
    shape: Attention,
    (before, rows): (usize, usize),
    precision: Precision,
    pairing: Pairing,
    (normed, biased): (bool, bool),
) -> Vec<D::Buffer> {
    let Attention { heads, kv_heads, head_dim } = shape;
    let frequencies: Vec<f32> = (0..head_dim / 4).map(|i| 1.0 / (1 + i) as f32).collect();
    let rotary = (!biased).then_some(Rotary { frequencies: &frequencies, pairing });
    let norm = |seed| Norm { weight: vector(device, &noise(seed, head_dim)), epsilon: 1e-5 };
    let norms = normed.then(|| [norm(7), norm(8)]);
    let slopes = biased.then(|| vector(device, &(0..heads).map(|h| 0.5f32.powi(h as i32)).collect::<Vec<_>>()));
    let mut cache = device.cache(kv_heads, head_dim, precision);
    let mut out = device.buffer(rows * heads * head_dim);
    const CHUNK: usize = 64; // as the decoder's
    let chunks = (0..before).step_by(CHUNK).map(|first| (first, CHUNK.min(before - first)));
    for (first, count) in chunks.chain([(before, rows)]) {
        let numbers = |seed, width| vector(device, &noise(seed + first, count * width));
        let (q, k, v) =
            (numbers(1, heads * head_dim), numbers(2, kv_heads * head_dim), numbers(3, kv_heads * head_dim));
        let (normed_q, normed_k) =
            (device.buffer(count * heads * head_dim), device.buffer(count * kv_heads * head_dim));
        let mut heads = Heads { q, k, v, normed_q, normed_k };
        device.turn_and_store(shape, &mut heads, norms.as_ref(), rotary, &mut cache, count, first);
        if first == before {
            device.causal_attention(shape, &heads.q, &cache, slopes.as_ref(), count, first, &mut out);
        }
    }
    let len = (before + rows) * kv_heads * head_dim;
    let (mut keys, mut values) = (device.buffer(len), device.buffer(len));
    device.recall(&cache, before + rows, &mut keys, &mut values);
    vec![out, keys, values]
}

#[test]
fn attention_is_its_twin() {
    for gpu in &all_devices()[1..4] {
        for (heads, kv_heads, head_dim) in [(1, 1, 4), (6, 2, 64), (3, 3, 80), (4, 1, 128), (2, 2, 256)] {
            let shape = Attention { heads, kv_heads, head_dim };
            for range in [(0, 1), (0, 5), (30, 9), (64, 2), (300, 1), (700, 3)] {
                for (precision, allowed) in [(Precision::F32, 2e-5), (Precision::F16, 2e-3)] {
                    for pairing in [Pairing::Halves, Pairing::Neighbours] {
                        for options in [(false, false), (true, false), (false, true)] {
                            let wanted = attend(&Cpu::new(), shape, range, precision, pairing, options);
                            let got = attend(gpu, shape, range, precision, pairing, options);
                            for (i, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
                                let what = format!("{i} of {shape:?} {range:?} {precision:?} {pairing:?} {options:?}");
                                same(gpu, got, wanted, allowed, &what);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Steps of several texts that are read together, of other lengths each; what the last one gives, and what the caches hold then.
fn attend_together<D: Device>(device: &D, shape: Attention, precision: Precision, biased: bool) -> Vec<D::Buffer> {
    let Attention { heads, kv_heads, head_dim } = shape;
    let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    let frequencies: Vec<f32> = (0..head_dim / 4).map(|i| 1.0 / (1 + i) as f32).collect();
    let rotary = (!biased).then_some(Rotary { frequencies: &frequencies, pairing: Pairing::Halves });
    let norms =
        biased.then(|| [7, 8].map(|seed| Norm { weight: vector(device, &noise(seed, head_dim)), epsilon: 1e-5 }));
    let slopes = biased.then(|| vector(device, &(0..heads).map(|h| 0.5f32.powi(h as i32)).collect::<Vec<_>>()));
    let mut caches: Vec<(D::Cache, usize)> = (0..4).map(|_| (device.cache(kv_heads, head_dim, precision), 0)).collect();
    let mut out = device.buffer(0);
    // The second text outgrows its first room, and the last two begin where others are at work.
    let steps = [[70, 60, 0, 0], [1, 64, 0, 0], [1, 64, 3, 0], [1, 64, 1, 40], [1, 12, 1, 0], [1, 1, 1, 1]];
    for (seed, step) in steps.into_iter().enumerate() {
        let rows: usize = step.iter().sum();
        let numbers = |kind: usize, width| vector(device, &noise(3 * seed + kind, rows * width));
        let [q, k, v] = [numbers(0, width), numbers(1, kv_width), numbers(2, kv_width)];
        let (normed_q, normed_k) = (device.buffer(rows * width), device.buffer(rows * kv_width));
        let mut heads = Heads { q, k, v, normed_q, normed_k };
        out = device.buffer(rows * width);
        let texts = caches.iter_mut().zip(step).filter(|(_, rows)| *rows > 0);
        let mut spans: Vec<Span<'_, D>> =
            texts.map(|((cache, position), rows)| Span { rows, position: *position, cache }).collect();
        device.attend(shape, &mut heads, norms.as_ref(), rotary, slopes.as_ref(), &mut spans, &mut out);
        caches.iter_mut().zip(step).for_each(|((_, tokens), rows)| *tokens += rows);
    }
    // A copy of a text's beginning, which goes on by itself.
    let mut fork = device.fork(&caches[1].0, 100);
    let [k, v] = [1, 2].map(|seed| vector(device, &noise(seed, kv_width)));
    device.store(&mut fork, &k, &v, 1, 100);
    let [(first, tokens), second, ..] = &mut caches[..] else { unreachable!() };
    let mut all = vec![out];
    let (mut keys, mut values) = (device.buffer(*tokens * kv_width), device.buffer(*tokens * kv_width));
    device.recall(first, *tokens, &mut keys, &mut values);
    all.extend([keys, values]);
    for (cache, tokens) in [(&second.0, second.1), (&fork, 101)] {
        let (mut keys, mut values) = (device.buffer(tokens * kv_width), device.buffer(tokens * kv_width));
        device.recall(cache, tokens, &mut keys, &mut values);
        all.extend([keys, values]);
    }
    all
}

#[test]
fn texts_attend_together_as_their_twins_do_wherever_their_caches_lie() {
    let device = |tuning| {
        let adapter = std::env::var("HUATUO_GPU").ok();
        let options = GpuOptions { adapter, ..GpuOptions::default() };
        block_on(Gpu::request_tuned(&options, tuning)).expect("an adapter; `cargo xtask test` installs Mesa's")
    };
    let vectors = Tuning::all(Shape { lanes: 512, row_groups: 1, way: Way::Plain }, None, Way::Tiles);
    for tuning in [None, Some(vectors)] {
        // Memory of their own, slabs that few caches fill (the second text's room doubles), and one for all.
        for slab in [0, 1 << 21, 1 << 24] {
            let gpu = &device(tuning);
            if slab > 0 {
                gpu.share_caches(slab);
            }
            for (heads, kv_heads, head_dim) in [(6, 2, 64), (3, 3, 20)] {
                let shape = Attention { heads, kv_heads, head_dim };
                for (precision, allowed) in [(Precision::F32, 2e-5), (Precision::F16, 2e-3)] {
                    for biased in [false, true] {
                        let wanted = attend_together(&Cpu::new(), shape, precision, biased);
                        let got = attend_together(gpu, shape, precision, biased);
                        for (i, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
                            let what = format!("{i} of {shape:?} {precision:?}, biased {biased}, slabs of {slab}");
                            same(gpu, got, wanted, allowed, &what);
                        }
                    }
                }
            }
            assert_eq!((gpu.cache_memory(), gpu.shared.slabs.count()), (0, 0), "caches are gone, and slabs with them");
        }
    }
}

#[test]
fn a_chunk_of_the_longest_heads_is_turned_in_one_run() {
    let shape = Attention { heads: 1, kv_heads: 1, head_dim: 256 };
    let turned = |rows| {
        let gpu = &devices()[1];
        let frequencies: Vec<f32> = (0..128).map(|i| 1.0 / (1 + i) as f32).collect();
        let rotary = Some(Rotary { frequencies: &frequencies, pairing: Pairing::Halves });
        let [q, k, v] = [1, 2, 3].map(|seed| vector(gpu, &noise(seed, rows * 256)));
        let (normed_q, normed_k) = (gpu.buffer(0), gpu.buffer(0));
        let mut heads = Heads { q, k, v, normed_q, normed_k };
        gpu.turn_and_store(shape, &mut heads, None, rotary, &mut gpu.cache(1, 256, Precision::F32), rows, 0);
        let mut numbers = vec![0.0; rows * 256];
        block_on(gpu.read(&heads.q, 0, &mut numbers)).unwrap();
        numbers
    };
    assert_eq!(turned(256)[..64 * 256], turned(64)[..]);
}

#[test]
fn texts_see_only_themselves() {
    let cpu = Cpu::new();
    for gpu in &all_devices()[1..4] {
        for (heads, head_dim) in [(1, 4), (12, 32)] {
            let shape = Attention { heads, kv_heads: heads, head_dim };
            let lengths = [1, 70, 3];
            let len = 74 * heads * head_dim;
            let (q, k, v) = (noise(1, len), noise(2, len), noise(3, len));
            let (mut out, mut wanted) = (gpu.buffer(len), vec![0.0; len]);
            let on = |numbers: &[f32]| vector(gpu, numbers);
            gpu.full_attention(shape, &on(&q), &on(&k), &on(&v), &lengths, &mut out);
            cpu.full_attention(shape, &q, &k, &v, &lengths, &mut wanted);
            same(gpu, &out, &wanted, 2e-5, "full attention");
        }
    }
}

#[test]
fn rope_and_store_alone_are_their_twins() {
    let (cpu, frequencies) = (Cpu::new(), [0.7f32, 0.01]);
    for gpu in devices() {
        for pairing in [Pairing::Halves, Pairing::Neighbours] {
            let rotary = Rotary { frequencies: &frequencies, pairing };
            let x = noise(1, 3 * 2 * 6);
            let (mut out, mut wanted) = (vector(gpu, &x), x.clone());
            gpu.rope(&mut out, 3, 2, 6, 4000, rotary);
            cpu.rope(&mut wanted, 3, 2, 6, 4000, rotary);
            same(gpu, &out, &wanted, 1e-6, "rope");
        }
        let (k, v) = (noise(1, 600 * 8), noise(2, 600 * 8));
        let mut cache = gpu.cache(2, 4, Precision::F32);
        gpu.store(&mut cache, &vector(gpu, &k[..2400]), &vector(gpu, &v[..2400]), 300, 0);
        gpu.store(&mut cache, &vector(gpu, &k[2400..]), &vector(gpu, &v[2400..]), 300, 300);
        let (mut keys, mut values) = (gpu.buffer(k.len()), gpu.buffer(v.len()));
        gpu.recall(&cache, 600, &mut keys, &mut values);
        same(gpu, &keys, &k, 0.0, "a cache that grew");
        same(gpu, &values, &v, 0.0, "a cache that grew");
    }
}

#[test]
fn a_lost_device_is_a_typed_error() {
    let gpu = block_on(Gpu::request(&GpuOptions::default())).unwrap();
    let buffer = vector(&gpu, &[1.0; 4]);
    gpu.lose();
    let read = block_on(gpu.read(&buffer, 0, &mut [0.0; 4]));
    assert_eq!(read, Err(crate::ComputeError::DeviceLost));
}

#[test]
fn the_same_tokens_are_chosen() {
    const VOCABULARY: usize = 2500;
    // Behind a token divisible by 7 an even one must follow, none divisible by 5 ever may.
    let automaton = || {
        let forbidden = |is: bool, state: u32| if is { Automaton::FORBIDDEN } else { state };
        let tokens: Vec<u32> = (0..VOCABULARY as u32).collect();
        Automaton::new(VOCABULARY, 2, &[0, 0], &tokens, |id| {
            let state = u32::from(id.is_multiple_of(7));
            vec![forbidden(id.is_multiple_of(5), state), forbidden(id.is_multiple_of(5) || id % 2 == 1, state)]
        })
    };
    let cpu = Cpu::new();
    for gpu in devices() {
        let draw = |top_k, top_p, min_p| Some(Draw { temperature: 3.0, top_k, top_p, min_p });
        for (with_automaton, penalty, draw) in [
            (false, 1.0, None),
            (true, 1.0, None),
            (true, 1.5, None),
            (false, 0.5, None),
            (true, 1.0, draw(40, 0.9, 0.0)),
            (false, 1.5, draw(64, 1.0, 0.1)),
            (true, 0.5, draw(1, 0.0, 0.0)),
        ] {
            let rule = || ChoiceRule {
                vocabulary: VOCABULARY,
                automaton: with_automaton.then(automaton),
                state: 0,
                draw,
                penalty,
                window: 3,
                written: vec![3, 4, 5, 6, 3],
            };
            let (mut on_gpu, mut on_cpu) = (gpu.chooser(rule()), cpu.chooser(rule()));
            for round in 0..12 {
                let mut scores: Vec<f32> = noise(round, VOCABULARY).iter().map(|x| (x * 20.0).round()).collect();
                let random = (round as f32 * 0.377).fract();
                let listed: Vec<(u32, f32)> = (0..70).map(|i| (i * 31, (i % 3) as f32)).collect();
                let allowed = (round % 3 == 2).then_some(listed.as_slice());
                let mut buffer = vector(gpu, &scores);
                let wanted = cpu.choose(&mut scores, &mut on_cpu, allowed, random);
                let chosen = gpu.choose(&mut buffer, &mut on_gpu, allowed, random);
                assert_eq!(
                    block_on(gpu.chosen(chosen)).unwrap(),
                    wanted,
                    "{with_automaton} {penalty} {draw:?} {round}"
                );
            }
        }
    }
}

#[test]
fn scores_that_are_no_numbers_choose_nothing() {
    for gpu in devices() {
        for score in [f32::NEG_INFINITY, f32::INFINITY, f32::NAN] {
            let rule = ChoiceRule {
                vocabulary: 70,
                automaton: None,
                state: 0,
                draw: None,
                penalty: 1.0,
                window: 0,
                written: Vec::new(),
            };
            let chosen = gpu.choose(&mut vector(gpu, &[score; 70]), &mut gpu.chooser(rule), None, 0.0);
            assert_eq!(block_on(gpu.chosen(chosen)).unwrap(), None, "{score}");
        }
    }
}

#[test]
fn what_is_fastest_is_tried_once_and_kept_as_text() {
    let mut untried = Tuning::all(Shape { lanes: 0, row_groups: 4, way: Way::Plain }, None, Way::Tiles);
    untried.is_card = true;
    let card = || {
        let adapter = std::env::var("HUATUO_GPU").ok();
        let options = GpuOptions { adapter, ..GpuOptions::default() };
        block_on(Gpu::request_tuned(&options, Some(untried))).unwrap()
    };
    let gpu = card();
    let matrix = |encoding, rows| {
        let shape = [rows, 256];
        gpu.matrix(&tensor(&shape, encoding, &weights(encoding, rows, 256))).unwrap()
    };
    let layer = [matrix(Encoding::Q4_0, 64), matrix(Encoding::Q4_0, 32), matrix(Encoding::F16, 64)];
    let layer: Vec<&super::GpuMatrix> = layer.iter().collect();
    assert_eq!(gpu.tokens_at_once(&layer), 64);
    block_on(gpu.tune(&[layer.clone(), layer.clone()])).unwrap();
    let (found, runs) = (gpu.tuning(), gpu.counts());
    let text = found.to_string();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!((16..=256).contains(&gpu.tokens_at_once(&layer)));
    block_on(gpu.tune(&[layer])).unwrap();
    assert_eq!(gpu.counts(), runs, "what is known is not tried again");

    let other = card();
    other.take_tuning(&text);
    assert_eq!(other.tuning().to_string(), text);
    let first = text.lines().next().unwrap();
    for damaged in [
        "",
        "Q4_0 bytes 65536 1 900 512 1 950 512 4 970 bytes 1000 4096",
        "kernels of another version\nQ4_0 bytes 65536 1 900 512 1 950 512 4 970 bytes 1000 4096",
        &format!("{first}\nQ4_0 bytes 65536 1 bytes 1000 4096"),
        &format!("{first}\nQ4_0 bytes 65536 1 900 512 1 950 512 4 970 7 bytes 1000 4096"),
        &format!("{first}\nQ4_0 bytes 65536 3 900 512 1 950 512 4 970 bytes 1000 4096"),
        &format!("{first}\nQ4_0 bytes 65536 4 900 512 1 950 512 4 970 bytes 1000 4096"),
        &format!("{first}\nQ4_0 tiles 65536 1 900 512 1 950 512 4 970 bytes 1000 4096"),
        &format!("{first}\nQ4_0 bytes 99999999999 1 900 512 1 950 512 4 970 bytes 1000 4096"),
        &format!("{first}\nQ4_0 bytes 65536 1 900 512 3 950 512 4 970 bytes 1000 4096"),
        &format!("{first}\nQ4_0 bytes 65536 1 900 512 9 950 512 4 970 bytes 1000 4096"),
        &format!("{first}\nQ4_0 bytes 65536 1 900 512 1 950 512 4 -1 bytes 1000 4096"),
        &format!("{first}\nQ4_0 bytes 65536 1 900 512 1 950 512 4 970 bytes NaN 4096"),
        &format!("{first}\nQ9 bytes 65536 1 900 512 1 950 512 4 970 bytes 1000 4096"),
    ] {
        let fresh = card();
        fresh.take_tuning(damaged);
        assert_eq!(fresh.tuning(), untried, "{damaged}");
    }
}
