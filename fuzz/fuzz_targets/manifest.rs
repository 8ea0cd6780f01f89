//! `ManifestReader` and `ManifestItems` on JSON Lines, to the end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::limits::{FRAME_CONTENT_MAX, PACK_MAX, SIZE_MAX};
use strongroom_core::format::manifest::{
    Content, Line, ManifestReader, Run, Stream, StreamKind, is_plain_absolute,
};
use strongroom_core::repository::reader::{Item, ManifestItems};

/// Assets, streams and runs.
type Counts = (u64, u64, u64);

/// Reads all lines; the counts of a manifest that holds.
fn lines(data: &[u8]) -> Option<Counts> {
    let mut reader = ManifestReader::new(data).ok()?;
    assert_eq!(reader.header().format, 1);
    let mut counts = (0, 0, 0);
    let mut stated = None;
    while let Some(line) = reader.next_line().ok()? {
        assert_eq!(stated, None, "the end line is the last");
        match &line {
            Line::Asset(_) => counts.0 += 1,
            Line::Stream(_) => {
                counts.1 += 1;
                let text = serde_json::to_vec(&line).expect("a line serialises");
                let again: Line = serde_json::from_slice(&text).expect("own text");
                assert_eq!(again, line);
            }
            Line::Runs { runs } => counts.2 += runs.len() as u64,
            Line::End {
                assets,
                streams,
                runs,
            } => stated = Some((*assets, *streams, *runs)),
            Line::Manifest(_) => panic!("a second first line"),
            Line::Pack { .. } | Line::Result(_) => {}
        }
    }
    assert_eq!(stated, Some(counts));
    assert!(reader.next_line().is_ok_and(|line| line.is_none()));
    Some(counts)
}

/// Reads all items; the counts of a manifest that holds.
fn items(data: &[u8]) -> Option<Counts> {
    let mut items = ManifestItems::new(data).ok()?;
    let mut counts = (0, 0, 0);
    let mut results = 0;
    while let Some(item) = items.next_item().ok()? {
        match item {
            Item::Asset(_) => {
                assert_eq!(counts.0, results, "one asset at a time");
                counts.0 += 1;
            }
            Item::Result(_) => results += 1,
            Item::Stream(stream, runs) => {
                assert_eq!(counts.0, results + 1, "streams belong to an asset");
                counts.1 += 1;
                counts.2 += runs.len() as u64;
                check_stream(&stream);
                check_runs(&stream, &runs, items.packs().len());
            }
        }
    }
    assert_eq!(counts.0, results);
    Some(counts)
}

fn check_stream(stream: &Stream) {
    assert!(is_plain_absolute(&stream.path));
    assert!(stream.mode <= 0o7777 && stream.mtime.1 < 1_000_000_000);
    assert_eq!(stream.kind.has_content(), stream.content.is_some());
    assert_eq!(stream.kind.has_content(), stream.sha256.is_some());
    assert_eq!(stream.kind.has_content(), stream.size.is_some());
    assert!(stream.size.is_none_or(|size| size <= SIZE_MAX));
    match (stream.kind, &stream.target) {
        (StreamKind::Hardlink, Some(target)) => assert!(is_plain_absolute(target)),
        (StreamKind::Symlink, Some(target)) => assert!(!target.as_os_str().is_empty()),
        (_, target) => assert_eq!(*target, None),
    }
}

fn check_runs(stream: &Stream, runs: &[Run], packs: usize) {
    if stream.content != Some(Content::Packed) {
        assert!(runs.is_empty(), "only packed streams have runs");
        return;
    }
    let mut length = 0_u64;
    for run in runs {
        assert!(run.length > 0);
        length = length.checked_add(run.length).expect("lengths add up");
        match run.pack_index() {
            None => assert_eq!((run.pack, run.frame, run.offset), (Run::HOLE, 0, 0)),
            Some(pack) => {
                assert!(pack < packs && (run.frame as usize) < PACK_MAX);
                assert!(u64::from(run.offset) + run.length <= FRAME_CONTENT_MAX as u64);
            }
        }
    }
    assert_eq!(Some(length), stream.size);
}

fuzz_target!(|data: &[u8]| {
    assert_eq!(lines(data), items(data));
});
