//! A whole file in pieces, with progress, that goes on where it stopped.

use sha2::{Digest, Sha256};

use crate::{FetchError, Source};

/// Bytes a request: small enough that a broken connection costs little and progress moves, large enough that the
/// round trip does not count.
const PIECE_BYTES: u64 = 1 << 20;

/// A resumable download of one file whose length and SHA-256 are known beforehand.
#[derive(Debug)]
pub struct Download {
    source: Source,
    name: String,
    expected_bytes: u64,
    sha256: String,
    kept: Vec<u8>,
    hasher: Sha256,
}

impl Download {
    /// Prepares a download; nothing is read yet. `sha256_hex` has 64 hexadecimal digits of either case.
    pub fn new(source: Source, name: impl Into<String>, expected_bytes: u64, sha256_hex: &str) -> Self {
        Self {
            source,
            name: name.into(),
            expected_bytes,
            sha256: sha256_hex.to_ascii_lowercase(),
            kept: Vec::new(),
            hasher: Sha256::new(),
        }
    }

    /// Reads what is still missing and gives the verified file; `progress` gets bytes done and bytes in total.
    ///
    /// After an error what came stays, so calling this again goes on at the byte where it stopped. After success or
    /// [`FetchError::HashMismatch`] it starts anew.
    ///
    /// # Errors
    /// Those of [`Source::read`]; [`FetchError::TooLarge`] when there is no memory for the file;
    /// [`FetchError::HashMismatch`] when the content is not what was meant.
    pub async fn run(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<Vec<u8>, FetchError> {
        let missing = usize::try_from(self.expected_bytes).unwrap_or(usize::MAX) - self.kept.len();
        if self.kept.try_reserve_exact(missing).is_err() {
            return Err(FetchError::TooLarge { location: self.name.clone(), limit: self.kept.len() as u64 });
        }
        progress(self.kept.len() as u64, self.expected_bytes);
        while (self.kept.len() as u64) < self.expected_bytes {
            let start = self.kept.len() as u64;
            let end = (start + PIECE_BYTES).min(self.expected_bytes);
            let piece = self.source.read(&self.name, Some(start..end)).await?;
            // Hashing each piece as it comes never holds a browser's main thread for long.
            self.hasher.update(&piece);
            self.kept.extend_from_slice(&piece);
            progress(end, self.expected_bytes);
        }
        let file = std::mem::take(&mut self.kept);
        let found = format!("{:x}", self.hasher.finalize_reset());
        if found != self.sha256 {
            return Err(FetchError::HashMismatch { name: self.name.clone(), expected: self.sha256.clone(), found });
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha256_hex;
    use pollster::block_on;

    fn file() -> Vec<u8> {
        (0..(2 * PIECE_BYTES + 7)).map(|n| (n % 251) as u8).collect()
    }

    fn source(file: Vec<u8>) -> Source {
        Source::memory([("model.bin".to_owned(), file)])
    }

    #[test]
    fn progress_rises_to_the_total() {
        let (file, mut seen) = (file(), Vec::new());
        let total = file.len() as u64;
        let mut download = Download::new(source(file.clone()), "model.bin", total, &sha256_hex(&file));
        let got = block_on(download.run(&mut |done, total| seen.push((done, total)))).unwrap();
        assert_eq!(got, file);
        assert_eq!(seen, [(0, total), (PIECE_BYTES, total), (2 * PIECE_BYTES, total), (total, total)]);
    }

    #[test]
    fn a_second_run_goes_on_where_the_first_stopped() {
        let whole = file();
        let cut = source(whole[..PIECE_BYTES as usize + 5].to_vec());
        let mut download = Download::new(cut, "model.bin", whole.len() as u64, &sha256_hex(&whole));
        assert!(matches!(block_on(download.run(&mut |_, _| ())), Err(FetchError::Truncated { .. })));
        download.source = source(whole.clone());
        assert_eq!(block_on(download.run(&mut |_, _| ())).unwrap(), whole);
        assert_eq!(download.source.counters().requests, 2); // the first piece was kept
    }

    #[test]
    fn a_wrong_hash_drops_what_came() {
        let (good, mut bad) = (file(), file());
        bad[0] ^= 1;
        let mut download = Download::new(source(bad), "model.bin", good.len() as u64, &sha256_hex(&good));
        assert!(matches!(block_on(download.run(&mut |_, _| ())), Err(FetchError::HashMismatch { .. })));
        download.source = source(good.clone());
        assert_eq!(block_on(download.run(&mut |_, _| ())).unwrap(), good);
        assert_eq!(download.source.counters().requests, 3);
    }
}
