//! Secrets in assets that are not for them: kept out, taken elsewhere, or said.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use strongroom_adapters::source::files::{FilesSettings, FilesSource, OnSecret};
use strongroom_core::cancel::Cancel;
use strongroom_core::format::manifest::StreamKind;
use strongroom_core::source::{Capture, Class, Source as _};
use strongroom_testkit::recording_sink::{Moment, RecordingSink};
use tempfile::TempDir;

/// What may not be stored, and may not be said.
const SECRET: &str = "canary-4f0d91c2";

/// A directory with a configuration that holds a secret.
struct Place {
    directory: TempDir,
    settings: FilesSettings,
}

impl Place {
    fn new(class: Class) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("etc");
        let settings = FilesSettings::new(vec![root.display().to_string()], class);
        let place = Self {
            directory,
            settings,
        };
        place.write("ca.toml", "days = 90\n");
        place.write("akamu.toml", &akamu());
        place
    }

    fn with(class: Class, on_secret: OnSecret) -> Self {
        let mut place = Self::new(class);
        place.settings.on_secret = Some(on_secret);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("etc").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
        let mut file = strongroom_core::private_file::create_or_truncate(&path).expect("creates");
        file.write_all(text.as_bytes()).expect("writes");
    }

    fn capture(&self) -> (Capture, RecordingSink) {
        capture(&FilesSource::new(self.settings.clone()))
    }
}

fn akamu() -> String {
    format!("[server]\nlisten = \"0.0.0.0:443\"\neab_master_secret = \"{SECRET}\"\n")
}

/// Captures, and looks for the secret in all that is said.
fn capture(source: &FilesSource) -> (Capture, RecordingSink) {
    let sink = RecordingSink::new();
    let capture = source.capture(&sink).expect("captures");
    let said = format!("{capture:?}{}", source.settings());
    assert!(!said.contains(SECRET), "{said}");
    (capture, sink)
}

fn holds_secret(sink: &RecordingSink) -> bool {
    let recorded = sink.recorded();
    let contents = recorded.iter().filter_map(|one| one.content.as_deref());
    contents.into_iter().any(|content| has(content, SECRET))
}

fn has(content: &[u8], text: &str) -> bool {
    content
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[track_caller]
fn assert_one(said: &[String], parts: &[&str]) {
    let [sentence] = said else {
        panic!("{said:?}");
    };
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is not in {sentence}");
    }
}

#[test]
fn a_file_with_a_secret_is_left_out_with_its_line() {
    for class in [Class::Config, Class::Certificate] {
        let place = Place::new(class);
        let (capture, sink) = place.capture();
        let hint = "name it in an asset of class secret and exclude it here";
        let parts = [
            "akamu.toml\"",
            "in line 3 [akamu]",
            "is left out",
            hint,
            "redirect",
        ];
        assert_one(&capture.problems, &parts);
        assert_eq!(
            capture.facts["secrets"],
            serde_json::json!({ "left_out": 1 })
        );
        assert!(!holds_secret(&sink));
        assert!(
            sink.find(place.path("ca.toml")).is_some(),
            "the rest is taken"
        );
        assert!(sink.find(place.path("akamu.toml")).is_none());
    }
}

#[test]
fn a_file_is_left_out_by_its_name_where_it_holds_what_it_says() {
    let place = Place::new(Class::Config);
    place.write("akamu.toml", "");
    for (directory, secret) in [("full", SECRET), ("empty", "")] {
        place.write(&format!("{directory}/hsm.pin"), &format!("{secret}\n"));
        place.write(
            &format!("{directory}/.pgpass"),
            &format!("#\ndb:5432:ca:ca:{secret}\n"),
        );
    }
    let (capture, sink) = place.capture();
    let [pgpass, pin] = capture.problems.as_slice() else {
        panic!("{:?}", capture.problems);
    };
    assert!(pgpass.contains("full/.pgpass\": holds a password for PostgreSQL in line 2 [pgpass]"));
    assert!(pin.contains("full/hsm.pin\": holds the PIN of a token in line 1 [pin]"));
    assert!(!holds_secret(&sink));
    for name in ["empty/hsm.pin", "empty/.pgpass"] {
        assert!(sink.find(place.path(name)).is_some(), "{name}");
    }
}

#[test]
fn a_secret_far_down_a_long_file_is_found() {
    let place = Place::new(Class::Config);
    let text = format!("{}password = \"{SECRET}7\"\n", "a = 1\n".repeat(1_000_000));
    place.write("akamu.toml", "");
    place.write("long.conf", &text);
    let (capture, sink) = place.capture();
    assert_one(
        &capture.problems,
        &["a password in line 1000001 [password]"],
    );
    assert!(!holds_secret(&sink));
}

#[test]
fn classes_for_secrets_and_databases_are_not_searched() {
    for class in [Class::Secret, Class::Key, Class::Database] {
        let place = Place::new(class);
        let (capture, sink) = place.capture();
        assert_eq!(capture.problems, [""; 0]);
        assert!(holds_secret(&sink));
        let source = FilesSource::new(place.settings.clone());
        let seen = source.look_for_secrets(&Cancel::default()).expect("looks");
        assert_eq!(seen, None);
    }
}

#[test]
fn an_allowed_secret_stays_and_its_reason_is_on_record() {
    let reason = "the lab has no second repository".to_owned();
    let place = Place::with(
        Class::Config,
        OnSecret::Allow {
            reason: reason.clone(),
        },
    );
    let (capture, sink) = place.capture();
    assert_eq!(capture.problems, [""; 0]);
    assert_one(&capture.notes, &["line 3 [akamu]", "stays here", &reason]);
    assert!(holds_secret(&sink));
    let settings = FilesSource::new(place.settings.clone()).settings();
    assert_eq!(settings["on_secret"], "allow");
    assert_eq!(settings["on_secret_reason"], reason.as_str());
}

#[test]
fn a_log_stays_with_a_note_unless_it_is_to_be_refused() {
    for class in [Class::Log, Class::Audit] {
        let mut place = Place::new(class);
        let (capture, sink) = place.capture();
        assert_eq!(capture.problems, [""; 0]);
        assert_one(
            &capture.notes,
            &["line 3 [akamu]", "whoever opens the backup can read it"],
        );
        assert_eq!(capture.facts["secrets"]["in_this_asset"], 1);
        assert!(holds_secret(&sink));

        place.settings.on_secret = Some(OnSecret::Refuse);
        let sink = RecordingSink::new();
        let begun = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let seen = begun.clone();
        sink.set_hook(move |moment| {
            if matches!(moment, Moment::Begin { .. }) {
                seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        let capture = FilesSource::new(place.settings.clone())
            .capture(&sink)
            .expect("captures");
        assert_one(&capture.problems, &["line 3 [akamu]", "is left out"]);
        // A packed stream that was begun may have been stored in part.
        assert_eq!(
            begun.load(std::sync::atomic::Ordering::SeqCst),
            1,
            "only the other file"
        );
        assert_eq!(sink.discarded(), 0);
    }
}

#[test]
fn a_redirected_file_goes_to_the_other_asset_and_nowhere_else() {
    let to = "config-secrets".to_owned();
    let place = Place::with(Class::Config, OnSecret::Redirect { asset: to });
    std::fs::hard_link(place.path("akamu.toml"), place.path("same.toml")).expect("links");
    place.write("deep/er/.env", &format!("DB_PASSWORD={SECRET}\n"));
    let whole = FilesSource::new(place.settings.clone());
    let part = whole.of_redirected("config");

    let (early, _) = capture(&part);
    assert_one(
        &early.problems,
        &["the asset config was not captured in this run"],
    );

    for _ in 0..2 {
        let (first, sink) = capture(&whole);
        assert_eq!(first.problems, [""; 0]);
        assert_eq!(first.notes.len(), 3);
        assert!(
            first
                .notes
                .iter()
                .all(|note| note.ends_with("goes to the asset config-secrets"))
        );
        let facts = serde_json::json!({ "redirected": 3, "redirected_to": "config-secrets" });
        assert_eq!(first.facts["secrets"], facts);
        assert!(!holds_secret(&sink));
        // The file is changed in between: what it became is no secret, and it is taken all the same.
        place.write("deep/er/.env", "DB_PASSWORD_FILE=/run/secrets/db\n");
        let (second, sink) = capture(&part);
        assert_eq!((second.problems, second.notes), (vec![], vec![]));
        let recorded = sink.recorded();
        let names: Vec<(StreamKind, PathBuf)> = recorded
            .iter()
            .map(|one| (one.entry.kind, one.entry.path.clone()))
            .collect();
        let file = |kind, name: &str| (kind, place.path(name));
        assert_eq!(
            names,
            [
                file(StreamKind::File, "akamu.toml"),
                file(StreamKind::File, "deep/er/.env"),
                file(StreamKind::Hardlink, "same.toml"),
            ]
        );
        assert_eq!(
            sink.content(place.path("akamu.toml")),
            Some(akamu().into_bytes())
        );
        place.write("deep/er/.env", &format!("DB_PASSWORD={SECRET}\n"));
    }
    assert_eq!(whole.settings()["redirected_to"], "config-secrets");
    assert_eq!(part.settings()["redirected_from"], "config");

    // What is not there any more is missing from the backup.
    capture(&whole);
    std::fs::remove_file(place.path("deep/er/.env")).expect("removes");
    let (gone, _) = capture(&part);
    assert_one(&gone.problems, &["does not exist"]);
}

#[test]
fn a_look_before_the_backup_finds_the_same_and_stores_nothing() {
    let place = Place::new(Class::Config);
    let long = std::fs::File::options()
        .create_new(true)
        .write(true)
        .open(place.path("long"))
        .expect("creates");
    long.set_len(20 << 20).expect("grows");
    let source = FilesSource::new(place.settings.clone());
    let seen = source
        .look_for_secrets(&Cancel::default())
        .expect("looks")
        .expect("searched");
    assert_eq!((seen.files, seen.too_long), (2, 1));
    assert_one(&seen.problems, &["akamu.toml\"", "line 3 [akamu]"]);
    assert!(!format!("{seen:?}").contains(SECRET));

    let place = Place::with(
        Class::Config,
        OnSecret::Redirect {
            asset: "x-secrets".into(),
        },
    );
    let source = FilesSource::new(place.settings.clone());
    let seen = source
        .look_for_secrets(&Cancel::default())
        .expect("looks")
        .expect("searched");
    assert_eq!(seen.problems, [""; 0]);
    assert_one(&seen.notes, &["goes to the asset x-secrets"]);
}

#[test]
fn a_name_forges_no_line_and_a_database_is_passed_over() {
    let place = Place::new(Class::Config);
    place.write("akamu.toml", "");
    place.write("a\nb.env", &format!("DB_PASSWORD={SECRET}\n"));
    let mut database = b"SQLite format 3\0".to_vec();
    database.extend_from_slice(akamu().as_bytes());
    place.write("ca.db", &String::from_utf8(database).expect("UTF-8"));
    let (capture, sink) = place.capture();
    assert_one(
        &capture.problems,
        &["a\\nb.env\": holds a password in line 1"],
    );
    assert!(!capture.problems[0].contains('\n'));
    assert!(sink.find(Path::new(&place.path("ca.db"))).is_some());
}

/// A configuration directory where a password has a name that tells and others that do not, before and after it.
fn of_several_names(on_secret: OnSecret) -> Place {
    let place = Place::with(Class::Config, on_secret);
    place.write("akamu.toml", "");
    place.write("a.conf", &format!("{SECRET}\n"));
    for name in ["sub/db_password", "z.conf"] {
        let path = place.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
        std::fs::hard_link(place.path("a.conf"), path).expect("links");
    }
    // Several names that say nothing are no reason for anything.
    std::fs::hard_link(place.path("ca.toml"), place.path("same.toml")).expect("links");
    place
}

fn kinds(sink: &RecordingSink, place: &Place) -> Vec<(StreamKind, String)> {
    let recorded = sink.recorded();
    let streams = recorded
        .iter()
        .filter(|one| one.entry.kind != StreamKind::Directory);
    let relative = |path: &Path| {
        let path = path.strip_prefix(place.path("")).expect("below");
        path.display().to_string()
    };
    streams
        .map(|one| (one.entry.kind, relative(&one.entry.path)))
        .collect()
}

const FILE: StreamKind = StreamKind::File;
const LINK: StreamKind = StreamKind::Hardlink;

fn named(streams: &[(StreamKind, &str)]) -> Vec<(StreamKind, String)> {
    let streams = streams.iter();
    streams
        .map(|(kind, name)| (*kind, (*name).to_owned()))
        .collect()
}

#[test]
fn a_file_is_judged_by_all_its_names_before_it_is_stored_by_any() {
    let rest = [(FILE, "akamu.toml"), (FILE, "ca.toml"), (LINK, "same.toml")];
    let secret = ["a.conf", "sub/db_password", "z.conf"];

    let place = of_several_names(OnSecret::Refuse);
    let (whole, sink) = place.capture();
    assert!(!holds_secret(&sink));
    assert_eq!(kinds(&sink, &place), named(&rest));
    assert_eq!(whole.problems.len(), 3, "{:?}", whole.problems);
    for (problem, name) in whole.problems.iter().zip(secret) {
        assert!(problem.contains(&format!("{name}\"")), "{problem}");
        assert!(problem.contains("holds a password in line 1"), "{problem}");
        let other = problem.contains("also named") && problem.contains("sub/db_password\": holds");
        assert_eq!(other, name != "sub/db_password", "{problem}");
    }
    assert_eq!(whole.facts["secrets"]["left_out"], 3);
    let source = FilesSource::new(place.settings.clone());
    let seen = source.look_for_secrets(&Cancel::default()).expect("looks");
    let seen = seen.expect("searched");
    assert_one(&seen.problems, &["a.conf\", also named", "db_password\""]);

    let place = of_several_names(OnSecret::Redirect {
        asset: "config-secrets".to_owned(),
    });
    let whole = FilesSource::new(place.settings.clone());
    let (first, sink) = capture(&whole);
    assert!(!holds_secret(&sink));
    assert_eq!(kinds(&sink, &place), named(&rest));
    assert_eq!(first.facts["secrets"]["redirected"], 3);
    let (second, sink) = capture(&whole.of_redirected("config"));
    assert_eq!(second.problems, [""; 0]);
    let streams = [(FILE, secret[0]), (LINK, secret[1]), (LINK, secret[2])];
    assert_eq!(kinds(&sink, &place), named(&streams));

    let place = of_several_names(OnSecret::Allow {
        reason: "a lab".to_owned(),
    });
    let (capture, sink) = place.capture();
    assert_one(&capture.notes, &["a.conf", "line 1", "stays here: a lab"]);
    assert_eq!(capture.facts["secrets"]["in_this_asset"], 1);
    let all = [
        (FILE, secret[0]),
        rest[0],
        rest[1],
        rest[2],
        (LINK, secret[1]),
        (LINK, secret[2]),
    ];
    assert_eq!(kinds(&sink, &place), named(&all));
}

#[test]
fn a_name_that_comes_after_the_file_was_stored_is_judged_by_itself() {
    let place = Place::new(Class::Config);
    place.write("akamu.toml", &format!("{SECRET}\n"));
    std::fs::hard_link(place.path("akamu.toml"), place.path("same.toml")).expect("links");
    let sink = RecordingSink::new();
    let (from, to) = (place.path("akamu.toml"), place.path("db_password"));
    sink.set_hook(move |moment| {
        // When the next file begins, this one is stored.
        if matches!(moment, Moment::Begin { stream: 1 }) {
            std::fs::hard_link(&from, &to).expect("links");
        }
    });
    let capture = FilesSource::new(place.settings.clone())
        .capture(&sink)
        .expect("captures");
    assert_one(&capture.problems, &["db_password\"", "is left out"]);
    assert!(sink.find(place.path("db_password")).is_none());
}
