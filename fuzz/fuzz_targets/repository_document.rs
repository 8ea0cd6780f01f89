//! `RepositoryDocument::open` as first and as second revision, on raw bytes and on a signed payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::Digest;
use strongroom_core::format::repository_document::RepositoryDocument;
use strongroom_fuzz::{DOCUMENT, DOCUMENT_DIGEST, REPOSITORY_KIND, SIGNER};

type Before<'a> = Option<(&'a RepositoryDocument, Digest)>;

fn open(stored: &[u8], before: Before<'_>) {
    let Ok(document) = RepositoryDocument::open(stored, before) else {
        return;
    };
    assert_eq!(document.format, 1);
    assert_eq!(document.revision, if before.is_none() { 1 } else { 2 });
    assert_eq!(document.previous, before.map(|(_, digest)| digest));
    for id in document.writers.keys() {
        if let Ok(key) = document.writer(*id) {
            assert_eq!(key.id(), *id);
        }
    }
    if before.is_some() || document.writer(SIGNER.id()).is_ok() {
        let again = RepositoryDocument::open(&document.sign(&SIGNER), before);
        assert_eq!(again.expect("what was read can be written"), document);
    }
}

fuzz_target!(|data: &[u8]| {
    let signed = SIGNER.sign(REPOSITORY_KIND, data);
    for stored in [data, &signed] {
        open(stored, None);
        open(stored, Some((&DOCUMENT, *DOCUMENT_DIGEST)));
    }
});
