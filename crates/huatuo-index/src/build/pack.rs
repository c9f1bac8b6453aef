//! Blocks gathered into packs that are named after their content.

use crate::manifest::pack_name;
use crate::{IndexError, PackEntry};

/// A pack is closed before it would grow beyond this: hosts cap the number of files and the size of cached ones.
pub(crate) const TARGET_BYTES: usize = 8 << 20;

/// Takes a finished pack: its name and content.
pub(crate) type Sink<'a> = dyn Fn(&str, &[u8]) -> Result<(), IndexError> + Sync + 'a;

/// Gathers blocks and hands each full pack to a sink. Packs are numbered from 0 in the order they are written.
pub(crate) struct PackWriter<'a> {
    sink: &'a Sink<'a>,
    packs: Vec<PackEntry>,
    open: Vec<u8>,
}

impl<'a> PackWriter<'a> {
    pub fn new(sink: &'a Sink<'a>) -> Self {
        Self { sink, packs: Vec::new(), open: Vec::new() }
    }

    /// Appends a block, or several that must stay together; gives their pack's number and their offset in it.
    pub fn push(&mut self, blocks: &[u8]) -> Result<(u32, u32), IndexError> {
        if !self.open.is_empty() && self.open.len() + blocks.len() > TARGET_BYTES {
            self.close()?;
        }
        let place = (self.packs.len() as u32, self.open.len() as u32);
        self.open.extend_from_slice(blocks);
        Ok(place)
    }

    /// Closes the last pack and lists all.
    pub fn finish(mut self) -> Result<Vec<PackEntry>, IndexError> {
        if !self.open.is_empty() {
            self.close()?;
        }
        Ok(self.packs)
    }

    fn close(&mut self) -> Result<(), IndexError> {
        let name = pack_name(&self.open);
        (self.sink)(&name, &self.open)?;
        self.packs.push(PackEntry { name, bytes: self.open.len() as u64 });
        self.open.clear();
        Ok(())
    }
}
