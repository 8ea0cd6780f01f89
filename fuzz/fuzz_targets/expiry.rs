//! `ExpiryRecord::open` on raw bytes, and on the bytes as a signed payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::expiry::ExpiryRecord;
use strongroom_core::format::name::ObjectName;
use strongroom_fuzz::{DOCUMENT, EXPIRED_KIND, SIGNER};

fn open(stored: &[u8], name: &ObjectName) {
    let Ok(record) = ExpiryRecord::open(stored, name, &DOCUMENT) else {
        return;
    };
    assert_eq!(record.format, 1);
    assert_eq!(record.name(), *name);
    assert_eq!(record.repository, DOCUMENT.repository);
    for (writer, first, last) in record.expired.iter() {
        assert!(0 < first && first <= last);
        assert!(record.expired.covers(writer, first) && record.expired.covers(writer, last));
        assert!(record.expired.uncovered(writer, first, last).is_empty());
    }
    assert_eq!(record.expired.union(&record.expired), record.expired);
    let again = ExpiryRecord::open(&record.sign(&SIGNER), name, &DOCUMENT);
    assert_eq!(again.expect("what was read can be written"), record);
}

fuzz_target!(|data: &[u8]| {
    let value: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let name = ObjectName::expired(value["number"].as_u64().unwrap_or(1));
    open(data, &name);
    open(&SIGNER.sign(EXPIRED_KIND, data), &name);
});
