//! From text to tables: syntax, keys and types; what each table says on its own.

use std::ops::Range;
use std::path::Path;

use jiff::tz::TimeZone;
use strongroom_core::source::Class;
use toml::Spanned;
use toml::de::DeTable;

use super::asset::{self, ParsedAsset};
use super::error::Problems;
use super::location::resolve;
use super::repository::{self, ParsedRepository};
use super::section::Section;
use super::suggest::did_you_mean;
use super::syntax::report_syntax;
use super::{
    Approvals, CustodyConfig, Deployment, EPOCH_DAYS_DEFAULT, REHEARSAL_DAYS_DEFAULT, VERSION,
    Writer, operator, retention,
};

/// What the tables say, each on its own. `None` stands for what was missing or refused, and reported.
pub(super) struct Parsed {
    pub(super) deployment: Option<Deployment>,
    pub(super) writer: Option<Writer>,
    pub(super) custody: CustodyConfig,
    pub(super) repositories: Vec<ParsedRepository>,
    pub(super) assets: Vec<ParsedAsset>,
    pub(super) approvals: Option<Approvals>,
}

/// Reads the tables; `None` when the text is not TOML, or not of this version.
pub(super) fn parse(problems: &Problems<'_>, directory: &Path) -> Option<Parsed> {
    let (document, errors) = DeTable::parse_recoverable(problems.text());
    if !errors.is_empty() {
        report_syntax(problems, &errors);
        return None;
    }
    let root = Section::new("", 0..0, document.get_ref(), problems);
    if let Some(version) = root.integer("version")
        && !supported(&root, &version)
    {
        return None;
    }
    let (deployment, rule) = deployment(&root, problems);
    let approvals = operator::read(&root, rule, problems);
    let writer = writer(&root, problems, directory);
    let custody = custody(&root, problems);
    let tables = root.tables("repository");
    let epoch_days = |original: &str| {
        let found = tables.iter().find(|(_, name, _, _)| *name == original);
        found.map_or(EPOCH_DAYS_DEFAULT, |(_, _, _, table)| {
            repository::epoch_days_of(table)
        })
    };
    let parsed = Parsed {
        deployment,
        writer,
        custody,
        repositories: tables
            .iter()
            .cloned()
            .map(|(place, name, span, table)| {
                let label = format!("repository \"{name}\"");
                let section = Section::new(label, span, table, problems);
                check_name(&section, &place, name);
                repository::read(section, name, problems, directory, epoch_days)
            })
            .collect(),
        assets: root
            .tables("asset")
            .into_iter()
            .map(|(place, name, span, table)| {
                let label = format!("asset \"{name}\"");
                let section = Section::new(label, span, table, problems);
                check_name(&section, &place, name);
                asset::read(section, name, directory)
            })
            .collect(),
        approvals,
    };
    root.finish();
    Some(parsed)
}

fn supported(root: &Section<'_, '_>, version: &Spanned<i64>) -> bool {
    let number = *version.get_ref();
    if number > VERSION {
        root.report(
            &version.span(),
            format!("version {number}: this configuration is written for a newer Strongroom"),
            format!("This program reads version {VERSION}; install a newer one."),
        );
    } else if number < 1 {
        root.report(
            &version.span(),
            format!("there is no version {number}"),
            format!("Write version = {VERSION}, or take the key out."),
        );
    }
    (1..=VERSION).contains(&number)
}

fn deployment(
    root: &Section<'_, '_>,
    problems: &Problems<'_>,
) -> (Option<Deployment>, operator::Rule) {
    let hint = "Begin the file with [deployment] and name = \"example-ca\".";
    let Some(section) = required_section(root, "deployment", hint, problems) else {
        return (None, operator::Rule::default());
    };
    let name = section.required("name", "Give the protected installation a name.");
    if let Some(name) = &name {
        check_name(&section, &name.span(), name.get_ref());
    }
    let time_zone = retention::time_zone(&section).unwrap_or(TimeZone::UTC);
    let rule = operator::Rule::read(&section);
    section.finish();
    let name = name.map(Spanned::into_inner);
    (name.map(|name| Deployment { name, time_zone }), rule)
}

fn writer(root: &Section<'_, '_>, problems: &Problems<'_>, directory: &Path) -> Option<Writer> {
    let hint = "Write [writer] and key_file = \"writer.key\"; `strongroom init` makes the key.";
    let section = required_section(root, "writer", hint, problems)?;
    let key_file = section.required(
        "key_file",
        "Write key_file = \"writer.key\"; `strongroom init` makes it.",
    );
    let state_dir = section.string("state_dir");
    section.finish();
    let key_file = resolve(directory, key_file?.get_ref());
    let state_dir = match state_dir {
        Some(path) => resolve(directory, path.get_ref()),
        None => key_file.with_file_name("state"),
    };
    Some(Writer {
        key_file,
        state_dir,
    })
}

fn custody(root: &Section<'_, '_>, problems: &Problems<'_>) -> CustodyConfig {
    let mut rehearsal_days = REHEARSAL_DAYS_DEFAULT;
    if let Some((span, table)) = root.table("custody") {
        let section = Section::new("[custody]", span, table, problems);
        if let Some(days) = section.integer("rehearsal_days") {
            let valid = u32::try_from(*days.get_ref()).ok();
            match valid.filter(|days| (1..=3650).contains(days)) {
                Some(days) => rehearsal_days = days,
                None => section.report(
                    &days.span(),
                    format!("\"rehearsal_days\" is {}", days.get_ref()),
                    format!(
                        "A share is rehearsed every 1 to 3650 days; {REHEARSAL_DAYS_DEFAULT} if the key is left out."
                    ),
                ),
            }
        }
        section.finish();
    }
    CustodyConfig { rehearsal_days }
}

fn required_section<'a, 'i>(
    root: &Section<'a, 'i>,
    key: &'static str,
    hint: &str,
    problems: &'a Problems<'a>,
) -> Option<Section<'a, 'i>> {
    if root.value(key).is_none() {
        root.report(&root.span(), format!("the table [{key}] is missing"), hint);
    }
    let (span, table) = root.table(key)?;
    Some(Section::new(format!("[{key}]"), span, table, problems))
}

/// A class by its name.
pub(super) fn class(section: &Section<'_, '_>, name: &Spanned<String>) -> Option<Class> {
    let text = name.get_ref().as_str();
    let found = Class::ALL.into_iter().find(|class| class.as_str() == text);
    if found.is_none() {
        let hint = did_you_mean(text, &Class::ALL.map(Class::as_str));
        section.report(&name.span(), format!("unknown class \"{text}\""), hint);
    }
    found
}

/// Names appear in paths, metrics and messages.
pub(super) fn check_name(section: &Section<'_, '_>, span: &Range<usize>, name: &str) {
    if !is_valid_name(name) {
        section.report(
            span,
            format!("the name \"{}\" is not valid", name.escape_debug()),
            NAME_HINT,
        );
    }
}

/// What a valid name is.
pub(super) const NAME_HINT: &str =
    "A name is 1 to 64 characters long and made of a-z, 0-9 and \"-\".";

/// Whether a text can name a deployment, a repository or an asset.
pub(crate) fn is_valid_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}
