//! `Unverified::parse` on raw bytes, and on the bytes as the payload of a signed document.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::dsse::Unverified;
use strongroom_fuzz::{ENVELOPE_KIND, SIGNER};

fuzz_target!(|data: &[u8]| {
    let key = SIGNER.verifying_key();
    if let Ok(document) = Unverified::parse("document", ENVELOPE_KIND, data) {
        let signer = document.signer();
        if document.verify(key).is_ok() {
            assert_eq!(signer, SIGNER.id());
        }
    }
    let signed = SIGNER.sign(ENVELOPE_KIND, data);
    let document = Unverified::parse("document", ENVELOPE_KIND, &signed).expect("own document");
    assert_eq!(document.verify(key).expect("own signature"), data);
});
