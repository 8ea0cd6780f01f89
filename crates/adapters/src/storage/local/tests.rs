//! What a directory does that the conformance suite does not ask: permissions, leftovers, foreign files.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use strongroom_core::format::Digest;
use tempfile::TempDir;

use super::*;

fn storage() -> (TempDir, LocalStorage) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = LocalStorage::create(&dir.path().join("repository")).expect("creates");
    (dir, storage)
}

fn name_of(bytes: &[u8]) -> ObjectName {
    ObjectName::object(Digest::of(bytes))
}

fn put(storage: &LocalStorage, bytes: &[u8]) -> ObjectName {
    let name = name_of(bytes);
    storage.put(&name, Body::Bytes(bytes)).expect("puts");
    name
}

fn temporaries(storage: &LocalStorage) -> usize {
    let entries = std::fs::read_dir(storage.root.join("tmp"));
    entries.map_or(0, Iterator::count)
}

fn listed(storage: &LocalStorage) -> Vec<String> {
    let mut names = Vec::new();
    storage
        .list("", &mut |name, _| names.push(name.to_string()))
        .expect("lists");
    names
}

#[test]
fn it_conforms() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut number = 0;
    strongroom_testkit::storage_conformance::run(&mut || {
        number += 1;
        let path = dir.path().join(number.to_string());
        Box::new(LocalStorage::create(&path).expect("creates"))
    });
}

#[test]
fn only_the_owner_reads_and_nothing_temporary_stays() {
    let (_dir, storage) = storage();
    let object = put(&storage, b"secret");
    storage.flush().expect("flushes");
    storage
        .create(&ObjectName::repository(1), b"{}")
        .expect("creates");
    let mode = |path: &Path| path.metadata().expect("is there").permissions().mode() & 0o7777;
    let path = storage.path(&object);
    assert_eq!(mode(&path), 0o600);
    let inside = path.ancestors().skip(1).take(3);
    for directory in inside.chain([&*storage.root.join("tmp")]) {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    assert_eq!(temporaries(&storage), 0);
}

#[test]
fn a_background_error_is_told_once_and_everything_works_again() {
    let (_dir, storage) = storage();
    let [lost, stored] = [name_of(b"lost"), name_of(b"stored")];
    let in_the_way = storage.path(&lost).with_file_name("");
    std::fs::create_dir(storage.root.join("objects")).expect("makes");
    private_file::create_new(&in_the_way.components().collect::<PathBuf>()).expect("creates");
    storage.put(&lost, Body::Bytes(b"lost")).expect("is queued");
    storage
        .put(&stored, Body::Bytes(b"stored"))
        .expect("is queued");
    let error = storage
        .flush()
        .expect_err("a file is where a directory belongs");
    assert!(error.to_string().contains(lost.as_str()), "{error}");
    assert_eq!(storage.get(&stored, 10).expect("is there"), b"stored");
    assert_eq!(temporaries(&storage), 0);
    storage.flush().expect("the error was told");

    storage.put(&lost, Body::Bytes(b"lost")).expect("is queued");
    storage
        .create(&ObjectName::repository(1), b"{}")
        .expect_err("a create tells it, too");
    assert_eq!(
        storage.stat(&ObjectName::repository(1)).expect("stats"),
        None
    );

    std::fs::remove_file(in_the_way.components().collect::<PathBuf>()).expect("removes");
    storage.put(&lost, Body::Bytes(b"lost")).expect("is queued");
    storage.flush().expect("flushes");
    assert_eq!(storage.get(&lost, 10).expect("is there"), b"lost");
}

#[test]
fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
    let (_dir, storage) = storage();
    let alive = Temporary::create(&storage.root).expect("creates");
    let tmp = storage.root.join("tmp");
    let of_the_dead = ["0123456789abcdef0123456789abcdef", ".nfs00000000000a1b2c"];
    for name in of_the_dead.into_iter().chain(["somebody's file"]) {
        private_file::create_new(&tmp.join(name)).expect("creates");
    }
    LocalStorage::open(&storage.root).expect("opens");
    let mut left: Vec<_> = std::fs::read_dir(&tmp)
        .expect("is there")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    left.sort();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.contains(&"somebody's file".into()));
    let name = name_of(b"");
    storage
        .writer
        .send(Job::Publish {
            temporary: alive,
            name: name.clone(),
        })
        .expect("sends");
    storage.flush().expect("flushes");
    assert_eq!(storage.get(&name, 0).expect("is there"), b"");
}

#[test]
fn a_link_whose_answer_was_lost_is_ours() {
    let (_dir, storage) = storage();
    let temporary = Temporary::create(&storage.root).expect("creates");
    let name = ObjectName::repository(1);
    let path = storage.path(&name);
    std::fs::create_dir(path.parent().expect("a parent")).expect("creates");
    // What the server did before its answer was lost; the client asks once more.
    let tmp = std::fs::read_dir(storage.root.join("tmp")).expect("reads");
    let own = tmp.flatten().next().expect("the file").path();
    std::fs::hard_link(own, &path).expect("links");
    let mut touched = writer::Touched::default();
    let put = temporary.publish(&storage.root, &path, &mut touched);
    assert_eq!(put.expect("answers"), Put::Stored);
    assert_eq!(temporaries(&storage), 0);
}

#[test]
fn a_failed_copy_leaves_no_temporary_file() {
    let (dir, storage) = storage();
    // A directory opens like a file and fails when it is read.
    storage
        .put(&name_of(b"x"), Body::File(dir.path()))
        .expect_err("no file");
    assert_eq!(temporaries(&storage), 0);
    storage.flush().expect("nothing is waiting");
}

#[test]
fn dropping_the_storage_finishes_what_was_put() {
    let (_dir, storage) = storage();
    let root = storage.root.clone();
    let names: Vec<_> = (0..30_u8).map(|n| put(&storage, &[n])).collect();
    drop(storage);
    let storage = LocalStorage::open(&root).expect("opens");
    assert_eq!(listed(&storage).len(), names.len());
    assert_eq!(temporaries(&storage), 0);
}

#[test]
fn foreign_files_and_links_are_passed_over() {
    let (_dir, storage) = storage();
    let object = put(&storage, b"x");
    storage.flush().expect("flushes");
    let path = storage.path(&object);
    let link = name_of(b"link");
    std::fs::create_dir_all(storage.path(&link).parent().expect("a parent")).expect("makes");
    symlink(&path, storage.path(&link)).expect("links");
    symlink(&storage.root, storage.root.join("epochs")).expect("links");
    for foreign in [
        "README",
        "lost+found",
        "objects/.nfs01",
        "objects/Thumbs.db",
    ] {
        private_file::create_new(&storage.root.join(foreign)).expect("creates");
    }
    assert_eq!(listed(&storage), [object.as_str()]);
    assert_eq!(storage.stat(&link).expect("stats"), None);
    let error = storage.get(&link, 10).expect_err("a link is no object");
    assert!(matches!(error, StorageError::NotFound { .. }), "{error:?}");
    storage
        .put(&link, Body::Bytes(b"link"))
        .expect_err("the name is taken");
}

#[test]
fn two_storages_share_a_directory() {
    let (_dir, first) = storage();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let storage = LocalStorage::open(&first.root).expect("opens");
                for n in 0..40_u8 {
                    put(&storage, &[n; 1000]);
                }
                storage.flush().expect("flushes");
            });
        }
    });
    assert_eq!(listed(&first).len(), 40);
    assert_eq!(temporaries(&first), 0);
}

#[test]
fn a_missing_or_wrong_place_is_unusable() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    private_file::create_new(&file).expect("creates");
    for path in [&file, &dir.path().join("missing")] {
        let error = LocalStorage::open(path).err().expect("is no directory");
        assert!(matches!(error, StorageError::Unusable { .. }), "{error:?}");
    }
    let storage = LocalStorage::create(&dir.path().join("gone")).expect("creates");
    std::fs::remove_dir_all(&storage.root).expect("removes");
    // A disk that is not mounted must not be mistaken for an empty repository, nor be made anew.
    storage.list("", &mut |_, _| ()).expect_err("it is gone");
    storage
        .create(&ObjectName::repository(1), b"{}")
        .expect_err("it is gone");
    assert!(!storage.root.exists());
}
