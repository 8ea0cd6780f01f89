//! Several streams that are open at the same time.

use strongroom_core::format::manifest::StreamKind;
use strongroom_core::source::{Capture, CaptureError, Chunking, Entry, Inspection, Sink, Source};

use crate::world::{World, lines};

/// Keeps a stream open while so many others are finished that the writer empties its queue.
struct Interleaved;

/// More than wait in the writer.
const OTHERS: usize = 30_000;

fn entry(kind: StreamKind, path: String) -> Entry {
    Entry {
        kind,
        mode: 0o700,
        ..Entry::dump(path, 0)
    }
}

impl Source for Interleaved {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    fn inspect(&self) -> Result<Inspection, CaptureError> {
        Ok(Inspection::default())
    }

    fn capture(&self, sink: &dyn Sink) -> Result<Capture, CaptureError> {
        let mut long = sink.begin(Chunking::Lines)?;
        let mut short = sink.begin(Chunking::Lines)?;
        for part in 0..4 {
            long.write(&lines(part * 40_000, 40_000))?;
            short.write(&lines(1_000_000 + part * 40_000, 40_000))?;
        }
        // The same lines in both: one stream refers to a frame that the other one fills.
        short.write(&lines(120_000, 40_000))?;
        short.finish(entry(StreamKind::Dump, "/db/short".to_owned()))?;
        for number in 0..OTHERS {
            sink.entry(entry(StreamKind::Directory, format!("/db/{number}")))?;
        }
        let mut given_up = sink.begin(Chunking::Lines)?;
        given_up.write(&lines(2_000_000, 40_000))?;
        given_up.discard()?;
        long.write(&lines(2_000_000, 40_000))?;
        long.finish(entry(StreamKind::Dump, "/db/long".to_owned()))?;
        Ok(Capture::default())
    }
}

#[test]
fn a_stream_stays_open_while_the_queue_is_emptied() {
    let mut world = World::new();
    world.source = Some(|| Box::new(Interleaved));
    for _ in 0..2 {
        let report = world.must_backup();
        assert_eq!(world.damage(&report.label), Vec::<String>::new());
    }
}
