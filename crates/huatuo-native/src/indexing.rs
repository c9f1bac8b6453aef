//! Records to an index: embedded in batches and written.

use std::path::Path;

use anyhow::Result;
use huatuo_compute::Device;
use huatuo_data::SourceRecord;
use huatuo_index::{Embed, IndexOptions, IndexWriter, Record};
use huatuo_retrieve::{Encoder, searched_text};
use rayon::prelude::*;

/// Records that are embedded and added together.
pub const BATCH: usize = 1024;
/// Records that a core embeds together.
const TEXTS_TOGETHER: usize = 32;

/// What every index of this program says of itself.
pub fn options(dimensions: usize, sha256: &str, embed: Embed, input: String) -> IndexOptions {
    IndexOptions { dimensions, embed, encoder_name: "bert".to_owned(), encoder_sha256: sha256.to_owned(), input }
}

/// An encoder on any device.
pub trait BatchEncoder {
    /// Numbers in a vector.
    fn dimensions(&self) -> usize;
    /// SHA-256 of the weights.
    fn sha256(&self) -> &str;
    /// Vectors of some texts, on all cores where the encoder is on the CPU.
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>>;
}

impl<D: Device> BatchEncoder for Encoder<D>
where
    Self: Sync,
{
    fn dimensions(&self) -> usize {
        Encoder::dimensions(self)
    }

    fn sha256(&self) -> &str {
        Encoder::sha256(self)
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let embed = |texts: &[String]| {
            pollster::block_on(self.embed_batch(&texts.iter().map(String::as_str).collect::<Vec<_>>()))
        };
        let embedded: Vec<_> = texts.par_chunks(TEXTS_TOGETHER).map(embed).collect::<Result<_, _>>()?;
        Ok(embedded.into_iter().flatten().collect())
    }
}

/// Embeds records and adds them.
pub fn add_records(
    writer: &mut IndexWriter,
    records: &[SourceRecord],
    encoder: &dyn BatchEncoder,
    embed: Embed,
) -> Result<()> {
    let texts: Vec<String> =
        records.iter().map(|record| searched_text(embed, &record.questions, &record.answer)).collect();
    for ((record, text), vector) in records.iter().zip(&texts).zip(encoder.embed(&texts)?) {
        writer.add(&index_record(record), text, &vector)?;
    }
    Ok(())
}

/// Writes an index of records that are in memory.
pub fn write_index(records: &[SourceRecord], encoder: &dyn BatchEncoder, embed: Embed, out: &Path) -> Result<()> {
    let input = format!("{} records", records.len());
    let mut writer = IndexWriter::open(options(encoder.dimensions(), encoder.sha256(), embed, input), out)?;
    for batch in records.chunks(BATCH) {
        add_records(&mut writer, batch, encoder, embed)?;
    }
    writer.finish()?;
    Ok(())
}

/// A record as an index keeps it.
pub fn index_record(record: &SourceRecord) -> Record {
    Record {
        id: record.id.clone(),
        question: record.questions[0].clone(),
        answer: record.answer.clone(),
        department: record.department.clone(),
        related_diseases: record.related_diseases.clone(),
        source: record.source.clone(),
        url: record.url.clone(),
    }
}
