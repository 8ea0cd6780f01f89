//! The shares that a command has been given so far, by set, and the identities that they give.

use std::collections::BTreeSet;

use strongroom_core::custody::{
    Accepted, CUSTODIANS_MAX, CustodyRecord, Quorum, Refusal, SecretIdentity, Share, ShareText,
    set_id,
};
use strongroom_core::format::SetId;

/// Shares, sorted by the identity they belong to.
pub(super) struct Gathering {
    records: Vec<CustodyRecord>,
    /// The sets that can open anything here; empty when that is not known.
    expected: BTreeSet<SetId>,
    /// How many identities are wanted.
    wanted: usize,
    sets: Vec<Gathered>,
}

/// One set.
pub(super) struct Gathered {
    pub(super) quorum: Quorum,
    /// How each share came, in the order of the quorum.
    pub(super) ways: Vec<String>,
    pub(super) identity: Option<SecretIdentity>,
    /// Shares that were shown to be false.
    pub(super) false_shares: Vec<String>,
}

impl Gathering {
    /// Begins; the recipients are those that anything here is sealed to.
    pub(super) fn new<'r>(
        records: Vec<CustodyRecord>,
        recipients: impl IntoIterator<Item = &'r String>,
        wanted: usize,
    ) -> Self {
        let sets = |recipient: &'r String| {
            (1..=CUSTODIANS_MAX).map(move |threshold| set_id(recipient, threshold))
        };
        Self {
            records,
            expected: recipients.into_iter().flat_map(sets).collect(),
            wanted,
            sets: Vec::new(),
        }
    }

    /// Takes a share, or refuses it; says what happened in a sentence, without an end.
    pub(super) fn offer(&mut self, text: ShareText, way: &str) -> Result<String, Refusal> {
        let set = text.share.set();
        let index = match self.sets.iter().position(|one| one.quorum.set() == set) {
            Some(index) => index,
            None => self.begin(&text)?,
        };
        let gathered = &mut self.sets[index];
        let who = gathered.quorum.name(&text);
        if gathered.identity.is_some() {
            return Ok(format!("{who} is not needed, there are enough"));
        }
        let accepted = gathered.quorum.offer(text)?;
        gathered.ways.push(way.to_owned());
        Ok(match accepted {
            Accepted::Waiting { missing } => {
                let held = gathered.ways.len();
                let needed = gathered.quorum.threshold();
                format!("{who} is there: {held} of {needed}, {missing} to come")
            }
            Accepted::Disagree => format!(
                "{who} is there, and yet they do not fit: {} - one of them is false, more shares will tell which",
                gathered.quorum.names().join(", ")
            ),
            Accepted::Complete {
                identity,
                false_shares,
            } => {
                gathered.identity = Some(identity);
                gathered.false_shares.clone_from(&false_shares);
                let mut said = format!("{who} is there: enough");
                for one in false_shares {
                    said = format!("{said}; {one} is false and was left out");
                }
                said
            }
        })
    }

    /// The place of a set that this share is the first of.
    fn begin(&mut self, text: &ShareText) -> Result<usize, Refusal> {
        let set = text.share.set();
        let record = self
            .records
            .iter()
            .find(|record| record.set == set)
            .cloned();
        let quorum = Quorum::of(&text.share, record);
        let known = self.sets.first().map(|one| one.quorum.set());
        let is_expected = self.expected.is_empty() || self.expected.contains(&set);
        let is_full = self.sets.len() >= self.wanted;
        if !is_expected || is_full {
            return Err(Refusal::OtherSet {
                who: quorum.name(text),
                found: set,
                expected: known.or_else(|| self.recorded()).unwrap_or(set),
            });
        }
        // A share that is refused must not decide which set is gathered.
        quorum.examine(text)?;
        self.sets.push(Gathered {
            quorum,
            ways: Vec::new(),
            identity: None,
            false_shares: Vec::new(),
        });
        Ok(self.sets.len() - 1)
    }

    /// A set that is expected and has a record.
    fn recorded(&self) -> Option<SetId> {
        let mut sets = self.records.iter().map(|record| record.set);
        sets.rfind(|set| self.expected.contains(set))
            .or_else(|| self.expected.first().copied())
    }

    /// Whether all identities that are wanted are there.
    pub(super) fn is_complete(&self) -> bool {
        self.sets.len() >= self.wanted && self.sets.iter().all(|one| one.identity.is_some())
    }

    /// What is there and what is not, a sentence each set.
    pub(super) fn state(&self) -> Vec<String> {
        let sentence = |one: &Gathered| {
            let (held, needed) = (one.ways.len(), one.quorum.threshold());
            let name = one.quorum.record().map_or_else(
                || format!("set {}", one.quorum.set()),
                |record| format!("{} (set {})", record.name, record.set),
            );
            match one.identity {
                Some(_) => format!("{name}: enough shares"),
                None if held == 0 => format!("{name}: no share is there, {needed} are needed"),
                None => format!(
                    "{name}: {held} of {needed} shares are there: {}",
                    one.quorum.names().join(", ")
                ),
            }
        };
        let mut all: Vec<String> = self.sets.iter().map(sentence).collect();
        if self.sets.len() < self.wanted {
            let begun =
                |record: &CustodyRecord| self.sets.iter().any(|one| one.quorum.set() == record.set);
            let could = self.records.iter().filter(|record| {
                !begun(record) && (self.expected.is_empty() || self.expected.contains(&record.set))
            });
            let before = all.len();
            all.extend(could.map(|record| {
                let names = record.custodians.iter().map(|one| one.name.as_str());
                let names: Vec<&str> = names.collect();
                let (name, set, needed) = (&record.name, record.set, record.threshold);
                format!("{name} (set {set}): any {needed} of {}", names.join(", "))
            }));
            if all.len() == before {
                all.push("no share is there yet".to_owned());
            }
        }
        all
    }

    /// The sets that are complete.
    pub(super) fn into_sets(self) -> Vec<Gathered> {
        self.sets
    }
}

impl Gathered {
    /// The shares that took part, and how each came.
    pub(super) fn participants(&self) -> impl Iterator<Item = (&Share, &String)> {
        self.quorum.shares().zip(&self.ways)
    }
}
