//! `EpochIdentity::open` on raw bytes, and on the bytes as sealed identity file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::seal::{EpochIdentity, EpochRecipient};
use strongroom_fuzz::{CUSTODIANS, seal_to_custodian};

fuzz_target!(|data: &[u8]| {
    for sealed in [data, &seal_to_custodian(data)] {
        if let Ok(epoch) = EpochIdentity::open(sealed, &CUSTODIANS) {
            let text = epoch.recipient().to_text();
            let again = EpochRecipient::parse(&text).expect("own text");
            assert_eq!(again.to_text(), text);
        }
    }
});
