//! Builds an index of given vectors and measures what it finds of the truly nearest, and what it reads for that.
//!
//! Prints a line of JSON for each effort; bytes, requests and trips are those of the search, without texts.
//!
//! `recall BASE QUERIES DIMENSIONS FOLDER [ROWS]`: BASE and QUERIES are little-endian f32. An index that is in FOLDER already is used.

mod measuring;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use huatuo_index::{Effort, Embed, IndexOptions, IndexWriter, MANIFEST_NAME, Record};
use rayon::prelude::*;

use measuring::{K, measure, read_vectors};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, queries, dimensions, folder, rows @ ..] = arguments.as_slice() else {
        return Err("recall BASE QUERIES DIMENSIONS FOLDER [ROWS]".into());
    };
    let dimensions: usize = dimensions.parse()?;
    let mut base = read_vectors(Path::new(base), dimensions)?;
    let queries = read_vectors(Path::new(queries), dimensions)?;
    if let Some(rows) = rows.first() {
        base.truncate(rows.parse::<usize>()? * dimensions);
    }
    let folder = Path::new(folder);
    if !folder.join(MANIFEST_NAME).exists() {
        build(&base, dimensions, folder)?;
    }
    let truth: Vec<Vec<usize>> = queries.par_chunks(dimensions).map(|query| exact(&base, query)).collect();
    for effort in efforts() {
        println!("{}", measure(folder, &queries, dimensions, &truth, effort)?);
    }
    Ok(())
}

fn efforts() -> Vec<Effort> {
    let mut out = vec![Effort::default()];
    for list_kilobytes in [50, 100, 150, 200, 300] {
        for (expand, rounds) in [(0, 0), (16, 1), (16, 2), (24, 3)] {
            out.push(Effort { list_bytes: list_kilobytes << 10, expand, rounds, ..Effort::default() });
        }
    }
    out
}

fn build(base: &[f32], dimensions: usize, folder: &Path) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let options = IndexOptions {
        dimensions,
        embed: Embed::Question,
        encoder_name: "given".to_owned(),
        encoder_sha256: "00".repeat(32),
        input: String::new(),
    };
    let mut writer = IndexWriter::open(options, folder)?;
    for (row, vector) in base.chunks_exact(dimensions).enumerate().skip(writer.resumed() as usize) {
        let record = Record { id: row.to_string(), ..Record::default() };
        writer.add(&record, "", vector)?;
    }
    let added = started.elapsed().as_secs_f64();
    writer.finish()?;
    eprintln!("built in {:.1} s, of which {added:.1} s to take the vectors in", started.elapsed().as_secs_f64());
    Ok(())
}

fn exact(base: &[f32], query: &[f32]) -> Vec<usize> {
    let product = |vector: &[f32]| -> f32 { vector.iter().zip(query).map(|(a, b)| a * b).sum() };
    let mut scored: Vec<(f32, usize)> = base.chunks_exact(query.len()).map(product).zip(0..).collect();
    scored.select_nth_unstable_by(K, |a, b| b.0.total_cmp(&a.0));
    scored[..K].iter().map(|(_, row)| *row).collect()
}
