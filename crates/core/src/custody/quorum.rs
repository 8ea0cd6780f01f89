//! Shares that come in one by one, until there are enough.

use blahaj::{Share as Point, Sharks};
use zeroize::Zeroizing;

use super::dealer::subsets;
use super::secret::SecretIdentity;
use super::share::{Share, set_id};
use super::{CustodyRecord, ShareText};
use crate::format::SetId;

/// Why a share does not count. Names shares and custodians, never content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It belongs to another identity.
    #[error("{who} is of the set {found}, not of {expected}")]
    OtherSet {
        /// The share.
        who: String,
        /// Its set.
        found: SetId,
        /// The set that is being gathered.
        expected: SetId,
    },
    /// It is there already.
    #[error("{who} is there already")]
    Duplicate {
        /// The share.
        who: String,
    },
    /// It is said to be one custodian's and is another's.
    #[error("what is said to be the share of {said} is {who}")]
    Swapped {
        /// Whose it is said to be.
        said: String,
        /// Whose it is.
        who: String,
    },
    /// The set has no such share.
    #[error("the set has no share {index}")]
    Unknown {
        /// Its number.
        index: u8,
    },
    /// Its checksum is right, and yet it is not the share that was handed out.
    #[error("{who} is not the share that was handed out")]
    Changed {
        /// The share.
        who: String,
    },
    /// Two different shares have the same number.
    #[error("{who} differs from another share with that number; one of them is false")]
    Contradicts {
        /// The share.
        who: String,
    },
}

impl Refusal {
    /// What to do about it, in a whole sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::OtherSet { .. } => {
                "It opens something else: an older or another identity. `strongroom custody show` has the sets."
            }
            Self::Duplicate { .. } => "Ask another custodian.",
            Self::Swapped { .. } => {
                "Find out who holds whose share; each custodian should rehearse again."
            }
            Self::Unknown { .. } | Self::Changed { .. } | Self::Contradicts { .. } => {
                "Take another copy of it, or another custodian's; `strongroom custody rehearse` proves single shares."
            }
        }
    }
}

/// What a share that counts led to.
#[derive(Debug)]
pub enum Accepted {
    /// More are needed.
    Waiting {
        /// How many.
        missing: usize,
    },
    /// Enough are there, and yet they do not fit: one or more of these are false. Only without a custody record, which
    /// finds the false one by itself. More shares will tell.
    Disagree,
    /// The identity.
    Complete {
        /// It.
        identity: SecretIdentity,
        /// The shares that were shown to be false.
        false_shares: Vec<String>,
    },
}

/// The shares of one set that are there.
pub struct Quorum {
    set: SetId,
    threshold: u8,
    record: Option<CustodyRecord>,
    held: Vec<ShareText>,
}

impl Quorum {
    /// Begins with the set of this share. The record, where there is one, must be of that set.
    pub fn of(share: &Share, record: Option<CustodyRecord>) -> Self {
        Self {
            set: share.set(),
            threshold: share.threshold(),
            record: record.filter(|record| record.set == share.set()),
            held: Vec::new(),
        }
    }

    /// The set.
    pub fn set(&self) -> SetId {
        self.set
    }

    /// How many shares are needed.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// The record of the set, where it is known.
    pub fn record(&self) -> Option<&CustodyRecord> {
        self.record.as_ref()
    }

    /// The shares that are there, as they are called: by custodian, or by number where that is not known.
    pub fn names(&self) -> Vec<String> {
        self.held.iter().map(|held| self.name(held)).collect()
    }

    /// The shares that are there, for signing that they took part.
    pub fn shares(&self) -> impl Iterator<Item = &Share> {
        self.held.iter().map(|held| &held.share)
    }

    /// How a share is called.
    pub fn name(&self, text: &ShareText) -> String {
        let index = text.share.index();
        let recorded = self
            .record
            .as_ref()
            .and_then(|record| record.custodian(index));
        match (recorded, &text.custodian) {
            (Some(custodian), _) => format!("the share of {}", custodian.name),
            (None, Some(said)) => format!("share {index} (said to be of {said})"),
            (None, None) => format!("share {index}"),
        }
    }

    /// Looks at one share alone: whether it is of this set and the one that was handed out.
    pub fn examine(&self, text: &ShareText) -> Result<(), Refusal> {
        let share = &text.share;
        let who = || self.name(text);
        if share.set() != self.set || share.threshold() != self.threshold {
            let index = share.index();
            let who = match &text.custodian {
                Some(said) => format!("share {index} (said to be of {said})"),
                None => format!("share {index}"),
            };
            return Err(Refusal::OtherSet {
                who,
                found: share.set(),
                expected: self.set,
            });
        }
        let Some(record) = &self.record else {
            return Ok(());
        };
        let Some(custodian) = record.custodian(share.index()) else {
            return Err(Refusal::Unknown {
                index: share.index(),
            });
        };
        if text
            .custodian
            .as_ref()
            .is_some_and(|said| *said != custodian.name)
        {
            return Err(Refusal::Swapped {
                said: text.custodian.clone().unwrap_or_default(),
                who: who(),
            });
        }
        let key = share.verifying_key().ok();
        if key.is_none_or(|key| key.to_base64() != custodian.key) {
            return Err(Refusal::Changed { who: who() });
        }
        Ok(())
    }

    /// Takes one more share; with the last one needed, the identity.
    pub fn offer(&mut self, text: ShareText) -> Result<Accepted, Refusal> {
        self.examine(&text)?;
        let same = |held: &&ShareText| held.share.index() == text.share.index();
        if let Some(held) = self.held.iter().find(same) {
            let who = self.name(&text);
            return Err(if held.share.has_value_of(&text.share) {
                Refusal::Duplicate { who }
            } else {
                Refusal::Contradicts { who }
            });
        }
        self.held.push(text);
        let missing = usize::from(self.threshold).saturating_sub(self.held.len());
        if missing > 0 {
            return Ok(Accepted::Waiting { missing });
        }
        Ok(self.open().unwrap_or(Accepted::Disagree))
    }

    /// Looks for shares that together give the identity of this set.
    fn open(&self) -> Option<Accepted> {
        let size = usize::from(self.threshold);
        let good = subsets(self.held.len(), size).find_map(|chosen| {
            let identity = self.identity(&chosen)?;
            Some((chosen, identity))
        });
        let (chosen, identity) = good?;
        // A share that can take the place of a good one is good.
        let is_false = |index: &usize| {
            let mut others = chosen.clone();
            others[0] = *index;
            !chosen.contains(index) && self.identity(&others).is_none()
        };
        let false_shares = (0..self.held.len())
            .filter(is_false)
            .map(|index| self.name(&self.held[index]))
            .collect();
        Some(Accepted::Complete {
            identity,
            false_shares,
        })
    }

    fn identity(&self, chosen: &[usize]) -> Option<SecretIdentity> {
        let shares: Vec<&Share> = chosen
            .iter()
            .map(|&index| &self.held[index].share)
            .collect();
        let identity = combine(&shares)?;
        (set_id(&identity.recipient(), self.threshold) == self.set).then_some(identity)
    }
}

/// What these shares give together, right or wrong. They are as many as the threshold and have different numbers.
pub(super) fn combine(shares: &[&Share]) -> Option<SecretIdentity> {
    let points: Vec<Point> = shares
        .iter()
        .map(|share| {
            let mut bytes = Zeroizing::new([0; 33]);
            bytes[0] = share.index();
            bytes[1..].copy_from_slice(share.value());
            Point::try_from(bytes.as_slice()).expect("33 bytes")
        })
        .collect();
    let threshold = u8::try_from(points.len()).ok()?;
    let secret = Zeroizing::new(Sharks(threshold).recover(&points).ok()?);
    SecretIdentity::from_slice(&secret)
}
