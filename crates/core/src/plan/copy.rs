//! What a copy of a repository still needs, envelope by envelope.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::format::envelope::Envelope;
use crate::format::name::ObjectName;
use crate::format::{EpochId, Label};

/// The order in which a copy is brought up to date: the objects of a backup before its envelope, each chain from its
/// beginning.
#[derive(Clone, Debug, Default)]
pub struct CopyPlan {
    /// One step a backup.
    pub steps: Vec<CopyStep>,
    /// Objects that the copy holds with another size; they are left alone.
    pub other_size: BTreeMap<ObjectName, (u64, u64)>,
    /// The epochs of all backups that the copy has or gets.
    pub epochs: BTreeSet<EpochId>,
    planned: HashSet<ObjectName>,
}

/// What one backup needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyStep {
    /// Its envelope.
    pub envelope: ObjectName,
    /// Its label.
    pub label: Label,
    /// Whether the copy lacks the envelope.
    pub is_new: bool,
    /// The objects that the copy lacks and that no earlier step brings, with their sizes where they are known.
    pub objects: Vec<(ObjectName, Option<u64>)>,
}

impl CopyPlan {
    /// Adds the next backup; `there` is what the copy holds, by name, with sizes.
    pub fn add(&mut self, envelope: &Envelope, there: &BTreeMap<ObjectName, u64>) {
        let mut objects = Vec::new();
        self.epochs.insert(envelope.epoch.id);
        for (name, size) in envelope.needs() {
            match (there.get(&name), size) {
                (Some(found), Some(size)) if *found != size => {
                    self.other_size.insert(name, (*found, size));
                }
                (None, _) if self.planned.insert(name.clone()) => objects.push((name, size)),
                _ => {}
            }
        }
        let name = envelope.name();
        let is_new = !there.contains_key(&name);
        if is_new || !objects.is_empty() {
            self.steps.push(CopyStep {
                envelope: name,
                label: envelope.label.clone(),
                is_new,
                objects,
            });
        }
    }

    /// The bytes of all objects that are to be copied, as far as their sizes are known.
    pub fn size_bytes(&self) -> u64 {
        let objects = self.steps.iter().flat_map(|step| &step.objects);
        objects.filter_map(|(_, size)| *size).sum()
    }

    /// The steps, put together so that each part but the last has at least `bytes` of objects.
    pub fn parts(&self, bytes: u64) -> Vec<&[CopyStep]> {
        let mut parts = Vec::new();
        let (mut begin, mut sum) = (0, 0_u64);
        for (number, step) in self.steps.iter().enumerate() {
            let sizes = step.objects.iter().filter_map(|(_, size)| *size);
            sum = sum.saturating_add(sizes.sum());
            if sum >= bytes {
                parts.push(&self.steps[begin..=number]);
                (begin, sum) = (number + 1, 0);
            }
        }
        if begin < self.steps.len() {
            parts.push(&self.steps[begin..]);
        }
        parts
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::format::envelope::{EnvelopeEpoch, Scope, Status};
    use crate::format::{Digest, RepositoryId, WriterId};

    /// An envelope of writer 1 that needs these objects, each of 10 bytes, and the epoch 1.
    pub(in crate::plan) fn envelope(sequence: u64, objects: &[&str]) -> Envelope {
        let digests = objects.iter().map(|text| Digest::of(text.as_bytes()));
        let mut objects: Vec<(Digest, u64)> = digests.map(|digest| (digest, 10)).collect();
        objects.sort_unstable();
        Envelope {
            format: 1,
            repository: RepositoryId::from_bytes([1; 16]),
            deployment: "example-ca".into(),
            writer: WriterId::from_bytes([1; 8]),
            sequence,
            previous: (sequence > 1).then(|| Digest::of(b"before")),
            run: sequence,
            label: Label::new(jiff::Timestamp::UNIX_EPOCH).expect("a label"),
            started: jiff::Timestamp::UNIX_EPOCH,
            finished: jiff::Timestamp::UNIX_EPOCH,
            tool: "test".into(),
            scope: Scope::All,
            status: Status::Complete,
            repositories: vec!["offsite".into()],
            assets: Vec::new(),
            epoch: EnvelopeEpoch {
                id: EpochId::from_bytes([1; 8]),
                object: Digest::of(b"epoch"),
            },
            manifest: objects[0].0,
            objects,
            lock_until: None,
        }
    }

    #[test]
    fn an_object_is_planned_once_and_before_its_envelope() {
        let mut plan = CopyPlan::default();
        let there = BTreeMap::new();
        plan.add(&envelope(1, &["a", "b"]), &there);
        plan.add(&envelope(2, &["b", "c"]), &there);
        let counts: Vec<usize> = plan.steps.iter().map(|step| step.objects.len()).collect();
        assert_eq!(counts, [3, 1], "two objects and the epoch, then one");
        assert_eq!(plan.size_bytes(), 30);
        assert_eq!(plan.parts(20).len(), 2);
        assert_eq!(plan.parts(21).len(), 1);
    }

    #[test]
    fn what_is_there_is_not_copied_again() {
        let (one, two) = (envelope(1, &["a"]), envelope(2, &["a", "b"]));
        let mut there: BTreeMap<ObjectName, u64> = one
            .needs()
            .map(|(name, size)| (name, size.unwrap_or(7)))
            .collect();
        there.insert(one.name(), 100);
        let mut plan = CopyPlan::default();
        plan.add(&one, &there);
        plan.add(&two, &there);
        assert_eq!(plan.steps.len(), 1);
        assert_eq!(
            plan.steps[0].objects,
            [(ObjectName::object(Digest::of(b"b")), Some(10))]
        );
        // An object that a copied backup has lost is brought again; one of another size is left alone.
        there.remove(&ObjectName::object(Digest::of(b"a")));
        let mut plan = CopyPlan::default();
        plan.add(&one, &there);
        assert!(!plan.steps[0].is_new);
        there.insert(ObjectName::object(Digest::of(b"a")), 9);
        let mut plan = CopyPlan::default();
        plan.add(&one, &there);
        assert_eq!((plan.steps.len(), plan.other_size.len()), (0, 1));
    }
}
