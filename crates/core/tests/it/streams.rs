//! When streams are open: several at the same time, and none before its repository.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use strongroom_core::format::envelope::Status;
use strongroom_core::format::manifest::StreamKind;
use strongroom_core::source::{Capture, CaptureError, Chunking, Inspection, Sink, Source};
use strongroom_testkit::entry::entry;
use strongroom_testkit::fault_storage::Fault;

use crate::world::{World, lines};

type Capturing = Arc<dyn Fn(&dyn Sink) -> Result<(), CaptureError> + Send + Sync>;

/// A source that stores what a test has it store.
struct Scripted(Capturing);

impl Source for Scripted {
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
        (self.0)(sink)?;
        Ok(Capture::default())
    }
}

fn world(
    capturing: impl Fn(&dyn Sink) -> Result<(), CaptureError> + Send + Sync + 'static,
) -> World {
    let capturing: Capturing = Arc::new(capturing);
    let mut world = World::new();
    world.source = Some(Box::new(move || Box::new(Scripted(capturing.clone()))));
    world
}

/// More than wait in the writer.
const OTHERS: usize = 30_000;

/// Keeps a stream open while so many others are finished that the writer empties its queue.
fn interleaved(sink: &dyn Sink) -> Result<(), CaptureError> {
    let mut long = sink.begin(Chunking::Lines)?;
    let mut short = sink.begin(Chunking::Lines)?;
    for part in 0..4 {
        long.write(&lines(part * 40_000, 40_000))?;
        short.write(&lines(1_000_000 + part * 40_000, 40_000))?;
    }
    // The same lines in both: one stream refers to a frame that the other one fills.
    short.write(&lines(120_000, 40_000))?;
    short.finish(entry(StreamKind::Dump, "/db/short"))?;
    for number in 0..OTHERS {
        sink.entry(entry(StreamKind::Directory, format!("/db/{number}")))?;
    }
    let mut given_up = sink.begin(Chunking::Lines)?;
    given_up.write(&lines(2_000_000, 40_000))?;
    given_up.discard()?;
    long.write(&lines(2_000_000, 40_000))?;
    long.finish(entry(StreamKind::Dump, "/db/long"))?;
    Ok(())
}

#[test]
fn a_stream_stays_open_while_the_queue_is_emptied() {
    let world = world(interleaved);
    for _ in 0..2 {
        let report = world.must_backup();
        assert_eq!(world.damage(&report.label), Vec::<String>::new());
    }
}

#[test]
fn the_first_capture_begins_before_its_repository_is_open() {
    let (sender, begun) = channel();
    let world = world(move |sink| {
        // Whoever waited for it may be gone.
        let _ = sender.send(());
        let mut stream = sink.begin(Chunking::Lines)?;
        stream.write(&lines(0, 1000))?;
        stream.finish(entry(StreamKind::Dump, "/db/one")).map(drop)
    });
    world.storage.on_delay(move |_| {
        let waited = begun.recv_timeout(Duration::from_mins(1));
        waited.expect("the capture begins meanwhile");
    });
    world
        .storage
        .fault_at(None, world.storage.calls(), Fault::Delay);
    let report = world.must_backup();
    assert_eq!(world.damage(&report.label), Vec::<String>::new());
}

#[test]
fn a_repository_that_does_not_open_takes_nothing_and_is_told() {
    let world = World::new();
    world.must_backup();
    world
        .storage
        .fault_at(None, world.storage.calls(), Fault::Fail);
    let error = world.backup().expect_err("it is the only one");
    assert!(error.to_string().contains("repository \"all\""), "{error}");
    assert_eq!(world.must_backup().status, Status::Complete);
}
