//! A file of the origin's private file system, read and written in place. Only dedicated workers have such files.

use std::io;

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;
use web_sys::{FileSystemReadWriteOptions, FileSystemSyncAccessHandle};

/// A file on this device that is read and written in place.
#[derive(Debug)]
pub struct KeptFile(FileSystemSyncAccessHandle);

impl KeptFile {
    /// Takes over a file that is open; nobody else can open it meanwhile.
    pub fn new(handle: FileSystemSyncAccessHandle) -> Self {
        Self(handle)
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// Those of the browser.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.0.get_size().map_err(failed)? as u64)
    }

    /// Fills `bytes` with what lies from `offset` on.
    ///
    /// # Errors
    /// Those of the browser; a file that ends earlier is one.
    pub fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        // A view of shared memory is refused, so bytes go through a buffer of their own.
        let buffer = Uint8Array::new_with_length(bytes.len() as u32);
        let read = self.0.read_with_js_u8_array_and_options(&buffer, &at(offset)).map_err(failed)?;
        if read as usize != bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.copy_to(bytes);
        Ok(())
    }

    /// Writes all of `bytes` from `offset` on.
    ///
    /// # Errors
    /// Those of the browser, a quota that is used up among them.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let buffer = Uint8Array::from(bytes);
        let written = self.0.write_with_js_u8_array_and_options(&buffer, &at(offset)).map_err(failed)?;
        // Without room some browsers throw, and some give a nonsensical count.
        if written as usize == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Cuts the file off.
    ///
    /// # Errors
    /// Those of the browser.
    pub fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.0.truncate_with_f64(bytes as f64).map_err(failed)
    }
}

fn at(offset: u64) -> FileSystemReadWriteOptions {
    let options = FileSystemReadWriteOptions::new();
    options.set_at_f64(offset as f64);
    options
}

fn failed(error: JsValue) -> io::Error {
    io::Error::other(super::describe(&error))
}
