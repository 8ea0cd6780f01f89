//! The source of files: what it takes, what it leaves, and what it says.

mod keys;

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use strongroom_adapters::source::files::{FilesSettings, FilesSource};
use strongroom_core::format::manifest::StreamKind;
use strongroom_core::source::{Capture, CaptureError, Class, Inspection, Source as _};
use strongroom_testkit::recording_sink::{Moment, RecordingSink};
use tempfile::TempDir;

/// A directory to capture from.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
        write(&path, bytes);
        path
    }

    fn settings(&self, paths: &[&str], class: Class) -> FilesSettings {
        let paths = paths
            .iter()
            .map(|path| format!("{}/{path}", self.0.path().display()))
            .collect();
        FilesSettings::new(paths, class)
    }

    fn capture(&self, paths: &[&str]) -> (Capture, RecordingSink) {
        let sink = RecordingSink::new();
        capture(self.settings(paths, Class::Config), sink)
    }

    fn inspect(&self, paths: &[&str], class: Class) -> Inspection {
        let source = FilesSource::new(self.settings(paths, class));
        source.inspect().expect("looks")
    }
}

fn write(path: &Path, bytes: &[u8]) {
    let mut file = strongroom_core::private_file::create_or_truncate(path).expect("creates");
    file.write_all(bytes).expect("writes");
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(path).expect("opens");
    file.write_all(bytes).expect("writes");
}

fn capture(settings: FilesSettings, sink: RecordingSink) -> (Capture, RecordingSink) {
    let source = FilesSource::new(settings);
    let capture = source.capture(&sink).expect("captures");
    (capture, sink)
}

fn assert_complete(capture: &Capture) {
    assert_eq!(capture.problems, [""; 0]);
}

fn assert_one(sentences: &[String], wanted: &str) {
    assert_eq!(sentences.len(), 1, "{wanted}: {sentences:?}");
    assert!(sentences[0].contains(wanted), "{wanted}: {sentences:?}");
}

fn paths(sink: &RecordingSink) -> Vec<PathBuf> {
    let recorded = sink.recorded().into_iter();
    recorded.map(|recorded| recorded.entry.path).collect()
}

#[test]
fn a_tree_is_captured_in_order_with_everything_the_file_system_knows() {
    let place = Place::new();
    let key = place.write("ca/private/ca.key", b"secret");
    place.write("ca/ca.pem", b"certificate");
    place.write("ca/empty", b"");
    symlink("../elsewhere", place.path("ca/link")).expect("links");
    std::fs::hard_link(&key, place.path("ca/z.key")).expect("links");
    std::fs::set_permissions(&key, Permissions::from_mode(0o4640)).expect("sets");
    let times = std::fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_763_650_000, 123_456_789));
    let opened = OpenOptions::new().write(true).open(&key).expect("opens");
    opened.set_times(times).expect("sets");
    let has_xattrs =
        rustix::fs::setxattr(&key, "user.note", b"\0\xff", XattrFlags::empty()).is_ok();

    let (capture, sink) = place.capture(&["ca"]);
    assert_complete(&capture);
    let wanted = [
        "ca",
        "ca/ca.pem",
        "ca/empty",
        "ca/link",
        "ca/private",
        "ca/private/ca.key",
        "ca/z.key",
    ];
    assert_eq!(paths(&sink), wanted.map(|name| place.path(name)));
    let kinds: Vec<_> = sink
        .recorded()
        .iter()
        .map(|recorded| recorded.entry.kind)
        .collect();
    let wanted = [
        StreamKind::Directory,
        StreamKind::File,
        StreamKind::File,
        StreamKind::Symlink,
        StreamKind::Directory,
        StreamKind::File,
        StreamKind::Hardlink,
    ];
    assert_eq!(kinds, wanted);
    assert_eq!(sink.content(&key), Some(b"secret".to_vec()));
    assert_eq!(sink.content(place.path("ca/empty")), Some(Vec::new()));
    let entry = &sink.find(&key).expect("is there").entry;
    assert_eq!(entry.mode, 0o4640);
    assert_eq!(entry.mtime, (1_763_650_000, 123_456_789));
    if entry.uid == 0 {
        assert_eq!(entry.user.as_deref(), Some("root"));
    }
    if has_xattrs {
        assert_eq!(entry.xattrs["user.note"], b"\0\xff");
    }
    let link = &sink.find(place.path("ca/link")).expect("is there").entry;
    assert_eq!(link.target.as_deref(), Some(Path::new("../elsewhere")));
    let hard = &sink.find(place.path("ca/z.key")).expect("is there").entry;
    assert_eq!(hard.target.as_ref(), Some(&key));
    assert_eq!(
        capture.facts,
        serde_json::json!({
            "files": 3, "directories": 2, "symlinks": 1, "hardlinks": 1, "excluded": 0, "bytes": 17
        })
    );
}

#[test]
fn names_that_are_no_text_and_names_with_newlines_come_through() {
    let place = Place::new();
    let odd = [&b"a\nb"[..], b"\xff\xfe", b" ", b"*"];
    for name in odd {
        place.write(Path::new("d").join(OsStr::from_bytes(name)), name);
    }
    let (capture, sink) = place.capture(&["d"]);
    assert_complete(&capture);
    for name in odd {
        let path = place.path("d").join(OsStr::from_bytes(name));
        assert_eq!(sink.content(path).as_deref(), Some(name));
    }
}

#[test]
fn holes_are_told_and_content_is_the_same() {
    let place = Place::new();
    let path = place.write("sparse", b"begin");
    let file = OpenOptions::new().write(true).open(&path).expect("opens");
    file.write_all_at(b"middle", 3 << 20).expect("writes");
    file.set_len(8 << 20).expect("sets");
    let (capture, sink) = place.capture(&["sparse"]);
    assert_complete(&capture);
    let recorded = sink.find(&path).expect("is there");
    assert!(recorded.content.as_deref() == Some(&std::fs::read(&path).expect("reads")));
    assert_eq!(capture.facts["bytes"], 8 << 20);
    assert!(!recorded.holes.is_empty(), "the file system has no holes?");
}

#[test]
fn patterns_and_excludes_select() {
    let place = Place::new();
    for name in [
        "ca/a.key",
        "ca/b.key",
        "ca/old/c.key",
        "ca/x.log",
        "ca/tmp/y",
    ] {
        place.write(name, b"x");
    }
    let mut settings = place.settings(&["ca/*.key", "ca", "ca/a.key"], Class::Config);
    settings.exclude = ["*.log".into(), "tmp".into()].into();
    let (complete, sink) = capture(settings, RecordingSink::new());
    assert_complete(&complete);
    let wanted = ["ca", "ca/a.key", "ca/b.key", "ca/old", "ca/old/c.key"];
    assert_eq!(paths(&sink), wanted.map(|name| place.path(name)));
    assert_eq!(complete.facts["excluded"], 2);

    let (incomplete, sink) = place.capture(&["ca/*.pem", "ca/a.key"]);
    assert_one(&incomplete.problems, "matches nothing");
    assert_eq!(sink.recorded().len(), 1);
    let (incomplete, _) = place.capture(&["missing", "ca/a.key"]);
    assert_one(&incomplete.problems, "does not exist");
}

#[test]
fn a_root_below_a_link_of_an_earlier_root_is_not_lost() {
    let place = Place::new();
    place.write("real/inner/file", b"x");
    std::fs::create_dir(place.path("tree")).expect("makes");
    symlink(place.path("real/inner"), place.path("tree/link")).expect("links");
    let (capture, sink) = place.capture(&["tree", "tree/link/file"]);
    assert_complete(&capture);
    assert_eq!(
        sink.content(place.path("tree/link/file")),
        Some(b"x".to_vec())
    );
}

#[test]
fn links_are_taken_as_links_and_said() {
    let place = Place::new();
    let target = place.write("v2/ca.key", b"x");
    let link = place.path("current");
    symlink(&target, &link).expect("links");
    let (alone, sink) = place.capture(&["current"]);
    // Named itself, it stands for what it points to.
    assert_one(&alone.problems, "which is not covered");
    assert_eq!(
        sink.find(&link).expect("is there").entry.kind,
        StreamKind::Symlink
    );
    let (both, _) = place.capture(&["current", "v2"]);
    assert_eq!(both.notes, [""; 0]);
    std::fs::remove_file(&target).expect("removes");
    let (dangling, _) = place.capture(&["current"]);
    assert_one(&dangling.notes, "leads nowhere");

    place.write("v2/ca.key", b"x");
    symlink(place.path("v2"), place.path("latest")).expect("links");
    let (through, sink) = place.capture(&["latest/ca.key"]);
    assert_complete(&through);
    assert_one(&through.notes, "through the symbolic link");
    assert_eq!(
        sink.content(place.path("latest/ca.key")),
        Some(b"x".to_vec())
    );
}

#[test]
fn pipes_and_sockets_are_skipped_and_never_waited_for() {
    let place = Place::new();
    place.write("run/file", b"x");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let pipe = place.path("run/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
        .expect("makes");
    let _socket = UnixListener::bind(place.path("run/socket")).expect("binds");
    let (capture, sink) = place.capture(&["run"]);
    assert_complete(&capture);
    assert_eq!(capture.notes.len(), 2, "{:?}", capture.notes);
    assert_eq!(sink.recorded().len(), 2);
}

/// Captures one file of 1 MiB and runs `change` at each write for which `when` holds.
fn changing(
    class: Class,
    when: impl Fn(usize, u64) -> bool + Send + 'static,
    change: impl Fn(&Path) + Send + 'static,
) -> (Capture, RecordingSink, PathBuf, Place) {
    let place = Place::new();
    let path = place.write("file", &vec![1; 1 << 20]);
    let changed = path.clone();
    let sink = RecordingSink::new().with_hook(move |moment| {
        if let Moment::Write { stream, offset } = moment
            && when(stream, offset)
        {
            change(&changed);
        }
    });
    let (capture, sink) = capture(place.settings(&["file"], class), sink);
    (capture, sink, path, place)
}

/// What was changed is read once more, and is in the backup as it is now.
#[track_caller]
fn assert_read_again(
    class: Class,
    when: impl Fn(usize, u64) -> bool + Send + 'static,
    change: fn(&Path),
) {
    let (capture, sink, path, _place) = changing(class, when, change);
    assert_complete(&capture);
    assert_eq!(sink.discarded(), 1);
    let content = std::fs::read(&path).expect("reads");
    assert!(sink.content(&path).as_ref() == Some(&content));
}

fn overwrite(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).expect("opens");
    file.write_all_at(b"changed", 1000).expect("writes");
}

fn replace(path: &Path) {
    let new = path.with_extension("new");
    write(&new, b"another file");
    std::fs::rename(new, path).expect("renames");
}

fn truncate(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).expect("opens");
    file.set_len(700_000).expect("sets");
}

#[test]
fn a_file_that_changes_is_read_again() {
    let changes: [fn(&Path); 4] = [overwrite, replace, truncate, |path| append(path, b"more")];
    for change in changes {
        for late in [0, 3 << 18] {
            let first = move |stream, offset| stream == 0 && offset == late;
            assert_read_again(Class::Config, first, change);
        }
    }
}

#[test]
fn a_file_that_never_holds_still_is_a_problem() {
    let changes: [fn(&Path); 2] = [replace_by_itself, |path| append(path, b"more")];
    for change in changes {
        let (capture, sink, ..) = changing(Class::Config, |_, offset| offset == 0, change);
        assert_one(&capture.problems, "changed while it was read, 3 times");
        assert_eq!((sink.discarded(), sink.recorded().len()), (3, 0));
        assert_eq!(capture.facts["files"], 0);
    }
}

fn replace_by_itself(path: &Path) {
    let new = path.with_extension("new");
    std::fs::copy(path, &new).expect("copies");
    std::fs::rename(new, path).expect("renames");
}

#[test]
fn a_log_may_grow_but_not_shrink_or_be_replaced() {
    for class in [Class::Log, Class::Audit] {
        let always = |_, offset| offset == 0;
        let (capture, sink, path, _place) = changing(class, always, |path| append(path, b"more"));
        assert_complete(&capture);
        assert_eq!(sink.discarded(), 0);
        assert_eq!(
            sink.content(&path).map(|content| content.len()),
            Some(1 << 20)
        );
        for change in [replace as fn(&Path), truncate] {
            let first = |stream, offset| stream == 0 && offset == 0;
            assert_read_again(class, first, change);
        }
    }
}

#[test]
fn what_disappears_is_noted_in_a_directory_and_a_problem_by_name() {
    for (selected, is_problem) in [("d", false), ("d/*", false), ("d/b", true)] {
        let place = Place::new();
        place.write("d/a", b"a");
        let gone = place.write("d/b", b"b");
        let doomed = gone.clone();
        let sink = RecordingSink::new().with_hook(move |moment| {
            if matches!(moment, Moment::Begin { .. } | Moment::Finish { .. }) {
                let _ = std::fs::remove_file(&doomed);
            }
        });
        let (capture, sink) = capture(place.settings(&[selected], Class::Config), sink);
        if is_problem {
            assert_one(&capture.problems, "does not exist");
            assert_eq!(capture.notes, [""; 0]);
        } else {
            assert_complete(&capture);
            assert_one(&capture.notes, "disappeared");
        }
        assert_eq!(sink.content(&gone), None);
    }
}

#[test]
fn a_name_that_appears_by_renaming_is_not_missed() {
    let place = Place::new();
    place.write("d/m", b"m");
    let old = place.write("d/z", b"z");
    let new = place.path("d/a");
    let (from, to) = (old.clone(), new.clone());
    let sink = RecordingSink::new().with_hook(move |moment| {
        if moment == (Moment::Begin { stream: 0 }) {
            std::fs::rename(&from, &to).expect("renames");
        }
    });
    let (capture, sink) = capture(place.settings(&["d"], Class::Config), sink);
    assert_complete(&capture);
    assert_eq!(sink.content(&new), Some(b"z".to_vec()));
    assert!(sink.find(&old).is_none());
}

#[test]
fn an_interruption_stops_between_blocks() {
    let place = Place::new();
    place.write("file", &vec![1; 1 << 20]);
    let sink = RecordingSink::new();
    let cancel = sink.cancel_flag();
    let sink = sink.with_hook(move |moment| {
        if matches!(moment, Moment::Write { .. }) {
            cancel.request();
        }
    });
    let source = FilesSource::new(place.settings(&["file"], Class::Config));
    let error = source.capture(&sink).expect_err("interrupted");
    assert!(matches!(error, CaptureError::Interrupted(_)), "{error:?}");
    assert_eq!(sink.calls(), 2);
}

#[test]
fn every_failure_of_the_sink_ends_the_capture() {
    let place = Place::new();
    place.write("d/a", b"a");
    place.write("d/b", &vec![0; 600_000]);
    symlink("a", place.path("d/c")).expect("links");
    let source = FilesSource::new(place.settings(&["d"], Class::Config));
    let whole = RecordingSink::new();
    source.capture(&whole).expect("captures");
    assert!(whole.calls() > 8);
    for call in 0..whole.calls() {
        let sink = RecordingSink::new().failing_at(call);
        let error = source.capture(&sink).expect_err("by script");
        assert!(error.is_fatal(), "{error:?}");
        assert_eq!(sink.calls(), call + 1, "nothing is pushed after a failure");
    }
}

#[test]
fn what_cannot_be_read_is_a_problem_and_the_rest_is_taken() {
    let place = Place::new();
    place.write("d/a", b"a");
    let closed = place.write("d/closed", b"x");
    std::fs::set_permissions(&closed, Permissions::from_mode(0o000)).expect("sets");
    if File::open(&closed).is_ok() {
        // Root reads everything; what it cannot open is a file whose name ends where another file begins.
        let (capture, sink) = place.capture(&["d/a/b", "d/closed"]);
        assert_one(&capture.problems, "cannot be looked at");
        assert_eq!(sink.recorded().len(), 1);
        return;
    }
    let (capture, sink) = place.capture(&["d"]);
    assert_one(&capture.problems, "cannot be opened");
    assert_eq!(sink.recorded().len(), 2);
    assert_one(
        &place.inspect(&["d"], Class::Config).problems,
        "cannot be read",
    );
}

#[test]
fn an_inspection_counts_warns_and_suggests() {
    let place = Place::new();
    let key = place.write("etc/ca.key", b"secret");
    for name in [
        "etc/ca.pem",
        "etc/app.conf",
        "etc/.env",
        "etc/notes.txt",
        "etc/UPPER.PFX",
    ] {
        place.write(name, b"x");
    }
    std::fs::set_permissions(&key, Permissions::from_mode(0o640)).expect("sets");
    let inspection = place.inspect(&["etc/ca.key", "etc/missing"], Class::Key);
    assert_eq!((inspection.files, inspection.size_bytes), (1, 6));
    assert_one(&inspection.problems, "does not exist");
    let command = format!("chmod 600 '{}'", key.display());
    assert_one(&inspection.notes, &command);
    let wanted = ["etc/.env", "etc/UPPER.PFX", "etc/app.conf", "etc/ca.pem"];
    assert_eq!(inspection.suggestions, wanted.map(|name| place.path(name)));
    let wanted = ["etc/ca.key", "etc/missing"].map(|name| place.path(name));
    assert_eq!(inspection.covered, wanted);
    let config = place.inspect(&["etc"], Class::Config);
    assert_eq!(
        (config.files, config.notes.len(), config.suggestions.len()),
        (6, 0, 0)
    );
}

#[test]
fn what_a_restore_keeps_until_its_sign_off_is_never_captured() {
    let place = Place::new();
    place.write("etc/ca.toml", b"x = 1");
    let old = place.write(
        "etc/.strongroom-20261120-153000Z-k3f9-0.old",
        b"the replaced file",
    );
    for paths in [&["etc"][..], &["etc/.*", "etc/*"]] {
        let (capture, sink) = place.capture(paths);
        assert_complete(&capture);
        assert!(sink.find(&old).is_none());
        assert!(sink.find(place.path("etc/ca.toml")).is_some());
    }
}
