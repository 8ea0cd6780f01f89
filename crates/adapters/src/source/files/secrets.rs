//! What happens to a file that holds a secret in an asset whose class is not for secrets.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use strongroom_core::source::Class;

use super::findings::Quoted;
use crate::secret_scan::{Found, Report};

/// How many places of a file a sentence names.
const PLACES_MAX: usize = 5;

/// What follows when a file of a class that is not for secrets holds one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnSecret {
    /// The file is left out, and the asset is incomplete.
    #[default]
    Refuse,
    /// The file goes to another asset, of class `secret`.
    Redirect {
        /// Its name.
        asset: String,
    },
    /// The file stays, for a reason that is on record.
    Allow {
        /// The reason.
        reason: String,
    },
    /// The file stays and the operator is told; for logs, which are worth more than the tokens in them.
    Note,
}

impl OnSecret {
    /// What holds for a class where nothing is said; none where nobody looks: keys and secrets have their place in assets of
    /// their classes, and databases are full of both.
    pub const fn default_of(class: Class) -> Option<Self> {
        match class {
            Class::Config | Class::Certificate => Some(Self::Refuse),
            Class::Log | Class::Audit => Some(Self::Note),
            Class::Database | Class::Secret | Class::Key => None,
        }
    }

    /// Adds to the settings of an asset what is not the default.
    pub(super) fn describe(&self, settings: &mut Value) {
        match self {
            Self::Refuse | Self::Note => {}
            Self::Redirect { asset } => {
                settings["on_secret"] = "redirect".into();
                settings["redirected_to"] = asset.as_str().into();
            }
            Self::Allow { reason } => {
                settings["on_secret"] = "allow".into();
                settings["on_secret_reason"] = reason.as_str().into();
            }
        }
    }
}

/// A sentence about the secrets in a file, which may have another name that tells: what and where, never which, and what follows.
pub(super) fn sentence(
    path: &Path,
    other: Option<&Path>,
    report: &Report,
    on_secret: &OnSecret,
) -> String {
    let mut sentence = format!("{}", Quoted(path));
    if let Some(other) = other {
        let _ = write!(sentence, ", also named {}", Quoted(other));
    }
    let (named, rest) = report.found.split_at(report.found.len().min(PLACES_MAX));
    for (index, Found { rule, line }) in named.iter().enumerate() {
        let sign = if index == 0 { ": holds" } else { "," };
        let _ = write!(sentence, "{sign} {}", rule.finds);
        if let Some(line) = line {
            let _ = write!(sentence, " in line {line}");
        }
        let _ = write!(sentence, " [{}]", rule.id);
    }
    let more = rest.len() as u64 + report.more;
    if more > 0 {
        let _ = write!(sentence, " and {more} more");
    }
    let class = report
        .found
        .iter()
        .map(|found| found.rule.class)
        .max()
        .unwrap_or(Class::Secret);
    let _ = match on_secret {
        OnSecret::Refuse => write!(
            sentence,
            " and is left out; name it in an asset of class {class} and exclude it here, or write on_secret = \"redirect\", or \"allow\" with on_secret_reason"
        ),
        OnSecret::Redirect { asset } => write!(sentence, " and goes to the asset {asset}"),
        OnSecret::Allow { reason } => {
            write!(sentence, " and stays here: {}", reason.escape_debug())
        }
        OnSecret::Note => write!(sentence, "; whoever opens the backup can read it"),
    };
    sentence
}

/// How many files held secrets, and what became of them.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) allowed: u64,
    pub(super) refused: u64,
    pub(super) redirected: u64,
}

impl Counts {
    /// For the facts; none when there was nothing.
    pub(super) fn facts(&self, on_secret: &OnSecret) -> Option<Value> {
        let mut facts = json!({});
        for (name, count) in [
            ("in_this_asset", self.allowed),
            ("left_out", self.refused),
            ("redirected", self.redirected),
        ] {
            if count > 0 {
                facts[name] = count.into();
            }
        }
        if let (OnSecret::Redirect { asset }, 1..) = (on_secret, self.redirected) {
            facts["redirected_to"] = asset.as_str().into();
        }
        let is_empty = facts.as_object().is_none_or(serde_json::Map::is_empty);
        (!is_empty).then_some(facts)
    }
}

/// The files that a capture has redirected; none before it has ended. Shared by the two assets.
#[derive(Clone, Debug, Default)]
pub(super) struct Redirected(Arc<Mutex<Option<Vec<PathBuf>>>>);

impl Redirected {
    pub(super) fn set(&self, paths: Option<Vec<PathBuf>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = paths;
    }

    pub(super) fn get(&self) -> Option<Vec<PathBuf>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
