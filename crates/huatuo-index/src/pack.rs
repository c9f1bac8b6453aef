//! Blocks gathered into packs that are named after their content.

use crate::manifest::pack_name;
use crate::{IndexError, PackEntry};

/// A pack is closed before it would grow beyond this: hosts cap the number of files and the size of cached ones.
const TARGET_BYTES: usize = 4 << 20;

/// Takes a finished file: its name and content.
pub(crate) type Sink<'a> = dyn FnMut(&str, &[u8]) -> Result<(), IndexError> + 'a;

/// Gathers blocks and hands each full pack to a sink.
pub(crate) struct PackWriter<'a> {
    sink: &'a mut Sink<'a>,
    packs: Vec<PackEntry>,
    open: Vec<u8>,
}

impl<'a> PackWriter<'a> {
    pub fn new(sink: &'a mut Sink<'a>) -> Self {
        Self { sink, packs: Vec::new(), open: Vec::new() }
    }

    /// Appends a block; gives its pack's position and its offset in the pack.
    pub fn push(&mut self, block: &[u8]) -> Result<(u32, u64), IndexError> {
        if !self.open.is_empty() && self.open.len() + block.len() > TARGET_BYTES {
            self.close()?;
        }
        let place = (self.packs.len() as u32, self.open.len() as u64);
        self.open.extend_from_slice(block);
        Ok(place)
    }

    /// Closes the last pack and lists all.
    pub fn finish(mut self) -> Result<(Vec<PackEntry>, &'a mut Sink<'a>), IndexError> {
        if !self.open.is_empty() {
            self.close()?;
        }
        Ok((self.packs, self.sink))
    }

    fn close(&mut self) -> Result<(), IndexError> {
        let name = pack_name(&self.open);
        (self.sink)(&name, &self.open)?;
        self.packs.push(PackEntry { name, bytes: self.open.len() as u64 });
        self.open.clear();
        Ok(())
    }
}
