//! Names and ids: what parses is safe to use as a path and is written as it was read.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::dsse::VerifyingKey;
use strongroom_core::format::name::{self, ObjectName};
use strongroom_core::format::seal::EpochRecipient;
use strongroom_core::format::{Digest, EpochId, Label, RepositoryId, WriterId};

fn round_trip<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

fn object_name(text: &str) {
    let Some(parsed) = ObjectName::parse(text) else {
        return;
    };
    assert_eq!(parsed.as_str(), text);
    assert!(text.split('/').all(|part| !matches!(part, "" | "." | "..")));
    if let Some(digest) = parsed.digest() {
        let epoch = text
            .strip_prefix(name::EPOCHS)
            .and_then(|rest| rest.split_once('/'));
        let expected = match epoch {
            Some((epoch, _)) => ObjectName::epoch(epoch.parse().expect("an epoch"), digest),
            None => ObjectName::object(digest),
        };
        assert_eq!(parsed, expected);
    }
    if let Some((writer, sequence)) = parsed.envelope_parts() {
        assert_eq!(parsed, ObjectName::envelope(writer, sequence));
        assert!(sequence > 0);
    }
    if let Some(revision) = parsed.revision() {
        assert_eq!(parsed, ObjectName::repository(revision));
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    object_name(text);
    round_trip::<Digest>(text);
    round_trip::<EpochId>(text);
    round_trip::<WriterId>(text);
    round_trip::<RepositoryId>(text);
    round_trip::<Label>(text);
    if let Ok(key) = VerifyingKey::from_base64(text) {
        assert_eq!(key.to_base64(), text);
    }
    if let Ok(recipient) = EpochRecipient::parse(text) {
        assert_eq!(recipient.to_text(), text.to_lowercase());
    }
});
