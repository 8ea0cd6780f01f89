//! The `[repository.NAME]` tables.

use std::ops::Range;
use std::path::{Path, PathBuf};

use strongroom_core::plan::expire::Retention;
use strongroom_core::source::Class;
use toml::Spanned;
use toml::de::DeTable;

use super::error::Problems;
use super::location::resolve;
use super::parse::class;
use super::place::{self, ParsedPlace, Surrounding};
use super::recipient::{RecipientKind, check_recipient};
use super::section::Section;
use super::{EPOCH_DAYS_DEFAULT, RepositoryConfig, retention};

const RECIPIENTS_HINT: &str = "Write recipients = [\"age1...\"] with what `strongroom identity new --out FILE` prints, or recipients_file = \"FILE\".";

/// Keys that a copy does not have.
const DECIDED_BY_THE_ORIGINAL: [&str; 6] = [
    "recipients",
    "recipients_file",
    "accepts",
    "epoch_days",
    "allow_shared_recipient",
    "shared_recipient_reason",
];

/// A repository, with the places that later faults are reported at.
pub(super) struct ParsedRepository {
    pub(super) name: String,
    pub(super) header: Range<usize>,
    pub(super) place: Option<ParsedPlace>,
    pub(super) recipients: Vec<ParsedRecipient>,
    pub(super) accepts: Option<Spanned<Vec<Class>>>,
    pub(super) allow_shared: Option<Range<usize>>,
    pub(super) reason: Option<String>,
    pub(super) epoch_days: u32,
    pub(super) copy_of: Option<Spanned<String>>,
    pub(super) retention: Option<Retention>,
}

/// A recipient, and where it stands: a file, a line and a column.
pub(super) struct ParsedRecipient {
    pub(super) text: String,
    pub(super) kind: RecipientKind,
    pub(super) file: PathBuf,
    pub(super) place: (usize, usize),
}

impl ParsedRepository {
    /// The finished configuration, if nothing is missing.
    pub(super) fn finish(self, problems: &Problems<'_>) -> Option<RepositoryConfig> {
        let accepts = self.accepts?.into_inner();
        let place = self.place?;
        Some(RepositoryConfig {
            line: problems.line(self.header.start),
            name: self.name,
            url: place.url.into_inner(),
            storage: place.settings,
            expirer: place.expirer,
            restorer: place.restorer,
            recipients: self.recipients.into_iter().map(|one| one.text).collect(),
            accepts,
            epoch_days: self.epoch_days,
            allow_shared_recipient: self.allow_shared.is_some(),
            shared_recipient_reason: self.reason,
            retention: self.retention,
            copy_of: None,
        })
    }

    /// The finished configuration of a copy: everything but its place is that of the original.
    pub(super) fn finish_copy(
        self,
        original: &RepositoryConfig,
        problems: &Problems<'_>,
    ) -> Option<RepositoryConfig> {
        let place = self.place?;
        Some(RepositoryConfig {
            line: problems.line(self.header.start),
            name: self.name,
            url: place.url.into_inner(),
            storage: place.settings,
            expirer: place.expirer,
            restorer: place.restorer,
            copy_of: Some(original.name.clone()),
            retention: self.retention,
            ..original.clone()
        })
    }
}

/// Reads a `[repository.NAME]` table.
pub(super) fn read(
    section: Section<'_, '_>,
    name: &str,
    problems: &Problems<'_>,
    directory: &Path,
    original_epoch_days: impl Fn(&str) -> u32,
) -> ParsedRepository {
    if let Some(original) = section.string("copy_of") {
        let epoch_days = original_epoch_days(original.get_ref());
        return read_copy(section, name, original, directory, epoch_days);
    }
    let recipients = recipients(&section, problems, directory);
    let accepts = accepts(&section);
    let allow_shared = section.boolean("allow_shared_recipient");
    let reason = section.string("shared_recipient_reason");
    let allow_shared = allow_shared.filter(|allow| *allow.get_ref());
    match (&allow_shared, &reason) {
        (Some(allow), None) => section.report(
            &allow.span(),
            "\"allow_shared_recipient\" needs a \"shared_recipient_reason\"",
            "Say in one sentence why one identity may open both; an auditor will ask.",
        ),
        (None, Some(reason)) => section.report(
            &reason.span(),
            "\"shared_recipient_reason\" has no effect without \"allow_shared_recipient\"",
            "Write allow_shared_recipient = true as well, or take the reason out.",
        ),
        _ => {}
    }
    let epoch_days = section.integer("epoch_days").and_then(|days| {
        let valid = u32::try_from(*days.get_ref()).ok();
        let valid = valid.filter(|days| (1..=90).contains(days));
        if valid.is_none() {
            section.report(
                &days.span(),
                format!("\"epoch_days\" is {}", days.get_ref()),
                format!(
                    "An epoch lasts 1 to 90 days; {EPOCH_DAYS_DEFAULT} if the key is left out."
                ),
            );
        }
        valid
    });
    let epoch_days = epoch_days.unwrap_or(EPOCH_DAYS_DEFAULT);
    ParsedRepository {
        recipients,
        accepts,
        allow_shared: allow_shared.map(|allow| allow.span()),
        reason: reason.map(Spanned::into_inner),
        ..read_rest(section, name, directory, epoch_days)
    }
}

/// Reads the table of a copy: its place and its retention, and nothing that the original decides.
fn read_copy(
    section: Section<'_, '_>,
    name: &str,
    original: Spanned<String>,
    directory: &Path,
    epoch_days: u32,
) -> ParsedRepository {
    for key in DECIDED_BY_THE_ORIGINAL {
        if let Some(value) = section.value(key) {
            section.report(
                &value.span(),
                format!("\"{key}\" is given, and this is a copy"),
                format!(
                    "A copy holds the same bytes as \"{}\" and is sealed as that is; take the key out.",
                    original.get_ref().escape_debug()
                ),
            );
        }
    }
    ParsedRepository {
        copy_of: Some(original),
        ..read_rest(section, name, directory, epoch_days)
    }
}

/// Reads what originals and copies have alike, as the last of a table.
fn read_rest(
    section: Section<'_, '_>,
    name: &str,
    directory: &Path,
    epoch_days: u32,
) -> ParsedRepository {
    let around = Surrounding {
        directory,
        epoch_days,
    };
    let place = place::read(&section, around);
    let retention = retention::read(&section, None);
    let header = section.span();
    section.finish();
    ParsedRepository {
        name: name.to_owned(),
        header,
        place,
        recipients: Vec::new(),
        accepts: None,
        allow_shared: None,
        reason: None,
        epoch_days,
        copy_of: None,
        retention,
    }
}

/// How long the epochs of a repository last, as far as its table can be read.
pub(super) fn epoch_days_of(table: &DeTable<'_>) -> u32 {
    let days = table.get("epoch_days");
    let days = days.and_then(|days| days.get_ref().as_integer());
    let days = days.and_then(|days| u32::from_str_radix(days.as_str(), days.radix()).ok());
    days.unwrap_or(EPOCH_DAYS_DEFAULT)
}

fn accepts(section: &Section<'_, '_>) -> Option<Spanned<Vec<Class>>> {
    let hint = "Say which classes of assets may go there, for instance accepts = [\"database\", \"config\"].";
    let names = section.required_strings("accepts", hint)?;
    let mut classes = Vec::new();
    let mut unknown = false;
    for name in names.get_ref() {
        match class(section, name) {
            Some(class) if classes.contains(&class) => section.report(
                &name.span(),
                format!("\"accepts\" has \"{class}\" twice"),
                "Take one of them out.",
            ),
            Some(class) => classes.push(class),
            None => unknown = true,
        }
    }
    (!unknown).then(|| Spanned::new(names.span(), classes))
}

fn recipients(
    section: &Section<'_, '_>,
    problems: &Problems<'_>,
    directory: &Path,
) -> Vec<ParsedRecipient> {
    let listed = section.value("recipients").map(Spanned::span);
    let file = section.string("recipients_file");
    let mut found = Vec::new();
    match (listed, file) {
        (Some(_), Some(file)) => section.report(
            &file.span(),
            "both \"recipients\" and \"recipients_file\" are given",
            "Keep one of them, so that it is clear who can open the backups.",
        ),
        (None, None) if section.value("recipients_file").is_none() => {
            section.report(
                &section.span(),
                "\"recipients\" is missing",
                RECIPIENTS_HINT,
            );
        }
        (None, None) => {}
        (None, Some(file)) => {
            recipients_file(section, &file, &mut found, problems, directory);
        }
        (Some(_), None) => {
            let strings = section.required_strings("recipients", RECIPIENTS_HINT);
            for text in strings.map(Spanned::into_inner).unwrap_or_default() {
                let place = problems.position(text.span().start);
                let file = problems.file();
                recipient(section, text.get_ref(), file, place, &mut found, problems);
            }
        }
    }
    found
}

fn recipients_file(
    section: &Section<'_, '_>,
    file: &Spanned<String>,
    found: &mut Vec<ParsedRecipient>,
    problems: &Problems<'_>,
    directory: &Path,
) {
    let path = resolve(directory, file.get_ref());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let what = format!(
                "cannot read the recipients file {}: {error}",
                path.display()
            );
            section.report(&file.span(), what, "It holds one recipient a line.");
            return;
        }
    };
    let mut lines = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            lines += 1;
            recipient(section, line, &path, (index + 1, 1), found, problems);
        }
    }
    if lines == 0 {
        let what = format!("no recipient in {}", path.display());
        section.report(&file.span(), what, "It holds one recipient a line.");
    }
}

fn recipient(
    section: &Section<'_, '_>,
    text: &str,
    file: &Path,
    place: (usize, usize),
    found: &mut Vec<ParsedRecipient>,
    problems: &Problems<'_>,
) {
    let report = |what: &str, hint: &str| {
        problems.report_at(file, place, section.message(what), hint);
    };
    match check_recipient(text) {
        Ok((_, text)) if found.iter().any(|one| one.text == text) => {
            report("the same recipient twice", "Take one of them out.");
        }
        Ok((kind, text)) => found.push(ParsedRecipient {
            text,
            kind,
            file: file.to_owned(),
            place,
        }),
        Err(error) => report(&error.to_string(), error.hint()),
    }
}
