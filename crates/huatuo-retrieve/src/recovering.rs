//! An encoder on whichever device there is, which goes on by itself when that device is lost.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use huatuo_compute::{ComputeError, Cpu, Gpu};

use crate::{Encoder, RetrieveError, TextEncoder};

/// An encoder on the device that it was brought to.
pub enum AnyEncoder {
    /// On the processor.
    Cpu(Encoder<Cpu>),
    /// On a graphics processor.
    Gpu(Encoder<Gpu>),
}

/// The same call on either device.
macro_rules! on_device {
    ($encoder:expr, $name:ident => $call:expr) => {
        match $encoder {
            AnyEncoder::Cpu($name) => $call,
            AnyEncoder::Gpu($name) => $call,
        }
    };
}

/// Brings the same encoder to a device once more.
#[allow(async_fn_in_trait)] // one thread
pub trait ReloadEncoder {
    /// The encoder on another device than the lost one. `losses` tells how many were lost before for the same text; it is
    /// the largest number there is when memory ran out.
    async fn reload(&self, losses: usize) -> Result<AnyEncoder, RetrieveError>;
}

/// An encoder that embeds a text once more on a new device when one is lost.
pub struct RecoveringEncoder<R: ReloadEncoder> {
    encoder: RefCell<Rc<AnyEncoder>>,
    sha256: String,
    reload: R,
    recoveries: Cell<usize>,
}

impl<R: ReloadEncoder> RecoveringEncoder<R> {
    /// Joins an encoder with where it comes from.
    pub fn new(encoder: AnyEncoder, reload: R) -> Self {
        let sha256 = on_device!(&encoder, encoder => encoder.sha256().to_owned());
        Self { encoder: RefCell::new(Rc::new(encoder)), sha256, reload, recoveries: Cell::new(0) }
    }

    /// The graphics processor that it computes on.
    pub fn gpu(&self) -> Option<Gpu> {
        match &**self.encoder.borrow() {
            AnyEncoder::Gpu(encoder) => Some(encoder.device().clone()),
            AnyEncoder::Cpu(_) => None,
        }
    }
}

impl<R: ReloadEncoder> TextEncoder for RecoveringEncoder<R> {
    fn sha256(&self) -> &str {
        &self.sha256
    }

    async fn embed(&self, text: &str) -> Result<Vec<f32>, RetrieveError> {
        let mut losses = 0;
        loop {
            let encoder = self.encoder.borrow().clone();
            match on_device!(&*encoder, encoder => encoder.embed(text).await) {
                Err(RetrieveError::Weights(ComputeError::DeviceLost)) => {}
                result => return result,
            }
            let ran_out = self.gpu().is_some_and(|gpu| gpu.ran_out_of_memory());
            let again = self.reload.reload(if ran_out { usize::MAX } else { losses }).await?;
            let found = on_device!(&again, encoder => encoder.sha256());
            if found != self.sha256 {
                let (index, encoder) = (self.sha256.clone(), found.to_owned());
                return Err(RetrieveError::EncoderMismatch { index, encoder });
            }
            *self.encoder.borrow_mut() = Rc::new(again);
            losses += 1;
            self.recoveries.set(self.recoveries.get() + 1);
        }
    }

    fn embed_words(&self, text: &str) -> Result<Vec<f32>, RetrieveError> {
        on_device!(&**self.encoder.borrow(), encoder => encoder.embed_words(text)) // looked up on the processor
    }

    fn recoveries(&self) -> usize {
        self.recoveries.get()
    }
}
