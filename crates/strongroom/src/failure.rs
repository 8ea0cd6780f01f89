//! Failures at the edge: an exit status, a stable code, what happened, and what to do next.

use std::fmt;

use strongroom_core::cancel::Interrupted;
use strongroom_core::error_chain;
use strongroom_core::execute::backup::BackupError;
use strongroom_core::execute::copy::CopyError;
use strongroom_core::execute::expire::ExpireError;
use strongroom_core::execute::lock::LockError;
use strongroom_core::execute::repair::RepairError;
use strongroom_core::execute::restore::RestoreError;
use strongroom_core::format::FormatError;
use strongroom_core::plan::backup::BackupPlanError;
use strongroom_core::repository::RepositoryError;
use strongroom_core::source::CaptureError;
use strongroom_core::storage::StorageError;

use crate::config::{LoadError, RecipientError};
use crate::identity::IdentityError;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Problems = 3,
    Refused = 4,
    NoRepository = 10,
    Busy = 11,
    WrongIdentity = 12,
    Interrupted = 130,
}

impl Exit {
    /// The status for the shell.
    pub(crate) fn status(self) -> u8 {
        self as u8
    }

    /// The worse of two.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

/// What to do about a plugin that did not open something.
pub(crate) const PLUGIN_HINT: &str =
    "See to the plugin, its device, its PIN or touch, and try again. Nothing was changed.";

/// Why a command ended without doing its work.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Single faults, for --json.
    pub(crate) details: Vec<serde_json::Value>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code,
            message: message.into(),
            hint: None,
            details: Vec::new(),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn of(exit: Exit, code: &'static str, error: &dyn std::error::Error) -> Self {
        Self::new(exit, code, error_chain(error))
    }

    /// Whether a repository cannot be reached or used, which says nothing about the others.
    pub(crate) fn is_of_storage(&self) -> bool {
        const CODES: [&str; 6] = [
            "no-repository",
            "no-space",
            "storage",
            "storage-refuses",
            "storage-settings",
            "storage-unreachable",
        ];
        CODES.contains(&self.code)
    }

    /// Why a repository could not be opened as it was at a time.
    pub(crate) fn in_the_past(error: RepositoryError, time: jiff::Timestamp) -> Self {
        match error {
            RepositoryError::NotARepository { location } => Self::new(
                Exit::NoRepository,
                "no-repository",
                format!("there was no Strongroom repository at {location} at {time}"),
            )
            .hint("It was made later, or what was there then is not kept any more: name a later time with --as-of."),
            error => error.into(),
        }
    }

    /// Puts what was being done in front.
    pub(crate) fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl From<Interrupted> for Failure {
    fn from(_: Interrupted) -> Self {
        Self::new(Exit::Interrupted, "interrupted", "interrupted")
            .hint("Nothing is lost; the next run goes on from here.")
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        if error.is_missing() {
            return Self::of(Exit::Usage, "no-configuration", &error).hint(
                "Write one with `strongroom init`, or name it with --config or STRONGROOM_CONFIG.",
            );
        }
        match &error {
            LoadError::Invalid(errors) => {
                let lines = errors.iter().map(|error| match error.hint() {
                    Some(hint) => format!("{error}\n    hint: {hint}"),
                    None => error.to_string(),
                });
                let message = lines.collect::<Vec<_>>().join("\n  ");
                let details = errors.iter().map(|error| {
                    serde_json::json!({
                        "file": error.file(), "line": error.line(), "column": error.column(),
                        "message": error.message(), "hint": error.hint(),
                    })
                });
                let mut failure = Self::new(Exit::Usage, "configuration", message);
                failure.details = details.collect();
                failure
            }
            LoadError::Read { .. } => Self::of(Exit::Usage, "configuration", &error),
        }
    }
}

impl From<RecipientError> for Failure {
    fn from(error: RecipientError) -> Self {
        Self::of(Exit::Usage, "recipient", &error).hint(error.hint())
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let exit = if matches!(error, IdentityError::WrongPassphrase { .. }) {
            Exit::WrongIdentity
        } else {
            Exit::Usage
        };
        let failure = Self::of(exit, "identity", &error);
        match error.hint() {
            "" => failure,
            hint => failure.hint(hint),
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        match &error {
            StorageError::Settings { .. } => {
                Self::of(Exit::Failed, "storage-settings", &error)
                    .hint("Correct what is named: the keys of this repository in the configuration, such as credentials_file, or the file itself.")
            }
            StorageError::Unusable { .. } => {
                Self::of(Exit::NoRepository, "no-repository", &error).hint(
                    "Is it mounted? A new repository is made by `strongroom init`.",
                )
            }
            StorageError::Refused(refusal) => {
                Self::of(Exit::Failed, "storage-refuses", &error).hint(refusal.hint)
            }
            StorageError::Unreachable(_) => Self::of(Exit::Failed, "storage-unreachable", &error)
                .hint("Nothing is lost: run the same command again when it answers; what was stored already is used again."),
            StorageError::Interrupted(_) => Interrupted.into(),
            StorageError::NoSpace { .. } => Self::of(Exit::Failed, "no-space", &error).hint(
                "Make room and run the same command again; what was stored already is used again.",
            ),
            StorageError::NotFound { .. } => Self::of(Exit::Failed, "missing-object", &error).hint(
                "`strongroom verify --all` tells which backups are damaged; another copy of the repository may have it.",
            ),
            _ => Self::of(Exit::Failed, "storage", &error),
        }
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        match &error {
            FormatError::WrongIdentity { .. } => Self::wrong_identity(),
            FormatError::IdentityRefused { .. } => {
                Self::of(Exit::WrongIdentity, "plugin", &error).hint(PLUGIN_HINT)
            }
            FormatError::NewerVersion { .. } => Self::of(Exit::Failed, "newer-format", &error)
                .hint("Use the version of Strongroom that wrote it, or a later one."),
            _ => Self::of(Exit::Failed, "damaged", &error),
        }
    }
}

impl Failure {
    fn wrong_identity() -> Self {
        Self::new(Exit::WrongIdentity, "wrong-identity", "none of the identities given opens the backup")
            .hint("Give the identity whose recipient the repository was sealed to: --identity FILE; `strongroom show` prints the recipients.")
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        use RepositoryError as E;
        let named = |exit, code| Self::of(exit, code, &error);
        match error {
            E::Interrupted(error) => error.into(),
            E::Format(error) => error.into(),
            E::Storage(error) => error.into(),
            E::NotARepository { .. } => named(Exit::NoRepository, "no-repository")
                .hint("Create it with `strongroom init`; if it was there before, find out who removed it."),
            E::AlreadyThere { .. } => named(Exit::Refused, "already-there"),
            E::RecipientsChanged => named(Exit::Refused, "recipients-changed").hint(
                "If you changed them, say so once: `strongroom init --accept-recipients NAME`. If not, somebody else \
                 did, to read your backups: compare the configuration with your notes.",
            ),
            E::UnknownWriter { .. } => named(Exit::Refused, "unknown-writer").hint(
                "The writer key is not the one that this repository was made with; put back its file, or make a new \
                 repository.",
            ),
            E::NoSuchBackup { .. } => {
                named(Exit::Refused, "no-such-backup").hint("`strongroom list` shows the labels.")
            }
            E::Conflict { .. } => named(Exit::Busy, "busy").hint("Run it again."),
            E::Damaged { .. } => named(Exit::Failed, "damaged").hint(
                "`strongroom verify --all` tells which backups are whole; restore one of those, or from another copy.",
            ),
            _ => named(Exit::Failed, "repository"),
        }
    }
}

impl From<BackupPlanError> for Failure {
    fn from(error: BackupPlanError) -> Self {
        Self::of(Exit::Usage, "plan", &error)
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Interrupted(error) => error.into(),
            BackupError::Format(error) => error.into(),
            BackupError::Repository { name, source } => {
                Self::from(source).context(format_args!("repository {name}"))
            }
            error => Self::of(Exit::Failed, "backup", &error),
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        use RestoreError as E;
        let named = |exit, code| Self::of(exit, code, &error);
        match error {
            E::Interrupted(_) => Self::new(Exit::Interrupted, "interrupted", "interrupted")
                .hint("Go on with `strongroom restore --resume`, or back with `--undo`."),
            E::Repository(error) => error.into(),
            E::Refused(reasons) => Self::new(
                Exit::Refused,
                "refused",
                format!("the restore is refused; nothing was changed\n  {}", reasons.join("\n  ")),
            ),
            E::Unfinished { .. } => named(Exit::Refused, "unfinished-restore").hint(
                "End it first: `strongroom restore --resume`, `--undo` or `--sign-off`.",
            ),
            E::NothingToDo | E::WrongPhase { .. } | E::OtherBackup { .. } => {
                named(Exit::Refused, "no-restore")
            }
            E::NotProved { .. } => named(Exit::Failed, "not-proved").hint(
                "Nothing in place was replaced. `strongroom restore --undo` removes what was fetched.",
            ),
            E::Appeared(_) => named(Exit::Refused, "appeared").hint(
                "It was left alone. Stop what made it and look at it. Then move it away and go on with `strongroom restore --resume`, \
                 or go back with `--undo` and plan again: what the new plan replaces is kept until the sign-off.",
            ),
            E::Content { path, source } => {
                let failure = Self::from(source);
                let hint = "Nothing in place was replaced. `strongroom restore --undo` removes what was fetched; \
                            `--resume` tries again.";
                failure.context(format_args!("cannot restore {}", path.display())).hint(hint)
            }
            E::Database { ref source, .. } => {
                let hint = source.hint().unwrap_or_default();
                named(Exit::Failed, "database").hint(
                    format!("{hint} `strongroom restore --resume` goes on from here, `--undo` goes back.").trim_start(),
                )
            }
            E::Token { ref source, .. } => {
                let hint = source.hint().unwrap_or_default();
                named(Exit::Failed, "token").hint(
                    format!("{hint} `strongroom restore --resume` goes on from here, `--undo` goes back.").trim_start(),
                )
            }
            E::OtherToken { .. } => named(Exit::Failed, "token").hint(
                "Plug in the one of the plan and run the same command again.",
            ),
            E::LeftInToken { ref source, .. } => {
                let hint = match &**source {
                    E::Token { source, .. } => source.hint().unwrap_or_default(),
                    _ => "",
                };
                named(Exit::Failed, "left-in-token").hint(
                    format!(
                        "All else is as it was. {hint} `strongroom restore --undo` goes on from here; when the token is \
                         gone for good, `--sign-off` ends it."
                    )
                    .replace("  ", " "),
                )
            }
            E::Io { .. } => named(Exit::Failed, "file").hint(
                "`strongroom restore --resume` goes on from here, `--undo` goes back.",
            ),
            _ => named(Exit::Failed, "restore"),
        }
    }
}

impl From<ExpireError> for Failure {
    fn from(error: ExpireError) -> Self {
        match error {
            ExpireError::Repository(error) => error.into(),
            ExpireError::Held { .. } => {
                Self::of(Exit::Refused, "held", &error).hint("Run it again; the plan will keep it.")
            }
            ExpireError::Conflict { .. } => Self::of(Exit::Busy, "busy", &error)
                .hint("Wait for the other one to end, then run it again."),
            _ => Self::of(Exit::Failed, "expire", &error),
        }
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::From { location, source } | CopyError::To { location, source } => {
                let failure = Self::from(source);
                match failure.exit {
                    Exit::Interrupted => failure,
                    _ => failure.context(location),
                }
            }
            CopyError::Other { .. } => Self::of(Exit::Refused, "other-repository", &error)
                .hint("Nothing was written. Is the url right? A copy begins in an empty place of its own."),
            CopyError::RolledBack { .. } => Self::of(Exit::Refused, "rolled-back", &error)
                .hint("Nothing was written. Find out who removed it; `strongroom repair --from COPY` brings it back."),
            _ => Self::of(Exit::Failed, "copy", &error),
        }
    }
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Repository(error) => error.into(),
            RepairError::Other { .. } => Self::of(Exit::Refused, "other-repository", &error)
                .hint("Nothing was changed. Are the urls right?"),
            _ => Self::of(Exit::Failed, "repair", &error),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match &error {
            LockError::Busy { .. } => Self::of(Exit::Busy, "busy", &error)
                .hint("Wait for it to end; a run that was killed leaves no lock behind."),
            _ => Self::of(Exit::Failed, "state", &error),
        }
    }
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        Self::of(Exit::Failed, "source", &error)
    }
}

/// Ties an I/O error to what was done and to which file.
pub(crate) fn io(
    operation: &str,
    path: &std::path::Path,
) -> impl FnOnce(std::io::Error) -> Failure {
    let what = format!("cannot {operation} {}", path.display());
    move |error| Failure::new(Exit::Failed, "file", format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_absent_is_no_repository_on_any_storage() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no directory /x");
        let location = "sftp://h/x".into();
        let failure = Failure::from(StorageError::Unusable { location, source });
        assert_eq!(failure.exit, Exit::NoRepository);
        assert_eq!(failure.code, "no-repository");
        assert!(failure.is_of_storage());
    }

    #[test]
    fn what_was_not_there_yet_is_not_to_be_made() {
        let time = jiff::Timestamp::UNIX_EPOCH;
        let location = "s3://bucket/ca".to_owned();
        let failure = Failure::in_the_past(RepositoryError::NotARepository { location }, time);
        assert_eq!(failure.exit, Exit::NoRepository);
        assert!(failure.message.contains("1970-01-01T00:00:00Z"));
        let hint = failure.hint.unwrap_or_default();
        assert!(hint.contains("--as-of") && !hint.contains("init"), "{hint}");
    }
}
