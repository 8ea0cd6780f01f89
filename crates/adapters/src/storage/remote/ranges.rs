//! Reads an object of any length in ranges, each of which can be asked for again.

use std::io::{self, Read};

use strongroom_core::error_chain;
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
            let block = (self.get)(self.next, RANGE)
                .map_err(|error| io::Error::other(error_chain(&error)))?;
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
