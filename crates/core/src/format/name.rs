//! Where an object lies in a repository (docs/format.md, section 1).

use std::fmt;

use super::{Digest, EpochId, Label, WriterId};

/// The prefix of repository documents.
pub const REPOSITORY: &str = "repository/";
/// The prefix of epoch identities.
pub const EPOCHS: &str = "epochs/";
/// The prefix of packs, artifacts and manifests.
pub const OBJECTS: &str = "objects/";
/// The prefix of envelopes.
pub const ENVELOPES: &str = "envelopes/";
/// The prefix of holds.
pub const HOLDS: &str = "holds/";
/// The prefix of records of expired backups.
pub const EXPIRED: &str = "expired/";
/// What the names of a copy's own records begin with, below that prefix.
const OF_COPY: &str = "copy-";
/// All prefixes of a repository.
pub const PREFIXES: [&str; 6] = [REPOSITORY, EPOCHS, OBJECTS, ENVELOPES, HOLDS, EXPIRED];

/// The name of an object, relative to its repository; never empty, absolute or climbing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

impl ObjectName {
    /// Takes a name that a storage lists; `None` when it is not one of a repository's.
    pub fn parse(text: &str) -> Option<Self> {
        let letters = text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'/'));
        let parts = text
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.'));
        (letters && parts && PREFIXES.iter().any(|prefix| text.starts_with(prefix)))
            .then(|| Self(text.to_owned()))
    }

    /// Revision `revision` of the repository document.
    pub fn repository(revision: u32) -> Self {
        Self(format!("{REPOSITORY}{revision:08}.json"))
    }

    /// An epoch's sealed identity.
    pub fn epoch(epoch: EpochId, object: Digest) -> Self {
        Self(format!("{EPOCHS}{epoch}/{object}.age"))
    }

    /// A pack, artifact or manifest.
    pub fn object(object: Digest) -> Self {
        let text = object.to_string();
        Self(format!("{OBJECTS}{}/{text}.age", &text[..2]))
    }

    /// An envelope.
    pub fn envelope(writer: WriterId, sequence: u64) -> Self {
        Self(format!("{ENVELOPES}{writer}/{sequence:010}.json"))
    }

    /// The hold on a backup.
    pub fn hold(label: &Label) -> Self {
        Self(format!(
            "{HOLDS}{}.json",
            label.as_str().to_ascii_lowercase()
        ))
    }

    /// A record of expired backups.
    pub fn expired(number: u64) -> Self {
        Self(format!("{EXPIRED}{number:010}.json"))
    }

    /// A record of what a copy with a retention of its own let go.
    pub fn expired_in_copy(number: u64) -> Self {
        Self(format!("{EXPIRED}{OF_COPY}{number:010}.json"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest that the name promises of the stored bytes, for objects and epochs.
    pub fn digest(&self) -> Option<Digest> {
        let (prefix, file) = self.0.rsplit_once('/')?;
        let digest: Digest = file.strip_suffix(".age")?.parse().ok()?;
        let right = [Self::object(digest).0.rsplit_once('/')?.0 == prefix, {
            prefix
                .strip_prefix(EPOCHS)
                .is_some_and(|epoch| epoch.parse::<EpochId>().is_ok())
        }];
        right.contains(&true).then_some(digest)
    }

    /// Writer and sequence number, 1 or more, for envelopes.
    pub fn envelope_parts(&self) -> Option<(WriterId, u64)> {
        let (writer, file) = self.0.strip_prefix(ENVELOPES)?.split_once('/')?;
        let digits = file.strip_suffix(".json")?;
        let sequence = digits.parse().ok().filter(|_| digits.len() == 10)?;
        (sequence > 0).then_some((writer.parse().ok()?, sequence))
    }

    /// The epoch, for epoch identities.
    pub fn epoch_id(&self) -> Option<EpochId> {
        let (epoch, _) = self.0.strip_prefix(EPOCHS)?.split_once('/')?;
        epoch.parse().ok()
    }

    /// The backup that is held, for holds.
    pub fn hold_label(&self) -> Option<Label> {
        let text = self.0.strip_prefix(HOLDS)?.strip_suffix(".json")?;
        // Names are in lower case; of a label only the zone's letter is not.
        let label = text
            .split_once("z-")
            .map(|(time, end)| format!("{time}Z-{end}"))?;
        label.parse().ok()
    }

    /// The number, 1 or more, for records of expired backups.
    pub fn expired_number(&self) -> Option<u64> {
        Self::record_number(self.0.strip_prefix(EXPIRED)?)
    }

    /// The same for records of what a copy let go.
    pub fn expired_in_copy_number(&self) -> Option<u64> {
        Self::record_number(self.0.strip_prefix(EXPIRED)?.strip_prefix(OF_COPY)?)
    }

    fn record_number(file: &str) -> Option<u64> {
        let digits = file.strip_suffix(".json")?;
        let number = digits.parse().ok().filter(|_| digits.len() == 10)?;
        (number > 0).then_some(number)
    }

    /// The revision, for repository documents.
    pub fn revision(&self) -> Option<u32> {
        let digits = self.0.strip_prefix(REPOSITORY)?.strip_suffix(".json")?;
        digits.parse().ok().filter(|_| digits.len() == 8)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        let digest = Digest::of(b"x");
        let object = ObjectName::object(digest);
        assert_eq!(object.digest(), Some(digest));
        assert_eq!(ObjectName::parse(object.as_str()), Some(object));
        let epoch = ObjectName::epoch(EpochId::from_bytes([7; 8]), digest);
        assert_eq!(epoch.digest(), Some(digest));
        let envelope = ObjectName::envelope(WriterId::from_bytes([1; 8]), 12);
        assert_eq!(
            envelope.envelope_parts(),
            Some((WriterId::from_bytes([1; 8]), 12))
        );
        assert_eq!(ObjectName::repository(3).revision(), Some(3));
        let label: Label = "20261120-153000Z-z3z9".parse().expect("a label");
        let hold = ObjectName::hold(&label);
        assert_eq!(ObjectName::parse(hold.as_str()), Some(hold.clone()));
        assert_eq!(hold.hold_label(), Some(label));
        assert_eq!(ObjectName::expired(12).expired_number(), Some(12));
        assert_eq!(ObjectName::expired(0).expired_number(), None);
        let own = ObjectName::expired_in_copy(12);
        assert_eq!(ObjectName::parse(own.as_str()), Some(own.clone()));
        assert_eq!(own.expired_in_copy_number(), Some(12));
        assert_eq!(own.expired_number(), None);
        assert_eq!(ObjectName::expired(12).expired_in_copy_number(), None);
    }

    #[test]
    fn foreign_names_are_not_ours() {
        for name in [
            "tmp/x",
            "objects/../x",
            "/objects/aa/b",
            "objects//x",
            "README",
            "objects/é",
        ] {
            assert_eq!(ObjectName::parse(name), None, "{name}");
        }
        let digest = Digest::of(b"x");
        let wrong_room = format!("objects/zz/{digest}.age");
        assert_eq!(
            ObjectName::parse(&wrong_room).expect("a name").digest(),
            None
        );
        let zero = ObjectName::envelope(WriterId::from_bytes([1; 8]), 0);
        assert_eq!(zero.envelope_parts(), None, "sequences begin at 1");
    }
}
