//! A sink that tells an observer how far the capture is.

use std::path::Path;

use super::{Event, Observer};
use crate::cancel::Cancel;
use crate::source::{CaptureError, Chunking, Entry, Sink, StreamSummary, StreamWriter};

/// Wraps the sink of an asset.
pub(super) struct ObservedSink<'s> {
    sink: &'s dyn Sink,
    observer: &'s dyn Observer,
}

impl<'s> ObservedSink<'s> {
    pub(super) fn new(sink: &'s dyn Sink, observer: &'s dyn Observer) -> Self {
        Self { sink, observer }
    }
}

impl Sink for ObservedSink<'_> {
    fn entry(&self, entry: Entry) -> Result<(), CaptureError> {
        self.sink.entry(entry)
    }

    fn begin(&self, chunking: Chunking) -> Result<Box<dyn StreamWriter + '_>, CaptureError> {
        let writer = self.sink.begin(chunking)?;
        Ok(Box::new(ObservedWriter {
            writer,
            observer: self.observer,
        }))
    }

    fn scratch(&self) -> &Path {
        self.sink.scratch()
    }

    fn memory(&self) -> Option<&serde_json::Value> {
        self.sink.memory()
    }

    fn cancel(&self) -> &Cancel {
        self.sink.cancel()
    }
}

struct ObservedWriter<'s> {
    writer: Box<dyn StreamWriter + 's>,
    observer: &'s dyn Observer,
}

impl StreamWriter for ObservedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.writer.write(bytes)?;
        self.observer.event(Event::Bytes(bytes.len() as u64));
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), CaptureError> {
        self.writer.hole(length)?;
        self.observer.event(Event::Bytes(length));
        Ok(())
    }

    fn finish(self: Box<Self>, entry: Entry) -> Result<StreamSummary, CaptureError> {
        self.writer.finish(entry)
    }

    fn discard(self: Box<Self>) -> Result<(), CaptureError> {
        self.writer.discard()
    }
}
