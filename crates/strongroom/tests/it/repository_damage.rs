//! Each kind of repository object, damaged in each way: it is found and named, nothing wrong is ever restored,
//! and the next backup works.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixture::{Contents, Host, copy_tree};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Document,
    Envelope,
    Epoch,
    Manifest,
    Pack,
    Artifact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Truncated,
    Emptied,
    Flipped,
    Missing,
    /// Its bytes and those of another object of its kind.
    Swapped,
    /// Under another valid name, no longer under its own.
    Renamed,
    /// Under another valid name, too.
    Duplicated,
    /// The object of its kind in another repository in its place.
    ReplayedFromAnother,
    /// The same from an older backup of this repository.
    ReplayedFromOlder,
}

const KINDS: [Kind; 6] = [
    Kind::Document,
    Kind::Envelope,
    Kind::Epoch,
    Kind::Manifest,
    Kind::Pack,
    Kind::Artifact,
];

const DAMAGES: [Damage; 9] = [
    Damage::Truncated,
    Damage::Emptied,
    Damage::Flipped,
    Damage::Missing,
    Damage::Swapped,
    Damage::Renamed,
    Damage::Duplicated,
    Damage::ReplayedFromAnother,
    Damage::ReplayedFromOlder,
];

/// The largest object of a repository: a pack.
pub(crate) fn largest_object(repository: &Path) -> PathBuf {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for directory in std::fs::read_dir(repository.join("objects")).expect("reads") {
        for object in std::fs::read_dir(directory.expect("reads").path()).expect("reads") {
            let object = object.expect("reads");
            found.push((object.metadata().expect("is there").len(), object.path()));
        }
    }
    found.into_iter().max().expect("an object").1
}

/// The files of the newest backup, by kind, and the ones of the backup before it.
struct Objects {
    newest: Vec<(Kind, PathBuf)>,
    older: Vec<(Kind, PathBuf)>,
}

impl Objects {
    fn of(host: &Host, repository: &str, labels: [&str; 2]) -> Self {
        let [older, newest] = labels.map(|label| Self::backup(host, repository, label));
        Self { newest, older }
    }

    fn backup(host: &Host, name: &str, label: &str) -> Vec<(Kind, PathBuf)> {
        let root = host.path(format!("repo/{name}"));
        let shown = host.with_identities(&["show", label, "--json"]);
        let shown = host.ok(&shown).document();
        let part = find(&shown["repositories"], "repository", name);
        let object = |digest: &str| root.join(format!("objects/{}/{digest}.age", &digest[..2]));
        let envelope = root.join(part["envelope"].as_str().expect("a name"));
        let signed: Value =
            serde_json::from_slice(&std::fs::read(&envelope).expect("reads")).expect("JSON");
        let payload = base64(signed["payload"].as_str().expect("a payload"));
        let inside: Value = serde_json::from_slice(&payload).expect("JSON");
        let manifest = inside["manifest"].as_str().expect("a digest");
        let artifacts: Vec<&str> = shown["assets"]
            .as_array()
            .expect("assets")
            .iter()
            .filter(|asset| asset["repository"] == name)
            .flat_map(|asset| asset["streams"].as_array().expect("streams"))
            .filter_map(|stream| stream["object"].as_str())
            .collect();
        let epoch = &inside["epoch"];
        let (id, sealed) = (epoch["id"].as_str(), epoch["object"].as_str());
        let epoch = format!("epochs/{}/{}.age", id.expect("an id"), sealed.expect("one"));
        let mut found = vec![
            (Kind::Document, root.join("repository/00000001.json")),
            (Kind::Envelope, envelope),
            (Kind::Epoch, root.join(epoch)),
            (Kind::Manifest, object(manifest)),
        ];
        for entry in inside["objects"].as_array().expect("objects") {
            let digest = entry[0].as_str().expect("a digest");
            if digest != manifest {
                let kind = if artifacts.contains(&digest) {
                    Kind::Artifact
                } else {
                    Kind::Pack
                };
                found.push((kind, object(digest)));
            }
        }
        found
    }

    /// An object of the newest backup that the one before does not have, where there is one.
    fn victim(&self, kind: Kind) -> Option<&PathBuf> {
        let own = || {
            self.newest
                .iter()
                .filter(|(of, _)| *of == kind)
                .map(|(_, path)| path)
        };
        own()
            .find(|path| !self.older.iter().any(|(_, old)| old == *path))
            .or_else(|| own().next())
    }

    fn other(&self, kind: Kind, than: &Path) -> Option<&PathBuf> {
        let all = self.older.iter().chain(&self.newest);
        all.filter(|(of, path)| *of == kind && path != than)
            .map(|(_, path)| path)
            .next()
    }
}

fn find<'v>(list: &'v Value, key: &str, name: &str) -> &'v Value {
    let list = list.as_array().expect("a list");
    list.iter().find(|one| one[key] == name).expect("is in it")
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for digit in text.bytes().filter(|byte| *byte != b'=') {
        let value = DIGITS.iter().position(|one| *one == digit).expect("base64");
        bits = bits << 6 | u32::try_from(value).expect("small");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("a byte"));
        }
    }
    bytes
}

/// Another valid name of the same kind.
fn other_name(kind: Kind, path: &Path) -> PathBuf {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .expect("a name");
    let digits = |by: u64| {
        let number: u64 = stem.parse().expect("a number");
        format!("{:0width$}.json", number + by, width = stem.len())
    };
    match kind {
        Kind::Document | Kind::Envelope => path.with_file_name(digits(1)),
        _ => {
            let last = if stem.ends_with('0') { '1' } else { '0' };
            path.with_file_name(format!("{}{last}.age", &stem[..stem.len() - 1]))
        }
    }
}

/// Does the damage; false when there is nothing to do it with.
fn damage(damage: Damage, kind: Kind, path: &Path, objects: &Objects, foreign: &Objects) -> bool {
    let bytes = std::fs::read(path).expect("reads");
    let put = |path: &Path, bytes: &[u8]| {
        let _ = std::fs::remove_file(path);
        std::fs::write(path, bytes).expect("writes");
    };
    match damage {
        Damage::Truncated => put(path, &bytes[..bytes.len() / 2]),
        Damage::Emptied => put(path, b""),
        Damage::Flipped => {
            let mut bytes = bytes;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            put(path, &bytes);
        }
        Damage::Missing => std::fs::remove_file(path).expect("removes"),
        Damage::Swapped => {
            let Some(other) = objects.other(kind, path) else {
                return false;
            };
            let others = std::fs::read(other).expect("reads");
            put(other, &bytes);
            put(path, &others);
        }
        Damage::Renamed => std::fs::rename(path, other_name(kind, path)).expect("renames"),
        Damage::Duplicated => put(&other_name(kind, path), &bytes),
        Damage::ReplayedFromAnother => {
            let Some(other) = foreign.victim(kind) else {
                return false;
            };
            put(path, &std::fs::read(other).expect("reads"));
        }
        Damage::ReplayedFromOlder => {
            let older = objects.older.iter();
            let Some((_, other)) = older
                .clone()
                .find(|(of, other)| *of == kind && other != path)
            else {
                return false;
            };
            put(path, &std::fs::read(other).expect("reads"));
        }
    }
    true
}

/// Everything that is there is right, whatever is missing.
fn assert_nothing_wrong(restored: &Contents, wanted: &Contents, case: &str) {
    for (path, bytes) in restored {
        assert!(
            wanted.get(path) == Some(bytes),
            "{case}: {} was restored wrong",
            path.display()
        );
    }
}

#[test]
fn every_damage_to_every_kind_of_object_is_found() {
    let host = Host::new();
    let first = host.backup();
    host.insert(7000, 60);
    crate::fixture::write(&host.path("ca/conf/ca.toml"), "days = 30\n");
    crate::fixture::write(&host.path("ca/private/token"), crate::fixture::TOKEN);
    let second = host.backup();
    let wanted = host.contents();
    let labels = [first.as_str(), second.as_str()];
    let stranger = Host::new();
    let strangers = [stranger.backup(), stranger.backup()];
    let strangers = [strangers[0].as_str(), strangers[1].as_str()];
    for name in ["repo", "host"] {
        copy_tree(
            &host.path(name),
            &host.path(format!("kept/{name}").replace('/', "-")),
        );
    }
    let mut done = 0;
    let mut failed = Vec::new();
    for repository in ["offsite", "keysafe"] {
        let objects = Objects::of(&host, repository, labels);
        let foreign = Objects::of(&stranger, repository, strangers);
        for kind in KINDS {
            // The repository for keys has no packs; what differs between the two is in the other.
            if repository == "keysafe" && matches!(kind, Kind::Document | Kind::Pack) {
                continue;
            }
            let victim = objects.victim(kind).expect("every kind is there");
            for way in DAMAGES {
                if repository == "keysafe"
                    && !matches!(way, Damage::Flipped | Damage::Missing | Damage::Swapped)
                {
                    continue;
                }
                let case = format!("{repository}: {way:?} {kind:?}");
                copy_tree(&host.path("kept-repo"), &host.path("repo"));
                copy_tree(&host.path("kept-host"), &host.path("host"));
                if damage(way, kind, victim, &objects, &foreign) {
                    done += 1;
                    let run = || check(&host, &second, &wanted, kind, way, victim, &case);
                    if catch_unwind(AssertUnwindSafe(run)).is_err() {
                        failed.push(case);
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    assert!(done >= 60, "{done} cases");
}

fn check(
    host: &Host,
    label: &str,
    wanted: &Contents,
    kind: Kind,
    way: Damage,
    victim: &Path,
    case: &str,
) {
    eprintln!("{case}");
    let is_object = !matches!(kind, Kind::Document | Kind::Envelope);
    let harmless = way == Damage::Duplicated && is_object;
    let verified = host.run(&["verify", "--all"]);
    if harmless {
        assert_eq!(verified.status, 0, "{case}: {}", verified.stderr);
    } else {
        assert_ne!(verified.status, 0, "{case}: {}", verified.stdout);
        let stem = victim
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a name");
        // Of an envelope that is gone the backup is what can be named; of a document the place.
        let numbers: String = stem.trim_start_matches('0').to_owned();
        let other = other_name(kind, victim);
        let other = other
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a name");
        let named = match kind {
            Kind::Document => verified.has("offsite") || verified.has("repository/"),
            Kind::Envelope => {
                verified.has(stem)
                    || verified.has(other)
                    || verified.has(label)
                    || verified.has(&format!("envelope {numbers}"))
            }
            _ => verified.has(stem),
        };
        assert!(named, "{case}: {}{}", verified.stdout, verified.stderr);
    }

    let _ = std::fs::remove_dir_all(host.path("out"));
    let restored = host.restore_to(label, "out");
    assert_nothing_wrong(&host.restored("out"), wanted, case);
    // An envelope under a second name, too, leaves the first as it was.
    let whole = harmless || (way == Damage::Duplicated && kind == Kind::Envelope);
    if whole {
        assert_eq!(restored.status, 0, "{case}: {}", restored.stderr);
        assert_eq!(&host.restored("out"), wanted, "{case}");
    } else {
        assert_ne!(restored.status, 0, "{case}: {}", restored.stdout);
    }

    let next = host.run(&["backup", "--json"]);
    if kind == Kind::Document {
        // The other repository may have got its part; then the run says that it is incomplete.
        assert!(
            matches!(next.status, 1 | 3 | 4 | 10),
            "{case}: {}",
            next.status
        );
        if next.status == 3 {
            assert_eq!(next.document()["status"], "incomplete", "{case}");
        }
        return;
    }
    assert!(
        matches!(next.status, 0 | 3),
        "{case}: {}{}",
        next.stdout,
        next.stderr
    );
    let document = next.document();
    assert_eq!(document["status"], "complete", "{case}");
    if kind == Kind::Envelope {
        assert_eq!(next.status, 3, "{case}: the broken chain is told");
    }
    // The verification above wrote down what a list does not show, too.
    if matches!(kind, Kind::Pack | Kind::Artifact) && !harmless {
        let notes = document["notes"].to_string();
        let told = notes.contains("missing") || notes.contains("was found damaged");
        assert!(told, "{case}: {notes}");
    }
    let newest = document["label"].as_str().expect("a label");
    let _ = std::fs::remove_dir_all(host.path("out"));
    let restored = host.restore_to(newest, "out");
    assert_eq!(restored.status, 0, "{case}: {}", restored.stderr);
    assert_eq!(&host.restored("out"), wanted, "{case}: the next backup");
}
