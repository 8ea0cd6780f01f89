//! `Envelope::open` on raw bytes, and on the bytes as a signed payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::envelope::Envelope;
use strongroom_core::format::limits;
use strongroom_core::format::name::ObjectName;
use strongroom_fuzz::{DOCUMENT, ENVELOPE_KIND, SIGNER};

/// The name that a signed payload has to lie under.
fn name_of(payload: &[u8]) -> ObjectName {
    let value: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
    ObjectName::envelope(SIGNER.id(), value["sequence"].as_u64().unwrap_or(1))
}

fn open(stored: &[u8], name: &ObjectName) {
    let Ok(envelope) = Envelope::open(stored, name, &DOCUMENT) else {
        return;
    };
    assert_eq!(envelope.format, 1);
    assert_eq!(envelope.name(), *name);
    assert_eq!(envelope.repository, DOCUMENT.repository);
    assert_eq!(envelope.sequence == 1, envelope.previous.is_none());
    for (object, size) in &envelope.objects {
        assert!(*size <= limits::SIZE_MAX);
        assert_eq!(envelope.size_of(*object), Some(*size));
    }
    assert!(envelope.size_of(envelope.manifest).is_some());
    let _ = envelope.stored_bytes();
    let again = Envelope::open(&envelope.sign(&SIGNER), name, &DOCUMENT);
    assert_eq!(again.expect("what was read can be written"), envelope);
}

fuzz_target!(|data: &[u8]| {
    open(data, &ObjectName::envelope(SIGNER.id(), 1));
    open(&SIGNER.sign(ENVELOPE_KIND, data), &name_of(data));
});
