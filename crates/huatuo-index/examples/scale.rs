//! Builds indexes of made-up vectors that have the statistics of given ones, and measures building and cold questions as the corpus grows.
//!
//! `scale SEEDS DIMENSIONS FOLDER ROWS SPREAD`: SEEDS are little-endian f32. Each made-up vector lies between a seed's nearest seeds and is
//! moved along their differences, by SPREAD of a normal distribution each; 0.3 gives MiniLM's sentences their local dimension (19) and
//! distances to neighbours. Questions are further such vectors. An index that is in FOLDER already is used. Prints lines of JSON.

mod measuring;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use huatuo_fetch::Source;
use huatuo_index::{Effort, Embed, Index, IndexOptions, IndexWriter, MANIFEST_NAME, Record};
use pollster::block_on;
use rayon::prelude::*;

use measuring::{K, measure, normalise, read_vectors};

/// Seeds that a made-up vector lies between.
const BETWEEN: usize = 16;
/// Questions asked, and the number of the first of their vectors.
const QUERIES: usize = 150;
const FIRST_QUERY: usize = 1 << 40;
/// Rows made together.
const TOGETHER: usize = 4096;

struct Seeds {
    vectors: Vec<f32>,
    neighbours: Vec<u32>,
    dimensions: usize,
    spread: f32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seeds, dimensions, folder, rows, spread] = arguments.as_slice() else {
        return Err("scale SEEDS DIMENSIONS FOLDER ROWS SPREAD".into());
    };
    let (dimensions, rows): (usize, usize) = (dimensions.parse()?, rows.parse()?);
    let seeds = Seeds::read(Path::new(seeds), dimensions, spread.parse()?)?;
    let queries: Vec<f32> = (0..QUERIES).flat_map(|n| seeds.vector(FIRST_QUERY + n)).collect();
    let folder = Path::new(folder);
    let mut seconds = (0.0, 0.0);
    if !folder.join(MANIFEST_NAME).exists() {
        seconds = build(&seeds, rows, folder)?;
    }
    let peak = peak_bytes();
    let truth = exact(&seeds, rows, &queries);
    let index = block_on(Index::open(Source::directory(folder)))?;
    let (opening, resident) = (index.opening().bytes, index.resident_bytes());
    let disk: u64 = index.manifest().packs().map(|pack| pack.bytes).sum();
    let count = index.manifest().packs().count();
    let with = |nodes, list_kilobytes: usize, expand| Effort {
        nodes,
        list_bytes: list_kilobytes << 10,
        expand,
        ..Effort::default()
    };
    let efforts = [
        Effort::default(),
        with(32, 128, 16),
        with(40, 160, 24),
        with(48, 192, 24),
        with(48, 256, 24),
        with(64, 320, 24),
    ];
    for effort in efforts {
        let mut line = measure(folder, &queries, dimensions, &truth, effort)?;
        let of_index = serde_json::json!({
            "rows": rows, "spread": seeds.spread, "add_seconds": seconds.0, "build_seconds": seconds.1, "peak_bytes": peak,
            "disk": disk, "packs": count, "opening_bytes": opening, "resident_bytes": resident,
        });
        line.as_object_mut()
            .into_iter()
            .for_each(|line| line.extend(of_index.as_object().cloned().into_iter().flatten()));
        println!("{line}");
    }
    Ok(())
}

/// Sums side by side, so that the compiler makes SIMD of it.
#[multiversion::multiversion(targets("x86_64+avx2+fma"))]
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1u64 << 24) as f32
}

/// A number of the normal distribution (Box and Muller).
fn normal(state: &mut u64) -> f32 {
    let (a, b) = (random(state).max(1e-7), random(state));
    (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}

impl Seeds {
    /// Reads seeds; which are near which is kept beside the file.
    fn read(path: &Path, dimensions: usize, spread: f32) -> Result<Self, Box<dyn Error>> {
        let vectors = read_vectors(path, dimensions)?;
        let kept = path.with_extension("neighbours");
        if let Ok(bytes) = std::fs::read(&kept) {
            let neighbours = bytes.chunks_exact(4).map(|x| u32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
            return Ok(Self { vectors, neighbours, dimensions, spread });
        }
        let nearest = |query: &[f32]| {
            let mut scored: Vec<(f32, u32)> =
                vectors.chunks_exact(dimensions).map(|vector| product(vector, query)).zip(0..).collect();
            scored.select_nth_unstable_by(BETWEEN, |a, b| b.0.total_cmp(&a.0));
            scored[..BETWEEN].iter().map(|(_, row)| *row).collect::<Vec<_>>()
        };
        let neighbours: Vec<u32> = vectors.par_chunks_exact(dimensions).flat_map_iter(nearest).collect();
        std::fs::write(kept, neighbours.iter().flat_map(|row| row.to_le_bytes()).collect::<Vec<_>>())?;
        Ok(Self { vectors, neighbours, dimensions, spread })
    }

    /// The nth made-up vector.
    fn vector(&self, n: usize) -> Vec<f32> {
        let mut state = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
        random(&mut state);
        let d = self.dimensions;
        let seed = ((random(&mut state) * 16_777_216.0) as usize * 64 + (random(&mut state) * 64.0) as usize)
            % (self.vectors.len() / d);
        let near: Vec<&[f32]> = self.neighbours[seed * BETWEEN..(seed + 1) * BETWEEN]
            .iter()
            .map(|row| &self.vectors[*row as usize * d..(*row as usize + 1) * d])
            .collect();
        // Exponential weights, divided by their sum: any point between the seeds is as likely.
        let mut weights: Vec<f32> = near.iter().map(|_| -random(&mut state).max(1e-7).ln()).collect();
        let sum: f32 = weights.iter().sum();
        let moved: Vec<f32> = near.iter().map(|_| self.spread * normal(&mut state)).collect();
        let mean = moved.iter().sum::<f32>() / BETWEEN as f32;
        weights.iter_mut().zip(moved).for_each(|(weight, moved)| *weight = *weight / sum + moved - mean);
        let mut out = vec![0.0; d];
        for (weight, vector) in weights.iter().zip(near) {
            out.iter_mut().zip(vector).for_each(|(x, y)| *x += weight * y);
        }
        normalise(&mut out);
        out
    }
}

fn build(seeds: &Seeds, rows: usize, folder: &Path) -> Result<(f64, f64), Box<dyn Error>> {
    let started = Instant::now();
    let options = IndexOptions {
        dimensions: seeds.dimensions,
        embed: Embed::Question,
        encoder_name: "made-up".to_owned(),
        encoder_sha256: "00".repeat(32),
        input: format!("{rows} made-up vectors"),
    };
    let mut writer = IndexWriter::open(options, folder)?;
    for first in (writer.resumed() as usize..rows).step_by(TOGETHER) {
        let range = first..(first + TOGETHER).min(rows);
        let vectors: Vec<Vec<f32>> = range.clone().into_par_iter().map(|n| seeds.vector(n)).collect();
        for (n, vector) in range.zip(vectors) {
            let record = Record { id: n.to_string(), ..Record::default() };
            writer.add(&record, "", &vector)?;
        }
    }
    let added = started.elapsed().as_secs_f64();
    writer.finish()?;
    Ok((added, started.elapsed().as_secs_f64()))
}

/// Numbers of the truly nearest of each question.
fn exact(seeds: &Seeds, rows: usize, queries: &[f32]) -> Vec<Vec<usize>> {
    let best = |mut all: Vec<(f32, usize)>| {
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.truncate(K);
        all
    };
    let part = |first: usize| {
        let mut found: Vec<Vec<(f32, usize)>> = vec![Vec::new(); queries.len() / seeds.dimensions];
        for n in first..(first + TOGETHER).min(rows) {
            let vector = seeds.vector(n);
            for (found, query) in found.iter_mut().zip(queries.chunks_exact(seeds.dimensions)) {
                let score = product(&vector, query);
                // The first K are in order whenever there are more: the last of them bounds what may still enter.
                if found.len() < K || score > found[K - 1].0 {
                    found.push((score, n));
                    if found.len() == K || found.len() == 2 * K {
                        *found = best(std::mem::take(found));
                    }
                }
            }
        }
        found.into_iter().map(best).collect::<Vec<_>>()
    };
    let merge = |a: Vec<Vec<(f32, usize)>>, b: Vec<Vec<(f32, usize)>>| {
        a.into_iter().zip(b).map(|(a, b)| best([a, b].concat())).collect::<Vec<_>>()
    };
    let none = || vec![Vec::new(); queries.len() / seeds.dimensions];
    let parts = (0..rows.div_ceil(TOGETHER)).into_par_iter().map(|part_number| part(part_number * TOGETHER));
    parts.reduce(none, merge).into_iter().map(|found| found.into_iter().map(|(_, n)| n).collect()).collect()
}

/// The most memory this process has had, where the system tells.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}
