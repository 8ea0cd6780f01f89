//! Reads an asset as a backup would and keeps nothing of it.

use std::path::Path;

use crate::cancel::Cancel;
use crate::format::id::Hasher;
use crate::repository::update_zeros;
use crate::source::{
    Capture, CaptureError, Chunking, Entry, Sink, Source, StreamSummary, StreamWriter,
};

/// Reads an asset for what its source finds out on the way, the proof of a key for instance.
///
/// For sources that need no private copies: there is no scratch directory.
pub fn prove_source(source: &dyn Source, cancel: &Cancel) -> Result<Capture, CaptureError> {
    source.capture(&Nowhere { cancel })
}

struct Nowhere<'c> {
    cancel: &'c Cancel,
}

impl Sink for Nowhere<'_> {
    fn entry(&self, _: Entry) -> Result<(), CaptureError> {
        Ok(self.cancel.check()?)
    }

    fn begin(&self, _: Chunking) -> Result<Box<dyn StreamWriter + '_>, CaptureError> {
        Ok(Box::new(Digesting {
            hasher: Hasher::new(),
            size_bytes: 0,
            cancel: self.cancel,
        }))
    }

    fn scratch(&self) -> &Path {
        Path::new("/nonexistent")
    }

    fn memory(&self) -> Option<&serde_json::Value> {
        None
    }

    fn cancel(&self) -> &Cancel {
        self.cancel
    }
}

struct Digesting<'c> {
    hasher: Hasher,
    size_bytes: u64,
    cancel: &'c Cancel,
}

impl StreamWriter for Digesting<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.cancel.check()?;
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), CaptureError> {
        update_zeros(&mut self.hasher, length);
        self.size_bytes += length;
        Ok(())
    }

    fn finish(self: Box<Self>, _: Entry) -> Result<StreamSummary, CaptureError> {
        Ok(StreamSummary {
            sha256: self.hasher.finish(),
            size_bytes: self.size_bytes,
        })
    }

    fn discard(self: Box<Self>) -> Result<(), CaptureError> {
        Ok(())
    }
}
