//! Captures a PostgreSQL database into nothing and tells how long that took: `postgresql_capture URL [JOBS [counts]]`.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use strongroom_adapters::source::postgresql::{
    Connection, FactsMode, PostgresqlSettings, PostgresqlSource, PostgresqlUrl,
};
use strongroom_core::cancel::Cancel;
use strongroom_core::format::Digest;
use strongroom_core::source::{
    CaptureError, Chunking, Entry, Sink, Source as _, StreamSummary, StreamWriter,
};

#[derive(Default)]
struct Nothing {
    bytes: AtomicU64,
    blocks: AtomicU64,
    cancel: Cancel,
}

struct Stream<'a>(&'a Nothing);

impl Sink for Nothing {
    fn entry(&self, _: Entry) -> Result<(), CaptureError> {
        Ok(())
    }
    fn begin(&self, _: Chunking) -> Result<Box<dyn StreamWriter + '_>, CaptureError> {
        Ok(Box::new(Stream(self)))
    }
    fn scratch(&self) -> &Path {
        Path::new("/nonexistent")
    }
    fn memory(&self) -> Option<&serde_json::Value> {
        None
    }
    fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

impl StreamWriter for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.0
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.0.blocks.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn hole(&mut self, _: u64) -> Result<(), CaptureError> {
        Ok(())
    }
    fn finish(self: Box<Self>, _: Entry) -> Result<StreamSummary, CaptureError> {
        Ok(StreamSummary {
            sha256: Digest::of(b""),
            size_bytes: 0,
        })
    }
    fn discard(self: Box<Self>) -> Result<(), CaptureError> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let url = arguments.first().ok_or("a URL is needed")?;
    let mut settings = PostgresqlSettings {
        url: Some(PostgresqlUrl::parse(url)?),
        ..PostgresqlSettings::default()
    };
    if let Some(jobs) = arguments.get(1) {
        settings.jobs = jobs.parse()?;
    }
    if arguments.get(2).is_some_and(|word| word == "counts") {
        settings.facts = FactsMode::Counts;
    }
    let sink = Nothing::default();
    let source = PostgresqlSource::new(Connection {
        settings,
        ..Connection::default()
    });
    let begun = Instant::now();
    let capture = source.capture(&sink)?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{seconds:.2} s, {} bytes in {} blocks, problems {:?}",
        sink.bytes.into_inner(),
        sink.blocks.into_inner(),
        capture.problems
    );
    Ok(())
}
