//! The archives of `pg_dump`, taken apart and put together again.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use strongroom_adapters::source::postgresql::server::archive::{
    ArchiveData, ArchiveError, SequenceData, TableData, after_rows, before_rows, directory_archive, foreign_keys,
    dump_version, schemas,
};

/// What is put together is of the known form: it is read as it was written.
fn again(archive: &[u8], part: impl Fn(&[u8]) -> Result<Vec<u8>, ArchiveError>) {
    assert!(dump_version(archive).is_ok(), "own text is read");
    let once = part(archive).expect("own text is taken apart");
    assert_eq!(part(&once).as_deref(), Ok(once.as_slice()));
}

fuzz_target!(|data: &[u8]| {
    let none = BTreeMap::new();
    let roles = BTreeMap::from([("certctl_app".to_owned(), "o\"ther".to_owned())]);
    let is_archive = dump_version(data).is_ok();
    let before = before_rows(data, &none);
    let after = after_rows(data, &none);
    assert_eq!(before.is_ok(), is_archive);
    assert_eq!(after.is_ok(), is_archive);
    if let Ok(before) = before {
        again(&before, |archive| before_rows(archive, &none));
    }
    if let Ok(after) = after {
        again(&after, |archive| after_rows(archive, &none));
    }
    for roles in [&none, &roles] {
        let _ = schemas(data, roles);
        let _ = before_rows(data, roles);
        let _ = after_rows(data, roles);
        let _ = foreign_keys(data, roles);
    }
    let columns = ["id".to_owned(), "na\"me".to_owned()];
    let tables = [TableData {
        schema: "public",
        name: "t",
        columns: &columns,
        file: "t.copy",
    }];
    let sequences = [SequenceData {
        schema: "public",
        name: "s",
        value: -1,
        is_called: true,
    }];
    let empty = ArchiveData {
        encoding: "UTF8",
        ..ArchiveData::default()
    };
    let full = ArchiveData {
        tables: &tables,
        sequences: &sequences,
        views: &[("public", "v")],
        ..empty
    };
    for data_of in [empty, full] {
        if let Ok(archive) = directory_archive(data, &data_of) {
            assert!(is_archive);
            // It is one of a directory, which is not read here.
            assert!(dump_version(&archive).is_err());
        }
    }
});
