//! A generator on whichever device there is, which goes on by itself when that device is lost.

use huatuo_compute::{ComputeError, Cpu, Gpu};
use huatuo_core::{GenerationStatistics, Generator, Message, Prompt, PromptForm, PromptReference};

use crate::{Decoder, GenerateError, GgufHeader, LocalGenerator, Pace, Sampling};

/// A decoder on the device that it was brought to.
pub enum AnyDecoder {
    /// On the processor.
    Cpu(Decoder<Cpu>),
    /// On a graphics processor.
    Gpu(Decoder<Gpu>),
}

/// Brings the same model to a device once more.
#[allow(async_fn_in_trait)] // one thread
pub trait Reload {
    /// A decoder of the same file: on another device than the lost one, a new graphics processor or the CPU. `losses` tells
    /// how many were lost before in the same answer; it is the largest number there is when memory ran out.
    async fn reload(&mut self, losses: usize) -> Result<AnyDecoder, GenerateError>;
}

/// A generator whose conversation is a log of tokens: what was read and written is read again on a new device when one is
/// lost, and the answer goes on where it was.
pub struct RecoveringGenerator<P: Pace, R: Reload> {
    generator: OnDevice<P>,
    reload: R,
    losses: usize,
    /// Losses before the present answer.
    earlier_losses: usize,
}

enum OnDevice<P: Pace> {
    Cpu(Box<LocalGenerator<Cpu, P>>),
    Gpu(Box<LocalGenerator<Gpu, P>>),
    /// While it is moved.
    Nowhere,
}

/// The same call on either device.
macro_rules! on_device {
    ($generator:expr, $name:ident => $call:expr) => {
        match $generator {
            OnDevice::Cpu($name) => $call,
            OnDevice::Gpu($name) => $call,
            OnDevice::Nowhere => unreachable!("a generator is somewhere but while it is moved"),
        }
    };
}

/// Does the same again on a new device for as long as devices are lost.
macro_rules! recovering {
    ($self:ident, $name:ident => $call:expr) => {
        loop {
            match on_device!(&mut $self.generator, $name => $call.await) {
                Err(GenerateError::Weights(ComputeError::DeviceLost)) => $self.recover().await?,
                result => break result,
            }
        }
    };
}

impl<P: Pace, R: Reload> RecoveringGenerator<P, R> {
    /// Joins a decoder and the header of its file; see [`LocalGenerator::new`].
    pub fn new(
        decoder: AnyDecoder,
        gguf: &GgufHeader,
        tokenizer: Option<&[u8]>,
        pace: P,
        reload: R,
    ) -> Result<Self, GenerateError> {
        let generator = match decoder {
            AnyDecoder::Cpu(decoder) => OnDevice::Cpu(Box::new(LocalGenerator::new(decoder, gguf, tokenizer, pace)?)),
            AnyDecoder::Gpu(decoder) => OnDevice::Gpu(Box::new(LocalGenerator::new(decoder, gguf, tokenizer, pace)?)),
        };
        Ok(Self { generator, reload, losses: 0, earlier_losses: 0 })
    }

    /// Chooses how tokens are sampled from the next answer on.
    pub fn set_sampling(&mut self, sampling: Sampling) {
        on_device!(&mut self.generator, generator => generator.set_sampling(sampling));
    }

    /// Forgets what was read, for comparisons.
    pub fn forget(&mut self) {
        on_device!(&mut self.generator, generator => generator.forget());
    }

    /// See [`LocalGenerator::warm_up`].
    pub async fn warm_up(&mut self, kept: Option<&[u8]>) -> Result<Option<Vec<u8>>, GenerateError> {
        recovering!(self, generator => generator.warm_up(kept))
    }

    /// Lets the device find out how it computes this model fastest.
    pub async fn tune(&mut self) -> Result<(), GenerateError> {
        recovering!(self, generator => generator.tune())
    }

    /// The graphics processor that it computes on.
    pub fn gpu(&self) -> Option<&Gpu> {
        match &self.generator {
            OnDevice::Gpu(generator) => Some(generator.device()),
            OnDevice::Cpu(_) | OnDevice::Nowhere => None,
        }
    }

    async fn recover(&mut self) -> Result<(), GenerateError> {
        let mut losses = self.losses - self.earlier_losses;
        if let Some(gpu) = self.gpu() {
            if gpu.ran_out_of_memory() {
                losses = usize::MAX; // another one would run out as well
            }
            gpu.lose(); // one that only ran out of memory gives it back
        }
        let decoder = self.reload.reload(losses).await?;
        let same = on_device!(&self.generator, generator => generator.is_of(&decoder));
        if !same {
            return Err(GenerateError::OtherModel);
        }
        self.losses += 1;
        let generator = std::mem::replace(&mut self.generator, OnDevice::Nowhere);
        self.generator = match (generator, decoder) {
            (OnDevice::Cpu(generator), AnyDecoder::Cpu(decoder)) => OnDevice::Cpu(Box::new(generator.onto(decoder))),
            (OnDevice::Cpu(generator), AnyDecoder::Gpu(decoder)) => OnDevice::Gpu(Box::new(generator.onto(decoder))),
            (OnDevice::Gpu(generator), AnyDecoder::Cpu(decoder)) => OnDevice::Cpu(Box::new(generator.onto(decoder))),
            (OnDevice::Gpu(generator), AnyDecoder::Gpu(decoder)) => OnDevice::Gpu(Box::new(generator.onto(decoder))),
            (OnDevice::Nowhere, _) => unreachable!("a generator is somewhere but while it is moved"),
        };
        Ok(())
    }
}

impl<P: Pace, R: Reload> Generator for RecoveringGenerator<P, R> {
    type Error = GenerateError;

    fn form(&self) -> PromptForm {
        on_device!(&self.generator, generator => generator.form())
    }

    fn references_read(&self) -> &[PromptReference] {
        on_device!(&self.generator, generator => generator.references_read())
    }

    async fn read_ahead(&mut self, beginnings: &[Vec<Message>; 2]) -> Result<(), GenerateError> {
        recovering!(self, generator => generator.read_ahead(beginnings))
    }

    async fn start(&mut self, prompt: &Prompt) -> Result<(), GenerateError> {
        self.earlier_losses = self.losses;
        recovering!(self, generator => generator.start(prompt))
    }

    async fn next(&mut self) -> Result<Option<String>, GenerateError> {
        recovering!(self, generator => generator.next())
    }

    fn statistics(&self) -> GenerationStatistics {
        let recoveries = self.losses - self.earlier_losses;
        GenerationStatistics { recoveries, ..on_device!(&self.generator, generator => generator.statistics()) }
    }
}
