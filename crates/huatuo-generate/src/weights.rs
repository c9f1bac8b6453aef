//! A decoder's weights on their way from a file to a device, tensor by tensor: no more than a row waits on the way.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use huatuo_compute::{Cpu, Device, Encoding, Linear, MatrixBuilder, TensorView};

use crate::architecture::ROPE_FACTORS;
use crate::{Architecture, Decoder, GenerateError, GgufError, GgufHeader};

/// Tokens of a conversation that a device must have room for.
const CONVERSATION: usize = 4096;

/// A tensor that a network needs.
pub(crate) struct Wanted {
    /// Name in the file.
    pub name: String,
    /// `[rows, columns]` or `[rows]`.
    pub shape: Vec<usize>,
    /// Rows of each weight that the tensor holds; several where a file fuses them.
    pub parts: Vec<Range<usize>>,
}

/// What has arrived, by name and part.
pub(crate) struct Weights<D: Device> {
    matrices: HashMap<(String, usize), D::Matrix>,
    vectors: HashMap<(String, usize), D::Buffer>,
    /// What rotary frequencies are divided by: positions are computed on the processor.
    rope_factors: Option<Vec<f32>>,
}

impl<D: Device> Weights<D> {
    pub fn matrix(&mut self, name: &str, part: usize) -> Result<D::Matrix, GenerateError> {
        self.matrices.remove(&(name.to_owned(), part)).ok_or_else(|| missing(name))
    }

    pub fn vector(&mut self, name: &str) -> Result<D::Buffer, GenerateError> {
        self.vectors.remove(&(name.to_owned(), 0)).ok_or_else(|| missing(name))
    }

    pub fn rope_factors(&mut self) -> Option<Vec<f32>> {
        self.rope_factors.take()
    }

    /// `name.weight` and, where it has one, `name.bias`.
    pub fn linear(&mut self, name: &str, part: usize) -> Result<Linear<D>, GenerateError> {
        let bias = self.vectors.remove(&(format!("{name}.bias"), part));
        Ok(Linear { weight: self.matrix(&format!("{name}.weight"), part)?, bias })
    }
}

fn missing(name: &str) -> GenerateError {
    GgufError::MissingTensor(name.to_owned()).into()
}

/// Takes a GGUF file's bytes as they come and brings them to a device.
pub struct DecoderLoader<D: Device> {
    device: D,
    file_len: u64,
    state: State<D>,
}

enum State<D: Device> {
    /// The file's first bytes, until they hold the header; it is not tried again before there are `enough`.
    Header {
        bytes: Vec<u8>,
        enough: u64,
    },
    Tensors(Box<Tensors<D>>),
}

struct Tensors<D: Device> {
    header: GgufHeader,
    architecture: Architecture,
    /// What is still to come, in the file's order.
    queue: VecDeque<Queued>,
    /// Bytes of the file that were taken.
    at: u64,
    current: Option<Current<D>>,
    weights: Weights<D>,
}

struct Queued {
    wanted: Wanted,
    encoding: Encoding,
    data: Range<u64>,
}

/// The part of a tensor that is arriving.
struct Current<D: Device> {
    part: usize,
    /// Bytes of it that are missing.
    left: u64,
    matrix: Option<D::Builder>,
    /// Of a vector, which is kept until it is whole.
    bytes: Vec<u8>,
}

impl<D: Device> DecoderLoader<D> {
    /// A loader of a file of `file_len` bytes.
    pub fn new(device: D, file_len: u64) -> Self {
        Self { device, file_len, state: State::Header { bytes: Vec::new(), enough: 0 } }
    }

    /// Takes the next bytes of the file; a piece may end anywhere.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), GenerateError> {
        let State::Header { bytes, enough } = &mut self.state else { return self.push_tensors(piece) };
        bytes.extend_from_slice(piece);
        if (bytes.len() as u64) < (*enough).min(self.file_len) {
            return Ok(());
        }
        match GgufHeader::parse(bytes, self.file_len) {
            Err(GgufError::Incomplete { needed }) => {
                // Twice as much each time: a long vocabulary is not parsed anew for every piece.
                *enough = needed.max(2 * bytes.len() as u64);
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(header) => {
                let bytes = std::mem::take(bytes);
                self.state = State::Tensors(Box::new(Tensors::new(header, &self.device)?));
                self.push_tensors(&bytes)
            }
        }
    }

    /// The header, once it has arrived.
    pub fn header(&self) -> Option<&GgufHeader> {
        match &self.state {
            State::Header { .. } => None,
            State::Tensors(tensors) => Some(&tensors.header),
        }
    }

    /// The decoder, with the header of its file.
    pub fn finish(self) -> Result<(Decoder<D>, GgufHeader), GenerateError> {
        match self.state {
            State::Header { bytes, .. } => {
                GgufHeader::parse(&bytes, bytes.len() as u64)?;
                Err(GgufError::Incomplete { needed: self.file_len }.into())
            }
            State::Tensors(tensors) => {
                if let Some(queued) = tensors.queue.front() {
                    return Err(GgufError::Truncated {
                        field: "tensor data",
                        offset: tensors.at as usize,
                        needed: queued.data.end - tensors.at.min(queued.data.end),
                        available: 0,
                    }
                    .into());
                }
                Ok((Decoder::assemble(self.device, tensors.architecture, tensors.weights)?, tensors.header))
            }
        }
    }

    fn push_tensors(&mut self, piece: &[u8]) -> Result<(), GenerateError> {
        match &mut self.state {
            State::Tensors(tensors) => tensors.push(&self.device, piece),
            State::Header { .. } => Ok(()),
        }
    }
}

impl<D: Device> Tensors<D> {
    /// Checks names and shapes of all tensors, and whether all have room, before room is made for any.
    fn new(header: GgufHeader, device: &D) -> Result<Self, GenerateError> {
        let architecture = Architecture::from_gguf(&header)?;
        device.check_attention(architecture.attention)?;
        let mut queue = Vec::new();
        for wanted in architecture.tensors(&header)? {
            let entry = header.entry(&wanted.name)?;
            if entry.shape != wanted.shape {
                let (name, expected, found) = (wanted.name, wanted.shape, entry.shape.clone());
                return Err(GenerateError::WrongShape { name, expected, found });
            }
            queue.push(Queued { encoding: entry.encoding, data: entry.data.clone(), wanted });
        }
        let weights = queue.iter().map(|queued| queued.data.end - queued.data.start).sum();
        let (tokens, cache) = (CONVERSATION.min(architecture.context), architecture.cache_bytes(CONVERSATION));
        if let Some(room) = device.room().filter(|room| *room < weights + cache) {
            return Err(GenerateError::NoRoom { weights, cache, tokens, room });
        }
        queue.sort_by_key(|queued| queued.data.start);
        let weights = Weights { matrices: HashMap::new(), vectors: HashMap::new(), rope_factors: None };
        Ok(Self { header, architecture, queue: queue.into(), at: 0, current: None, weights })
    }

    fn push(&mut self, device: &D, mut piece: &[u8]) -> Result<(), GenerateError> {
        while let Some(queued) = self.queue.front() {
            let skipped = queued.data.start.saturating_sub(self.at).min(piece.len() as u64);
            piece = &piece[skipped as usize..];
            self.at += skipped;
            if self.at < queued.data.start || (piece.is_empty() && self.at < queued.data.end) {
                return Ok(());
            }
            let current = match &mut self.current {
                Some(current) => current,
                None => self.current.insert(Current::begin(device, queued, 0)?),
            };
            let (now, later) = piece.split_at(current.left.min(piece.len() as u64) as usize);
            current.push(now);
            piece = later;
            self.at += now.len() as u64;
            if current.left > 0 {
                return Ok(());
            }
            let part = current.part;
            if let Some(current) = self.current.take() {
                current.finish(device, queued, &mut self.weights)?;
            }
            if part + 1 < queued.wanted.parts.len() {
                self.current = Some(Current::begin(device, queued, part + 1)?);
            } else {
                self.queue.pop_front();
            }
        }
        Ok(())
    }
}

impl<D: Device> Current<D> {
    fn begin(device: &D, queued: &Queued, part: usize) -> Result<Self, GenerateError> {
        let Queued { wanted, encoding, data } = queued;
        let rows = wanted.parts[part].len();
        let shape = [&[rows], &wanted.shape[1..]].concat();
        let matrix = match shape.len() {
            1 => None,
            _ => Some(device.begin_matrix(&wanted.name, &shape, *encoding)?),
        };
        // The header's bytes of a tensor are those of its shape, so they divide by its rows.
        let row_bytes = (data.end - data.start) / wanted.shape[0].max(1) as u64;
        Ok(Self { part, left: row_bytes * rows as u64, matrix, bytes: Vec::new() })
    }

    fn push(&mut self, bytes: &[u8]) {
        self.left -= bytes.len() as u64;
        match &mut self.matrix {
            Some(matrix) => matrix.push(bytes),
            None => self.bytes.extend_from_slice(bytes),
        }
    }

    fn finish(self, device: &D, queued: &Queued, weights: &mut Weights<D>) -> Result<(), GenerateError> {
        let name = &queued.wanted.name;
        let key = (name.clone(), self.part);
        match self.matrix {
            Some(matrix) => drop(weights.matrices.insert(key, matrix.finish())),
            None => {
                let shape = [queued.wanted.parts[self.part].len()];
                let tensor = TensorView { name, shape: &shape, encoding: queued.encoding, bytes: &self.bytes };
                match name.as_str() {
                    ROPE_FACTORS => weights.rope_factors = Some(Cpu::new().vector(&tensor)?),
                    _ => drop(weights.vectors.insert(key, device.vector(&tensor)?)),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use huatuo_compute::{Gpu, GpuOptions};

    use super::*;

    const FILE: &[u8] = include_bytes!("../../../tests/golden/qwen2-tiny-q8_0.gguf");

    fn load(bytes: &[u8], file_len: u64, piece: usize) -> Result<Vec<f32>, GenerateError> {
        let mut loader = DecoderLoader::new(Cpu::new(), file_len);
        bytes.chunks(piece).try_for_each(|piece| loader.push(piece))?;
        let (mut decoder, _) = loader.finish()?;
        let mut logits = vec![0.0; decoder.vocabulary()];
        let mut cache = decoder.new_cache();
        pollster::block_on(decoder.read(&[1, 2, 3], &mut cache, &mut logits))?;
        Ok(logits)
    }

    #[test]
    fn pieces_of_any_size_give_the_same_decoder() {
        let whole = load(FILE, FILE.len() as u64, usize::MAX).unwrap();
        for piece in [1, 7, 4096, 60_000] {
            assert_eq!(load(FILE, FILE.len() as u64, piece).unwrap(), whole, "{piece}");
        }
    }

    #[test]
    fn a_model_that_has_no_room_is_refused_before_any_is_made() {
        let load = |budget| {
            let gpu = pollster::block_on(Gpu::request(&GpuOptions { budget, ..GpuOptions::default() })).unwrap();
            let mut loader = DecoderLoader::new(gpu, FILE.len() as u64);
            loader.push(FILE).and_then(|()| loader.finish()).map(drop)
        };
        let refused = load(Some(1 << 16)).unwrap_err();
        assert!(matches!(refused, GenerateError::NoRoom { .. }), "{refused}");
        load(Some(1 << 30)).unwrap();
        load(None).unwrap();
    }

    #[test]
    fn a_file_that_ends_early_is_a_typed_error() {
        for len in (0..FILE.len()).step_by(997) {
            let cut = load(&FILE[..len], FILE.len() as u64, 4096);
            assert!(matches!(cut, Err(GenerateError::Gguf(_))), "{len} bytes");
            assert!(matches!(load(&FILE[..len], len as u64, 4096), Err(GenerateError::Gguf(_))), "{len} bytes");
        }
    }
}
