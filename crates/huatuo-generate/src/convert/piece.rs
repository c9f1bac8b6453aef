//! Writing tensors some rows at a time.

use std::io::Write;

use huatuo_compute::{Cpu, Device, Encoding, TensorView};

use super::encoding::encode;
use super::names::Change;
use super::{Conversion, ConvertError, Mixture};
use crate::MetadataValue;
use crate::gguf_writer::{GgufWriter, TensorEntry};

/// Numbers that are encoded at once: enough to be fast, few enough to take little memory.
const CHUNK: usize = 1 << 20;

/// A tensor of the new file: rows of one of the old file.
pub(super) struct Piece<'a> {
    /// Its name.
    pub target: &'a str,
    /// Bytes are those of the rows taken; the first dimension of the shape may be that of more rows.
    pub view: TensorView<'a>,
    /// What is done with the rows.
    pub change: Change,
}

impl Piece<'_> {
    fn columns(&self) -> usize {
        self.view.shape.last().copied().unwrap_or(1).max(1)
    }

    fn row_bytes(&self) -> usize {
        self.columns() / self.view.encoding.block_len() * self.view.encoding.block_bytes()
    }

    fn rows(&self) -> usize {
        self.view.bytes.len() / self.row_bytes().max(1)
    }

    fn shape(&self) -> Vec<usize> {
        match self.view.shape {
            [_] => self.view.shape.to_vec(),
            [_, rest @ ..] => [&[self.rows()], rest].concat(),
            [] => Vec::new(),
        }
    }

    /// Writes the numbers, some rows at a time.
    fn write<W: Write>(&self, encoding: Encoding, cpu: &Cpu, out: &mut GgufWriter<W>) -> Result<(), ConvertError> {
        if encoding == self.view.encoding && self.change == Change::None {
            return Ok(out.write(self.view.bytes)?);
        }
        let (columns, row_bytes) = (self.columns(), self.row_bytes());
        let rows = match self.change {
            Change::Interleaved(head) => head,
            _ => (CHUNK / columns).max(1),
        };
        for (i, bytes) in self.view.bytes.chunks(rows * row_bytes).enumerate() {
            let shape = [bytes.len() / row_bytes * columns];
            let mut numbers = cpu.vector(&TensorView { shape: &shape, bytes, ..self.view })?;
            match self.change {
                Change::None => {}
                Change::Interleaved(_) => numbers = interleave(&numbers, columns),
                Change::Normalised => numbers.chunks_exact_mut(columns).for_each(normalise),
            }
            out.write(&encode(self.target, numbers, columns, i * rows, encoding)?)?;
        }
        Ok(())
    }
}

/// Rows of both halves of a head in turn.
fn interleave(head: &[f32], columns: usize) -> Vec<f32> {
    let (first, second) = head.split_at(head.len() / columns / 2 * columns);
    let pairs = first.chunks_exact(columns).zip(second.chunks_exact(columns));
    pairs.flat_map(|(a, b)| [a, b]).flatten().copied().collect()
}

/// Divides a row by its length (as PyTorch does, by 10⁻¹² at least).
fn normalise(row: &mut [f32]) {
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    row.iter_mut().for_each(|x| *x /= length);
}

/// Writes a file of pieces, each in the encoding that the mixture chooses for it.
pub(super) fn write(
    metadata: &[(String, MetadataValue)],
    pieces: &[Piece<'_>],
    mixture: Mixture,
    layers: usize,
    tied: bool,
    out: impl Write,
) -> Result<Conversion, ConvertError> {
    let mut conversion = Conversion::default();
    let mut entries = Vec::new();
    for piece in pieces {
        let (shape, name) = (piece.shape(), piece.target.to_owned());
        let (encoding, fell_back) = mixture.choose(&name, &shape, layers, tied);
        if fell_back {
            conversion.fallbacks.push((name.clone(), encoding));
        }
        entries.push(TensorEntry { name, shape, encoding });
    }
    conversion.tensors = entries.len();
    conversion.bytes = entries.iter().map(TensorEntry::bytes).sum();
    let mut writer = GgufWriter::begin(out, metadata, &entries)?;
    let cpu = Cpu::new();
    for (piece, entry) in pieces.iter().zip(&entries) {
        piece.write(entry.encoding, &cpu, &mut writer)?;
    }
    writer.finish()?;
    Ok(conversion)
}
