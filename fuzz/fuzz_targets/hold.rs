//! `Hold::open` on raw bytes, and on the bytes as a signed payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::hold::{Hold, REASON_MAX};
use strongroom_core::format::name::ObjectName;
use strongroom_fuzz::{DOCUMENT, HOLD_KIND, SIGNER};

fn open(stored: &[u8], name: &ObjectName) {
    let Ok(hold) = Hold::open(stored, name, &DOCUMENT) else {
        return;
    };
    assert_eq!(hold.format, 1);
    assert_eq!(hold.name(), *name);
    assert_eq!(hold.repository, DOCUMENT.repository);
    assert!(hold.reason.len() <= REASON_MAX);
    let again = Hold::open(&hold.sign(&SIGNER), name, &DOCUMENT);
    assert_eq!(again.expect("what was read can be written"), hold);
}

fuzz_target!(|data: &[u8]| {
    let value: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let label = value["label"].as_str().and_then(|label| label.parse().ok());
    let label = label.unwrap_or_else(|| "20261120-153000Z-k3f9".parse().expect("a label"));
    let name = ObjectName::hold(&label);
    open(data, &name);
    open(&SIGNER.sign(HOLD_KIND, data), &name);
});
