//! What a repair brings back from a copy, and what is lost in both.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::envelope::Envelope;
use crate::format::expiry::ExpiredRanges;
use crate::format::name::ObjectName;
use crate::format::{Digest, Label, WriterId};

/// What was seen of both sides.
#[derive(Clone, Debug, Default)]
pub struct RepairWorld {
    /// What the repository that is healed holds, by name, with sizes.
    pub here: BTreeMap<ObjectName, u64>,
    /// What the other one holds.
    pub there: BTreeMap<ObjectName, u64>,
    /// Objects of the repository that were found damaged, and why.
    pub damaged_here: BTreeMap<ObjectName, String>,
    /// Objects of the other one that were found damaged.
    pub damaged_there: BTreeSet<ObjectName>,
    /// Which envelopes have expired, by the records of either side.
    pub expired: Vec<ExpiredRanges>,
    /// The repository documents and envelopes of either, and its newest record of what has expired.
    pub documents: BTreeMap<ObjectName, DocumentSeen>,
}

/// A signed document, as it is in both.
#[derive(Clone, Debug)]
pub struct DocumentSeen {
    /// In the repository that is healed.
    pub here: Side,
    /// In the other one.
    pub there: Side,
}

/// A signed document, as it is in one of them.
#[derive(Clone, Debug)]
pub enum Side {
    /// It is not there.
    Missing,
    /// It is there and does not hold, and why.
    Damaged(String),
    /// It holds: the digest of its bytes, and what it says if it is an envelope.
    Good(Digest, Option<Box<Envelope>>),
}

/// One object that is brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heal {
    /// The object.
    pub name: ObjectName,
    /// The digest of the bytes that it must have.
    pub digest: Digest,
    /// How many there are, where it is known.
    pub size_bytes: Option<u64>,
    /// What is wrong with it.
    pub why: String,
    /// Whether something lies under its name, which is deleted once the good bytes are at hand.
    pub replaces: bool,
}

/// An object that no side has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The object.
    pub name: ObjectName,
    /// What is wrong with it.
    pub why: String,
    /// The backups that need it.
    pub backups: Vec<Label>,
}

/// What will be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// What is brought back, in this order: documents, epochs, objects, and envelopes last.
    pub heal: Vec<Heal>,
    /// What cannot be.
    pub lost: Vec<Lost>,
    /// Backups that only the other side has, and that have expired in this one.
    pub left_out: Vec<(ObjectName, Label)>,
    /// Contradictions that nobody but the operator can solve; nothing is done about them.
    pub problems: Vec<String>,
}

impl RepairPlan {
    /// The bytes that are fetched, as far as the sizes are known.
    pub fn size_bytes(&self) -> u64 {
        self.heal.iter().filter_map(|heal| heal.size_bytes).sum()
    }

    /// The digests of the lost objects.
    pub fn lost_objects(&self) -> BTreeSet<Digest> {
        let lost = self.lost.iter();
        lost.filter_map(|lost| lost.name.digest()).collect()
    }
}

/// Plans a repair.
pub fn plan_repair(world: &RepairWorld) -> RepairPlan {
    let mut plan = RepairPlan::default();
    let (documents, envelopes) = world
        .documents
        .iter()
        .partition::<Vec<_>, _>(|(name, _)| name.envelope_parts().is_none());
    for (name, seen) in documents {
        plan_document(&mut plan, name, seen);
    }
    let mut healed = Vec::new();
    let mut kept: Vec<&Envelope> = Vec::new();
    for (name, seen) in &envelopes {
        match (&seen.here, &seen.there) {
            (Side::Good(here, envelope), other) => {
                kept.extend(envelope.as_deref());
                if let Side::Good(there, _) = other
                    && here != there
                {
                    plan.problems.push(format!(
                        "{name} is another envelope in the copy; one of the two was put there later, and it is left alone"
                    ));
                }
            }
            (Side::Damaged(why), Side::Good(digest, Some(envelope))) => {
                kept.push(envelope);
                healed.push(heal_document(world, name, *digest, why, true));
            }
            (Side::Missing, Side::Good(digest, Some(envelope))) => {
                if has_expired(world, name) {
                    let label = envelope.label.clone();
                    plan.left_out.push(((*name).clone(), label));
                } else {
                    kept.push(envelope);
                    healed.push(heal_document(world, name, *digest, "it is missing", false));
                }
            }
            (Side::Damaged(why), _) => plan.lost.push(Lost {
                name: (*name).clone(),
                why: why.clone(),
                backups: Vec::new(),
            }),
            (Side::Missing, Side::Damaged(why)) if !has_expired(world, name) => {
                plan.lost.push(Lost {
                    name: (*name).clone(),
                    why: format!("it is missing, and in the copy: {why}"),
                    backups: Vec::new(),
                });
            }
            (Side::Missing, _) => {}
        }
    }
    let names = envelopes.iter().map(|(name, _)| *name);
    plan.problems.extend(gaps(world, names));
    plan_objects(&mut plan, world, &kept);
    plan.heal.extend(healed);
    plan
}

fn plan_document(plan: &mut RepairPlan, name: &ObjectName, seen: &DocumentSeen) {
    match (&seen.here, &seen.there) {
        (Side::Good(here, _), Side::Good(there, _)) if here != there => {
            plan.problems.push(format!(
                "{name} is another document in the copy, and it is left alone"
            ));
        }
        (Side::Good(..), _) | (Side::Missing, Side::Missing | Side::Damaged(_)) => {}
        (Side::Damaged(why), Side::Good(digest, _)) => plan.heal.push(Heal {
            name: name.clone(),
            digest: *digest,
            size_bytes: None,
            why: why.clone(),
            replaces: true,
        }),
        (Side::Missing, Side::Good(digest, _)) => plan.heal.push(Heal {
            name: name.clone(),
            digest: *digest,
            size_bytes: None,
            why: "it is missing".to_owned(),
            replaces: false,
        }),
        (Side::Damaged(why), _) => plan.lost.push(Lost {
            name: name.clone(),
            why: why.clone(),
            backups: Vec::new(),
        }),
    }
}

fn heal_document(
    world: &RepairWorld,
    name: &ObjectName,
    digest: Digest,
    why: &str,
    replaces: bool,
) -> Heal {
    Heal {
        name: name.clone(),
        digest,
        size_bytes: world.there.get(name).copied(),
        why: why.to_owned(),
        replaces,
    }
}

/// Whether a record says that the envelope was let go.
fn has_expired(world: &RepairWorld, name: &ObjectName) -> bool {
    name.envelope_parts().is_some_and(|(writer, sequence)| {
        let mut records = world.expired.iter();
        records.any(|expired| expired.covers(writer, sequence))
    })
}

/// Envelopes that neither side has and no record lets go, a sentence for each range.
fn gaps<'n>(world: &RepairWorld, names: impl Iterator<Item = &'n ObjectName>) -> Vec<String> {
    let mut last: BTreeMap<WriterId, u64> = BTreeMap::new();
    let mut told = Vec::new();
    // By writer, and then in their order.
    for (writer, sequence) in names.filter_map(ObjectName::envelope_parts) {
        let before = last.insert(writer, sequence).unwrap_or(0);
        if sequence <= before + 1 {
            continue;
        }
        let mut missing = vec![(before + 1, sequence - 1)];
        for expired in &world.expired {
            let of_range = |(first, last)| expired.uncovered(writer, first, last);
            missing = missing.into_iter().flat_map(of_range).collect();
        }
        told.extend(missing.into_iter().map(|(first, last)| {
            let which = if first == last {
                format!("envelope {first}")
            } else {
                format!("envelopes {first} to {last}")
            };
            format!(
                "{which} of writer {writer}: missing on both sides, and no record lets them go. Another copy may have them; \
                 what is lost for good is let go by `strongroom expire --accept-missing`"
            )
        }));
    }
    told
}

fn plan_objects(plan: &mut RepairPlan, world: &RepairWorld, kept: &[&Envelope]) {
    let mut needed: BTreeMap<ObjectName, Option<u64>> = BTreeMap::new();
    for envelope in kept {
        needed.extend(envelope.needs());
    }
    let mut lost: BTreeMap<ObjectName, Lost> = BTreeMap::new();
    for (name, size) in needed {
        let found = world.here.get(&name);
        let why = match (found, size) {
            (None, _) => "it is missing".to_owned(),
            (Some(found), Some(size)) if *found != size => {
                format!("it has {found} bytes, {size} were written")
            }
            _ => match world.damaged_here.get(&name) {
                Some(why) => why.clone(),
                None => continue,
            },
        };
        let there = world.there.get(&name);
        let has_it = there.is_some_and(|there| size.is_none_or(|size| size == *there));
        match name.digest() {
            Some(digest) if has_it && !world.damaged_there.contains(&name) => {
                plan.heal.push(Heal {
                    digest,
                    size_bytes: size.or(there.copied()),
                    why,
                    replaces: found.is_some(),
                    name,
                });
            }
            _ => {
                let backups = Vec::new();
                lost.insert(name.clone(), Lost { name, why, backups });
            }
        }
    }
    if lost.is_empty() {
        return;
    }
    for envelope in kept {
        for (name, _) in envelope.needs() {
            if let Some(lost) = lost.get_mut(&name) {
                lost.backups.push(envelope.label.clone());
            }
        }
    }
    plan.lost.extend(lost.into_values());
}

#[cfg(test)]
mod tests {
    use super::super::copy::tests::envelope;
    use super::*;

    /// A repository with these backups, whole.
    fn side(backups: &[Envelope]) -> BTreeMap<ObjectName, u64> {
        let mut found = BTreeMap::new();
        for envelope in backups {
            found.insert(envelope.name(), 100);
            found.extend(
                envelope
                    .needs()
                    .map(|(name, size)| (name, size.unwrap_or(7))),
            );
        }
        found
    }

    fn world(here: &[Envelope], there: &[Envelope]) -> RepairWorld {
        let mut world = RepairWorld {
            here: side(here),
            there: side(there),
            ..RepairWorld::default()
        };
        for envelope in here.iter().chain(there) {
            let name = envelope.name();
            let good = |found: &[Envelope]| {
                let found = found.iter().find(|one| one.name() == name);
                found.map_or(Side::Missing, |one| {
                    Side::Good(
                        Digest::of(name.as_str().as_bytes()),
                        Some(Box::new(one.clone())),
                    )
                })
            };
            let seen = DocumentSeen {
                here: good(here),
                there: good(there),
            };
            world.documents.insert(name.clone(), seen);
        }
        world
    }

    fn object(text: &str) -> ObjectName {
        ObjectName::object(Digest::of(text.as_bytes()))
    }

    #[test]
    fn what_is_whole_is_left_alone() {
        let both = [envelope(1, &["a"]), envelope(2, &["a", "b"])];
        let plan = plan_repair(&world(&both, &both));
        assert_eq!(plan, RepairPlan::default());
    }

    #[test]
    fn the_damaged_are_replaced_and_the_missing_added() {
        let both = [envelope(1, &["a", "b", "c", "d"])];
        let mut world = world(&both, &both);
        world.here.remove(&object("a"));
        world.here.insert(object("b"), 3);
        world
            .damaged_here
            .insert(object("c"), "its bytes were changed".into());
        let plan = plan_repair(&world);
        let mut healed: Vec<(ObjectName, bool)> = plan
            .heal
            .iter()
            .map(|heal| (heal.name.clone(), heal.replaces))
            .collect();
        healed.sort();
        let mut expected = [
            (object("a"), false),
            (object("b"), true),
            (object("c"), true),
        ];
        expected.sort();
        assert_eq!(healed, expected);
        assert!(plan.lost.is_empty());
    }

    #[test]
    fn what_no_side_has_is_lost_with_its_backups() {
        let both = [envelope(1, &["a"]), envelope(2, &["a", "b"])];
        let mut seen = world(&both, &both);
        seen.here.remove(&object("a"));
        seen.damaged_there.insert(object("a"));
        let plan = plan_repair(&seen);
        assert!(plan.heal.is_empty());
        let labels: Vec<Label> = both.iter().map(|one| one.label.clone()).collect();
        assert_eq!(plan.lost[0].backups, labels);
        assert_eq!(plan.lost_objects(), [Digest::of(b"a")].into());
    }

    #[test]
    fn the_missing_come_back_and_the_expired_do_not() {
        let all = [
            envelope(1, &["a"]),
            envelope(2, &["b"]),
            envelope(3, &["c"]),
        ];
        let mut seen = world(&all[1..2], &all);
        seen.expired = vec![ExpiredRanges::of([(all[0].writer, 1)])];
        let plan = plan_repair(&seen);
        let names: Vec<&ObjectName> = plan.heal.iter().map(|heal| &heal.name).collect();
        assert_eq!(names, [&object("c"), &all[2].name()], "the envelope last");
        assert_eq!(plan.left_out, [(all[0].name(), all[0].label.clone())]);
        seen.expired.clear();
        let plan = plan_repair(&seen);
        assert_eq!((plan.heal.len(), plan.left_out.len()), (4, 0));
    }

    #[test]
    fn what_is_missing_on_both_sides_is_told_unless_it_has_expired() {
        let both = [envelope(1, &["a"]), envelope(5, &["a"])];
        let mut world = world(&both, &both[1..]);
        let writer = both[0].writer;
        let plan = plan_repair(&world);
        assert_eq!(plan.problems.len(), 1, "{plan:?}");
        assert!(plan.problems[0].starts_with(&format!("envelopes 2 to 4 of writer {writer}: ")));
        world.expired = vec![
            ExpiredRanges::of([(writer, 2)]),
            ExpiredRanges::of([(writer, 4)]),
        ];
        let plan = plan_repair(&world);
        assert_eq!(plan.problems.len(), 1, "{plan:?}");
        assert!(plan.problems[0].starts_with(&format!("envelope 3 of writer {writer}: ")));
        world.expired = vec![ExpiredRanges::of([2, 3, 4].map(|number| (writer, number)))];
        assert_eq!(plan_repair(&world), RepairPlan::default());

        // Missing here and damaged there is lost as well.
        let envelope = envelope(6, &["a"]);
        let there = Side::Damaged("cut off".to_owned());
        let here = Side::Missing;
        world
            .documents
            .insert(envelope.name(), DocumentSeen { here, there });
        let lost = plan_repair(&world).lost;
        assert_eq!(lost.len(), 1);
        assert!(lost[0].why.contains("cut off"));
    }

    #[test]
    fn two_histories_are_told_and_not_mixed() {
        let both = [envelope(1, &["a"])];
        let mut world = world(&both, &both);
        let seen = world.documents.get_mut(&both[0].name()).expect("seen");
        seen.there = Side::Good(Digest::of(b"other"), Some(Box::new(both[0].clone())));
        let plan = plan_repair(&world);
        assert_eq!((plan.heal.len(), plan.problems.len()), (0, 1));
    }
}
