//! The contract of [`Storage`], one case a sentence; every implementation passes all of them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use strongroom_core::format::Digest;
use strongroom_core::format::name::{ENVELOPES, EPOCHS, OBJECTS, ObjectName, PREFIXES, REPOSITORY};
use strongroom_core::storage::{Body, Put, Storage, StorageError};

/// One sentence of the contract and the test that holds it.
pub struct Case {
    /// The sentence.
    pub name: &'static str,
    /// Panics where an empty storage breaks it.
    pub run: fn(&dyn Storage),
}

/// All cases, in order.
pub const CASES: &[Case] = &[
    case("an empty storage lists nothing", empty),
    case("what was put is there after a flush", put_then_flush),
    case(
        "before the flush an object is absent or whole",
        whole_or_absent,
    ),
    case("an object put twice is stored once", put_twice),
    case("a file is stored like bytes and left alone", put_file),
    case("an object of no bytes is an object", empty_object),
    case(
        "an object of another size is never passed off as stored",
        damaged,
    ),
    case("a created object is there at once", create),
    case(
        "the second create finds the first, whose content stays",
        create_twice,
    ),
    case(CREATE_SAME, create_same),
    case("create implies flush", create_flushes),
    case("flush may be repeated", flush_repeated),
    case(
        "a name that is not there is NotFound, never empty",
        not_found,
    ),
    case("a range ends where the object ends", ranges),
    case("get refuses more than its limit", get_limit),
    case("of many objects each is read or told", get_each),
    case("an object of 8 MiB comes back", large),
    case("open may be called often and read in pieces", open_twice),
    case("names are listed by prefix with their sizes", listing),
    case("the visitor of a list may use the storage", list_reentrant),
    case("delete removes one object and may be repeated", delete),
    case(
        "many objects are deleted, whether there or not",
        delete_each,
    ),
    case("a deleted name may be stored again", put_after_delete),
    case(
        "several threads may put different objects at once",
        concurrent_puts,
    ),
    case(
        "several threads may put the same object at once",
        concurrent_same,
    ),
    case("of many creators exactly one succeeds", concurrent_creates),
    case("free space is never more than all of it", free_space),
    case("a location is told", location),
];

/// The case that cannot hold where answers get lost: whose bytes are there, if they are the same?
pub const CREATE_SAME: &str = "a create with the bytes that are there finds them";

const fn case(name: &'static str, run: fn(&dyn Storage)) -> Case {
    Case { name, run }
}

/// The cases that delete; a writer may not.
const DELETING: [&str; 4] = [
    "the visitor of a list may use the storage",
    "delete removes one object and may be repeated",
    "a deleted name may be stored again",
    "many objects are deleted, whether there or not",
];

/// Runs all cases, each on a storage of its own, and panics at the first that fails, after naming it.
pub fn run(make: &mut dyn FnMut() -> Box<dyn Storage>) {
    run_by(&mut |_| make());
}

/// The same, with the credentials that each case needs: `make` is told whether it deletes.
pub fn run_by(make: &mut dyn FnMut(bool) -> Box<dyn Storage>) {
    for name in DELETING {
        assert!(
            CASES.iter().any(|case| case.name == name),
            "{name} was renamed"
        );
    }
    for case in CASES {
        let storage = make(DELETING.contains(&case.name));
        let result = catch_unwind(AssertUnwindSafe(|| (case.run)(storage.as_ref())));
        if let Err(panic) = result {
            eprintln!("{} breaks the contract: {}", storage.location(), case.name);
            resume_unwind(panic);
        }
    }
}

fn name_of(bytes: &[u8]) -> ObjectName {
    ObjectName::object(Digest::of(bytes))
}

fn put(storage: &dyn Storage, bytes: &[u8]) -> ObjectName {
    let name = name_of(bytes);
    storage.put(&name, Body::Bytes(bytes)).expect("puts");
    name
}

fn get(storage: &dyn Storage, name: &ObjectName) -> Vec<u8> {
    storage.get(name, 1 << 30).expect("is there")
}

fn list(storage: &dyn Storage, prefix: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    storage
        .list(prefix, &mut |name, stat| {
            let twice = found.insert(name.to_string(), stat.size_bytes);
            assert_eq!(twice, None, "{name} is listed twice");
        })
        .expect("lists");
    found
}

fn size(storage: &dyn Storage, name: &ObjectName) -> Option<u64> {
    storage
        .stat(name)
        .expect("stats")
        .map(|stat| stat.size_bytes)
}

fn assert_not_found<T>(result: Result<T, StorageError>, wanted: &ObjectName) {
    match result {
        Err(StorageError::NotFound { name }) => assert_eq!(&name, wanted),
        Err(other) => panic!("{wanted}: not NotFound but {other:?}"),
        Ok(_) => panic!("{wanted} is there"),
    }
}

fn assert_absent(storage: &dyn Storage, name: &ObjectName) {
    assert_not_found(storage.open(name).map(|_| ()), name);
    assert_not_found(storage.get(name, 10), name);
    assert_not_found(storage.get_range(name, 0, 10), name);
    assert_not_found(storage.get_range(name, 0, 0), name);
    assert_not_found(storage.get_range(name, 10, 1), name);
    assert_eq!(size(storage, name), None);
    assert!(!list(storage, name.as_str()).contains_key(name.as_str()));
}

fn empty(storage: &dyn Storage) {
    for prefix in ["", REPOSITORY, OBJECTS, "objects/ab", "x", "../", "/"] {
        assert_eq!(list(storage, prefix), BTreeMap::new(), "{prefix}");
    }
}

fn put_then_flush(storage: &dyn Storage) {
    let names: Vec<_> = (0..20_u8).map(|n| (n, put(storage, &[n; 100]))).collect();
    storage.flush().expect("flushes");
    assert_eq!(list(storage, OBJECTS).len(), names.len());
    for (n, name) in names {
        assert_eq!(get(storage, &name), [n; 100]);
        assert_eq!(size(storage, &name), Some(100));
    }
}

fn whole_or_absent(storage: &dyn Storage) {
    let bytes = vec![5; 3 << 20];
    let name = put(storage, &bytes);
    for _ in 0..50 {
        match storage.get(&name, bytes.len()) {
            Ok(found) => assert!(found == bytes, "only {} bytes", found.len()),
            Err(error) => assert!(matches!(error, StorageError::NotFound { .. }), "{error}"),
        }
        for (_, listed) in list(storage, "") {
            assert_eq!(listed, bytes.len() as u64);
        }
    }
    storage.flush().expect("flushes");
    assert_eq!(size(storage, &name), Some(bytes.len() as u64));
}

fn put_twice(storage: &dyn Storage) {
    let name = put(storage, b"again");
    put(storage, b"again");
    storage.flush().expect("flushes");
    put(storage, b"again");
    storage.flush().expect("flushes");
    assert_eq!(get(storage, &name), b"again");
    assert_eq!(list(storage, "").len(), 1);
}

fn put_file(storage: &dyn Storage) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    file.write_all(&bytes).expect("writes");
    let name = name_of(&bytes);
    storage.put(&name, Body::File(file.path())).expect("puts");
    storage.flush().expect("flushes");
    assert!(get(storage, &name) == bytes);
    let left = std::fs::read(file.path()).expect("the file is still there");
    assert!(left == bytes, "the file was changed");
    storage.put(&name, Body::File(file.path())).expect("puts");
    storage.flush().expect("flushes");

    let missing = file.path().with_extension("missing");
    let other = name_of(b"other");
    storage
        .put(&other, Body::File(&missing))
        .expect_err("there is no such file");
    storage.flush().expect("the failed put left nothing behind");
    assert_absent(storage, &other);
}

fn empty_object(storage: &dyn Storage) {
    let name = put(storage, b"");
    storage.flush().expect("flushes");
    assert_eq!(get(storage, &name), b"");
    assert_eq!(size(storage, &name), Some(0));
    assert_eq!(storage.get_range(&name, 0, 5).expect("reads"), b"");
    assert_eq!(storage.get(&name, 0).expect("reads"), b"");
    assert_eq!(list(storage, "").values().copied().collect::<Vec<_>>(), [0]);
}

fn damaged(storage: &dyn Storage) {
    let name = name_of(b"the whole object");
    let store = |bytes| {
        let put = storage.put(&name, Body::Bytes(bytes));
        put.and_then(|()| storage.flush())
    };
    if store(b"the who").is_err() {
        // It compares bytes with the digest in their name itself.
        assert_absent(storage, &name);
        return;
    }
    let error = store(b"the whole object").expect_err("an object of another size is there");
    assert!(matches!(error, StorageError::Io { .. }), "{error:?}");
    assert_eq!(get(storage, &name), b"the who", "nothing changes in place");
}

fn create(storage: &dyn Storage) {
    let name = ObjectName::repository(1);
    assert_eq!(storage.create(&name, b"{}").expect("creates"), Put::Stored);
    assert_eq!(get(storage, &name), b"{}");
    assert_eq!(list(storage, REPOSITORY).len(), 1);
}

fn create_twice(storage: &dyn Storage) {
    let name = ObjectName::repository(1);
    storage.create(&name, b"first").expect("creates");
    for second in [&b"second"[..], b""] {
        let put = storage.create(&name, second).expect("answers");
        assert_eq!(put, Put::AlreadyThere);
        assert_eq!(get(storage, &name), b"first");
    }
}

fn create_same(storage: &dyn Storage) {
    let name = ObjectName::repository(1);
    storage.create(&name, b"first").expect("creates");
    let put = storage.create(&name, b"first").expect("answers");
    assert_eq!(put, Put::AlreadyThere);
}

fn create_flushes(storage: &dyn Storage) {
    let names = [&b"a"[..], b"b", b"c"].map(|bytes| put(storage, bytes));
    storage
        .create(&ObjectName::repository(1), b"{}")
        .expect("creates");
    for name in names {
        assert_eq!(size(storage, &name), Some(1));
    }
}

fn flush_repeated(storage: &dyn Storage) {
    storage.flush().expect("nothing to flush");
    let name = put(storage, b"x");
    storage.flush().expect("flushes");
    storage.flush().expect("flushes again");
    assert_eq!(get(storage, &name), b"x");
}

fn not_found(storage: &dyn Storage) {
    let stored = put(storage, b"there");
    storage.flush().expect("flushes");
    assert_absent(storage, &name_of(b"not there"));
    assert_absent(storage, &ObjectName::repository(7));
    // A name that goes on where an object ends, and one that ends where a directory may be.
    for text in [format!("{stored}/x"), stored.as_str()[..10].to_owned()] {
        assert_absent(storage, &ObjectName::parse(&text).expect("a name"));
    }
}

fn ranges(storage: &dyn Storage) {
    let name = put(storage, b"0123456789");
    storage.flush().expect("flushes");
    let cases: [(u64, usize, &[u8]); 9] = [
        (0, 10, b"0123456789"),
        (0, 0, b""),
        (3, 4, b"3456"),
        (8, 2, b"89"),
        (8, 3, b"89"),
        (0, usize::MAX, b"0123456789"),
        (10, 1, b""),
        (11, 1, b""),
        (u64::MAX, usize::MAX, b""),
    ];
    for (offset, length, wanted) in cases {
        let found = storage.get_range(&name, offset, length).expect("reads");
        assert_eq!(found, wanted, "{length} bytes from {offset}");
    }
}

fn get_limit(storage: &dyn Storage) {
    let name = put(storage, b"0123456789");
    storage.flush().expect("flushes");
    assert_eq!(storage.get(&name, 10).expect("fits"), b"0123456789");
    for wanted in [9, 0] {
        match storage.get(&name, wanted) {
            Err(StorageError::TooLarge { limit, .. }) => assert_eq!(limit, wanted),
            other => panic!("not TooLarge but {other:?}"),
        }
    }
}

fn get_each(storage: &dyn Storage) {
    let sizes = [0, 1, 100, 40_000, 300_000, 5];
    let content = |size: usize| vec![b'x'; size];
    let mut names: Vec<ObjectName> = sizes
        .iter()
        .map(|size| put(storage, &content(*size)))
        .collect();
    storage.flush().expect("flushes");
    names.insert(2, name_of(b"not there"));
    let mut read = BTreeMap::new();
    storage.get_each(&names, 100_000, &mut |name, bytes| {
        assert!(read.insert(name.clone(), bytes).is_none(), "{name} twice");
    });
    assert_eq!(read.len(), names.len());
    assert!(matches!(
        read.remove(&names.remove(2)),
        Some(Err(StorageError::NotFound { .. }))
    ));
    for (name, size) in names.iter().zip(sizes) {
        match read.remove(name).expect("each has its outcome") {
            Ok(bytes) => assert!(bytes == content(size), "{size}"),
            Err(StorageError::TooLarge { .. }) => assert_eq!(size, 300_000),
            Err(error) => panic!("{size}: {error:?}"),
        }
    }
    storage.get_each(&[], 1, &mut |name, _| panic!("{name} was not asked for"));
}

fn large(storage: &dyn Storage) {
    let bytes: Vec<u8> = (0..2_u32 << 20).flat_map(u32::to_le_bytes).collect();
    let name = put(storage, &bytes);
    storage.flush().expect("flushes");
    assert!(get(storage, &name) == bytes);
    let middle = storage.get_range(&name, 5 << 20, 1 << 20).expect("reads");
    assert!(middle == bytes[5 << 20..6 << 20]);
}

fn open_twice(storage: &dyn Storage) {
    let name = put(storage, b"0123456789");
    storage.flush().expect("flushes");
    let mut first = storage.open(&name).expect("opens");
    let mut piece = [0; 4];
    first.read_exact(&mut piece).expect("reads");
    let mut second = Vec::new();
    let mut reader = storage.open(&name).expect("opens");
    reader.read_to_end(&mut second).expect("reads");
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).expect("reads");
    assert_eq!((&piece[..], &rest[..]), (&b"0123"[..], &b"456789"[..]));
    assert_eq!(second, b"0123456789");
}

fn listing(storage: &dyn Storage) {
    let object = put(storage, b"object");
    let texts = [
        "repository/00000001.json",
        "envelopes/0011223344556677/0000000001.json",
        "envelopes/0011223344556677/0000000002.json",
        "envelopes/8899aabbccddeeff/0000000001.json",
        "holds/20261120-120000z-0a1b.json",
        "expired/0000000001.json",
    ];
    for text in texts {
        let name = ObjectName::parse(text).expect("a name");
        storage.create(&name, text.as_bytes()).expect("creates");
    }
    storage.flush().expect("flushes");
    assert_eq!(list(storage, "").len(), 7);
    for prefix in PREFIXES.iter().filter(|prefix| **prefix != EPOCHS) {
        assert_ne!(list(storage, prefix), BTreeMap::new(), "{prefix}");
    }
    assert_eq!(list(storage, REPOSITORY).len(), 1);
    assert_eq!(list(storage, ENVELOPES).len(), 3);
    assert_eq!(list(storage, "envelopes/0011223344556677/").len(), 2);
    assert_eq!(list(storage, "envelopes/00112").len(), 2);
    assert_eq!(list(storage, "env").len(), 3);
    assert_eq!(list(storage, texts[3]).len(), 1);
    let found = list(storage, &object.as_str()[..10]);
    assert_eq!(found, BTreeMap::from([(object.to_string(), 6)]));
    for nothing in [
        "epochs/",
        "envelopes/1",
        "tmp/",
        "objects/../repository",
        "envelopes//",
    ] {
        assert_eq!(list(storage, nothing), BTreeMap::new(), "{nothing}");
    }
}

fn list_reentrant(storage: &dyn Storage) {
    for bytes in [&b"1"[..], b"2", b"3"] {
        put(storage, bytes);
    }
    storage.flush().expect("flushes");
    let mut visited = 0;
    storage
        .list(OBJECTS, &mut |name, stat| {
            assert_eq!(size(storage, &name), Some(stat.size_bytes));
            storage.delete(&name).expect("deletes");
            visited += 1;
        })
        .expect("lists");
    assert_eq!(visited, 3);
    assert_eq!(list(storage, ""), BTreeMap::new());
}

fn delete(storage: &dyn Storage) {
    let [gone, stays] = [&b"gone"[..], b"stays"].map(|bytes| put(storage, bytes));
    storage.flush().expect("flushes");
    storage.delete(&gone).expect("deletes");
    assert_absent(storage, &gone);
    storage.delete(&gone).expect("is gone already");
    storage
        .delete(&name_of(b"never there"))
        .expect("was never there");
    assert_eq!(get(storage, &stays), b"stays");
}

fn delete_each(storage: &dyn Storage) {
    let stays = put(storage, b"stays");
    let mut names: Vec<ObjectName> = (0..50_u8).map(|byte| put(storage, &[byte])).collect();
    storage.flush().expect("flushes");
    names.insert(7, name_of(b"not there"));
    let mut told = Vec::new();
    storage.delete_each(&names, &mut |name, outcome| {
        outcome.expect("deletes");
        told.push(name.clone());
    });
    told.sort();
    names.sort();
    assert_eq!(told, names);
    assert_eq!(list(storage, OBJECTS).len(), 1);
    assert_eq!(get(storage, &stays), b"stays");
}

fn put_after_delete(storage: &dyn Storage) {
    let name = put(storage, b"x");
    storage.flush().expect("flushes");
    storage.delete(&name).expect("deletes");
    put(storage, b"x");
    storage.flush().expect("flushes");
    assert_eq!(get(storage, &name), b"x");
}

fn concurrent_puts(storage: &dyn Storage) {
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            scope.spawn(move || {
                for n in 0..25 {
                    put(storage, &[thread, n]);
                }
                storage.flush().expect("flushes");
                for n in 0..25 {
                    assert_eq!(get(storage, &name_of(&[thread, n])), [thread, n]);
                }
            });
        }
    });
    assert_eq!(list(storage, OBJECTS).len(), 100);
}

fn concurrent_same(storage: &dyn Storage) {
    let bytes = vec![9; 1 << 20];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let name = put(storage, &bytes);
                    storage.flush().expect("flushes");
                    assert!(get(storage, &name) == bytes);
                }
            });
        }
    });
    assert_eq!(list(storage, "").len(), 1);
}

fn concurrent_creates(storage: &dyn Storage) {
    for round in 1..=10 {
        let name = ObjectName::repository(round);
        let winners: Vec<u8> = std::thread::scope(|scope| {
            let attempt = |n: u8| {
                let name = &name;
                let create = move || storage.create(name, &[n]).expect("answers");
                (n, scope.spawn(create))
            };
            let threads: Vec<_> = (0..4).map(attempt).collect();
            let results = threads
                .into_iter()
                .map(|(n, thread)| (n, thread.join().expect("no panic")));
            let stored = results.filter(|(_, put)| *put == Put::Stored);
            stored.map(|(n, _)| n).collect()
        });
        assert_eq!(winners.len(), 1, "creators that succeeded: {winners:?}");
        assert_eq!(get(storage, &name), winners);
    }
}

fn free_space(storage: &dyn Storage) {
    if let Some(space) = storage.free_space().expect("answers") {
        assert!(space.free_bytes <= space.total_bytes);
    }
}

fn location(storage: &dyn Storage) {
    assert!(!storage.location().is_empty());
}
