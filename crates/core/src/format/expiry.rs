//! The record of expired backups: which envelopes are gone because they were let go (docs/format.md, section 5).
//!
//! Without it, retention would look like theft. It is signed, so a thief of the storage cannot write one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dsse::SigningKey;
use super::name::ObjectName;
use super::repository_document::RepositoryDocument;
use super::{FormatError, RepositoryId, WriterId};

const WHAT: &str = "record of expired backups";
const KIND: &str = "application/vnd.strongroom.expired+json";

/// The envelopes that were let go, of all time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiryRecord {
    /// The format of the document.
    pub format: u32,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// 1, 2, 3 ...; the highest holds.
    pub number: u64,
    /// When it was written.
    pub time: jiff::Timestamp,
    /// The program that wrote it.
    pub tool: String,
    /// Who may be missing.
    pub expired: ExpiredRanges,
    /// In a record of what a copy let go: of which copy, and up to where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<OfCopy>,
}

/// What makes a record that of a copy with a retention of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfCopy {
    /// The name of the copy; in another one the record says nothing.
    pub name: String,
    /// The newest sequence number of each writer that the copy knew. Above it the record of the original counts.
    pub seen: BTreeMap<WriterId, u64>,
}

/// Sequence numbers by writer, as ranges with both ends in them; sorted, and never two that touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExpiredRanges(BTreeMap<WriterId, Vec<(u64, u64)>>);

impl ExpiryRecord {
    /// Serialises and signs.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        key.sign_document(KIND, self)
    }

    /// Reads a stored record, found under `name` in the repository of `document`.
    pub fn open(
        bytes: &[u8],
        name: &ObjectName,
        document: &RepositoryDocument,
    ) -> Result<Self, FormatError> {
        let (record, _): (Self, _) = document.open_signed(WHAT, KIND, bytes)?;
        let damaged = |why: &str| Err(FormatError::damaged(WHAT, why));
        if record.number == 0 || *name != record.name() {
            return damaged("it lies under a name that is not its own");
        }
        if record.repository != document.repository {
            return damaged("it belongs to another repository");
        }
        if !record.expired.is_sound() {
            return damaged("its ranges are empty, not sorted, or touch each other");
        }
        Ok(record)
    }

    /// Whether the copy of this name wrote it, for itself.
    pub fn is_of_copy(&self, name: &str) -> bool {
        self.copy.as_ref().is_some_and(|of| of.name == name)
    }

    /// The name under which it is stored.
    pub fn name(&self) -> ObjectName {
        match self.copy {
            Some(_) => ObjectName::expired_in_copy(self.number),
            None => ObjectName::expired(self.number),
        }
    }
}

impl ExpiredRanges {
    /// The ranges that are made of single numbers, in any order.
    pub fn of(numbers: impl IntoIterator<Item = (WriterId, u64)>) -> Self {
        let single = |(writer, number)| (writer, number, number);
        Self::of_ranges(numbers.into_iter().map(single).collect())
    }

    /// Ranges in any order, joined where they touch.
    pub fn of_ranges(mut ranges: Vec<(WriterId, u64, u64)>) -> Self {
        ranges.sort_unstable();
        let mut all = Self::default();
        for (writer, first, last) in ranges {
            all.push(writer, first, last);
        }
        all
    }

    /// Adds a range that begins at or after all those of its writer.
    fn push(&mut self, writer: WriterId, first: u64, last: u64) {
        let ranges = self.0.entry(writer).or_default();
        match ranges.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => ranges.push((first, last)),
        }
    }

    /// These and those of another.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::of_ranges(self.iter().chain(other.iter()).collect())
    }

    /// These without single numbers, which are sorted.
    #[must_use]
    pub fn without(&self, numbers: &[(WriterId, u64)]) -> Self {
        let mut rest = Self::default();
        for (writer, first, last) in self.iter() {
            let mut begin = first;
            let from = numbers.partition_point(|one| *one < (writer, first));
            for &(of, number) in &numbers[from..] {
                if (of, number) > (writer, last) {
                    break;
                }
                if number > begin {
                    rest.push(writer, begin, number - 1);
                }
                begin = number + 1;
            }
            if begin <= last {
                rest.push(writer, begin, last);
            }
        }
        rest
    }

    /// What of these is newer than the `seen` numbers of their writers.
    #[must_use]
    pub fn after(&self, seen: &BTreeMap<WriterId, u64>) -> Self {
        let above = |(writer, first, last): (WriterId, u64, u64)| {
            let known = seen.get(&writer).copied().unwrap_or(0);
            (last > known).then(|| (writer, first.max(known + 1), last))
        };
        Self::of_ranges(self.iter().filter_map(above).collect())
    }

    /// The newest number of each writer.
    pub fn newest(&self) -> BTreeMap<WriterId, u64> {
        self.iter()
            .map(|(writer, _, last)| (writer, last))
            .collect()
    }

    /// Whether an envelope was let go.
    pub fn covers(&self, writer: WriterId, number: u64) -> bool {
        let ranges = self.0.get(&writer).map_or(&[][..], Vec::as_slice);
        let place = ranges.partition_point(|(_, last)| *last < number);
        ranges.get(place).is_some_and(|(first, _)| *first <= number)
    }

    /// What of `first..=last` was not let go.
    pub fn uncovered(&self, writer: WriterId, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut rest = Vec::new();
        let mut begin = first;
        for &(from, to) in self.0.get(&writer).map_or(&[][..], Vec::as_slice) {
            if to < begin {
                continue;
            }
            if from > last {
                break;
            }
            if from > begin {
                rest.push((begin, from - 1));
            }
            begin = to.saturating_add(1);
        }
        if begin <= last {
            rest.push((begin, last));
        }
        rest
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writer, first and last number of each range, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (WriterId, u64, u64)> {
        let of = |(writer, ranges): (&WriterId, &'_ Vec<(u64, u64)>)| {
            let writer = *writer;
            let ranges = ranges.clone();
            ranges
                .into_iter()
                .map(move |(first, last)| (writer, first, last))
        };
        self.0.iter().flat_map(of)
    }

    fn is_sound(&self) -> bool {
        self.0.values().all(|ranges| {
            !ranges.is_empty()
                && ranges
                    .iter()
                    .all(|(first, last)| *first > 0 && first <= last)
                && ranges
                    .windows(2)
                    .all(|two| two[0].1.checked_add(1).is_some_and(|next| next < two[1].0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::writer_key::WriterKey;

    fn writer() -> WriterId {
        WriterId::from_bytes([7; 8])
    }

    fn ranges(numbers: &[u64]) -> ExpiredRanges {
        ExpiredRanges::of(numbers.iter().map(|number| (writer(), *number)))
    }

    fn listed(ranges: &ExpiredRanges) -> Vec<(u64, u64)> {
        ranges
            .iter()
            .map(|(_, first, last)| (first, last))
            .collect()
    }

    #[test]
    fn numbers_become_ranges_and_back() {
        let some = ranges(&[5, 1, 2, 3, 9, 10]);
        assert_eq!(listed(&some), [(1, 3), (5, 5), (9, 10)]);
        assert!(some.is_sound());
        for number in 0..12 {
            let expected = [1, 2, 3, 5, 9, 10].contains(&number);
            assert_eq!(some.covers(writer(), number), expected, "{number}");
        }
        assert!(!some.covers(WriterId::from_bytes([8; 8]), 1));
        assert_eq!(some.uncovered(writer(), 1, 12), [(4, 4), (6, 8), (11, 12)]);
        assert_eq!(some.uncovered(writer(), 9, 10), []);
        assert_eq!(ExpiredRanges::default().uncovered(writer(), 3, 4), [(3, 4)]);
    }

    #[test]
    fn ranges_are_joined_and_cut() {
        let joined = ranges(&[1, 2, 8]).union(&ranges(&[3, 4, 7]));
        assert_eq!(listed(&joined), [(1, 4), (7, 8)]);
        let cut = joined.without(&[(writer(), 1), (writer(), 3), (writer(), 8)]);
        assert_eq!(listed(&cut), [(2, 2), (4, 4), (7, 7)]);
        assert!(joined.without(&[]) == joined);
        assert_eq!(joined.newest(), BTreeMap::from([(writer(), 8)]));
        assert_eq!(
            listed(&joined.after(&BTreeMap::from([(writer(), 3)]))),
            [(4, 4), (7, 8)]
        );
        assert_eq!(joined.after(&joined.newest()), ExpiredRanges::default());
        assert_eq!(joined.after(&BTreeMap::new()), joined);
    }

    #[test]
    fn a_record_of_a_copy_lies_under_a_name_of_its_own() {
        let key = WriterKey::generate().expect("random bytes").signing;
        let document = RepositoryDocument::with_writer(&key);
        let mut record = ExpiryRecord {
            format: 1,
            repository: document.repository,
            number: 3,
            time: jiff::Timestamp::UNIX_EPOCH,
            tool: "test".into(),
            expired: ranges(&[1, 2]),
            copy: None,
        };
        let (plain, own) = (ObjectName::expired(3), ObjectName::expired_in_copy(3));
        let bytes = record.sign(&key);
        assert_eq!(
            ExpiryRecord::open(&bytes, &plain, &document).expect("opens"),
            record
        );
        assert!(ExpiryRecord::open(&bytes, &own, &document).is_err());
        record.copy = Some(OfCopy {
            name: "second".into(),
            seen: BTreeMap::from([(writer(), 9)]),
        });
        let bytes = record.sign(&key);
        assert_eq!(
            ExpiryRecord::open(&bytes, &own, &document).expect("opens"),
            record
        );
        assert!(ExpiryRecord::open(&bytes, &plain, &document).is_err());
    }
}
