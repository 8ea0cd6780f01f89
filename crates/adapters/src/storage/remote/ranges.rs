//! Reads an object of any length in ranges, each of which can be asked for again.

use std::io::{self, Read};

use strongroom_core::storage::StorageError;

/// How much is asked for at once, in bytes: a whole pack of the usual size.
const RANGE: usize = 16 << 20;

/// A reader from the first byte on.
pub(super) struct RangeReader<G> {
    get: G,
    block: Vec<u8>,
    used: usize,
    /// Where the block behind this one begins.
    next: u64,
    is_last: bool,
}

impl<G: Fn(u64, usize) -> Result<Vec<u8>, StorageError>> RangeReader<G> {
    /// Reads the first range.
    pub(super) fn open(get: G) -> Result<Self, StorageError> {
        let block = get(0, RANGE)?;
        Ok(Self {
            get,
            next: block.len() as u64,
            is_last: block.len() < RANGE,
            block,
            used: 0,
        })
    }
}

impl<G: Fn(u64, usize) -> Result<Vec<u8>, StorageError>> Read for RangeReader<G> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.used == self.block.len() && !self.is_last {
            // The reader's user takes the storage's own error out again.
            let block = (self.get)(self.next, RANGE).map_err(io::Error::other)?;
            self.is_last = block.len() < RANGE;
            self.next += block.len() as u64;
            self.block = block;
            self.used = 0;
        }
        let length = to.len().min(self.block.len() - self.used);
        to[..length].copy_from_slice(&self.block[self.used..self.used + length]);
        self.used += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::cancel::Interrupted;
    use strongroom_core::format::name::ObjectName;

    use super::*;

    #[test]
    fn what_the_storage_said_comes_out_of_the_reader_again() {
        let mut reader = RangeReader::open(|offset, length| match offset {
            0 => Ok(vec![1; length]),
            _ => Err(StorageError::Interrupted(Interrupted)),
        })
        .expect("opens");
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).expect_err("the second range");
        assert_eq!(read.len(), RANGE);
        let error = StorageError::of_reader(&ObjectName::repository(1), error);
        assert!(matches!(error, StorageError::Interrupted(_)), "{error:?}");
    }
}
