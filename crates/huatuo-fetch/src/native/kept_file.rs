//! A file of the file system, read and written in place.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A file on this device that is read and written in place.
#[derive(Debug)]
pub struct KeptFile(File);

impl KeptFile {
    /// Opens a file, which is made if need be.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(File::options().read(true).write(true).create(true).truncate(false).open(path)?))
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// Fills `bytes` with what lies from `offset` on.
    ///
    /// # Errors
    /// Those of the file system; a file that ends earlier is one.
    pub fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.seek(SeekFrom::Start(offset))?;
        self.0.read_exact(bytes)
    }

    /// Writes all of `bytes` from `offset` on.
    ///
    /// # Errors
    /// Those of the file system, a full disk among them.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.seek(SeekFrom::Start(offset))?;
        self.0.write_all(bytes)
    }

    /// Cuts the file off.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
}
