//! `parse_share` on text, and custody records on raw bytes and as signed payloads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_core::custody::{CustodyRecord, Rehearsal, Statement as _, parse_share};
use strongroom_fuzz::{CUSTODY_KIND, SIGNER};

fn record(stored: &[u8]) {
    let Ok(record) = CustodyRecord::open(stored) else {
        return;
    };
    assert_eq!(record.format, 1);
    assert!(record.threshold >= 1 && usize::from(record.threshold) <= record.custodians.len());
    assert!(record.custodian(0).is_none() && record.custodian(1).is_some());
    let _ = Rehearsal::open(stored, &record);
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(read) = parse_share(text)
    {
        assert!((1..=16).contains(&read.share.threshold()) && (1..=16).contains(&read.share.index()));
        for form in [read.share.to_line(), read.share.to_words()] {
            let again = parse_share(&form).expect("what was read can be written").share;
            assert_eq!(again.verifying_key().ok(), read.share.verifying_key().ok());
        }
    }
    record(data);
    record(&SIGNER.sign(CUSTODY_KIND, data));
});
