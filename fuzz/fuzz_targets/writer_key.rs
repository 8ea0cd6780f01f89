//! `WriterKey::from_pem` on text, and on the bytes as the DER of its private key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::EpochId;
use strongroom_core::format::writer_key::WriterKey;
use strongroom_fuzz::base64;

fn read(text: &str) {
    let Ok(key) = WriterKey::from_pem(text) else {
        return;
    };
    let again = WriterKey::from_pem(&key.to_pem()).expect("own text");
    assert_eq!(again.signing.verifying_key(), key.signing.verifying_key());
    let epoch = EpochId::from_bytes([1; 8]);
    assert_eq!(again.chunk_key(epoch), key.chunk_key(epoch));
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        read(text);
    }
    read(&format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n\
         -----BEGIN STRONGROOM CHUNK SECRET-----\n{}\n-----END STRONGROOM CHUNK SECRET-----\n",
        base64(data),
        base64(&[9; 32])
    ));
});
