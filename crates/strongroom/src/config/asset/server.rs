//! The keys that all sources of database servers have in common.

use std::path::{Path, PathBuf};

use strongroom_core::source::Class;
use strongroom_core::source::server::OtherServer;
use toml::Spanned;

use super::super::location::resolve;
use super::super::section::Section;

/// The most connections that one asset may use for reading or loading.
const JOBS_MAX: i64 = 64;

/// What they say.
pub(super) struct ServerKeys {
    pub(super) class: Class,
    pub(super) databases: Vec<String>,
    pub(super) via: Vec<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) programs: Option<PathBuf>,
    pub(super) counts_only: bool,
    pub(super) jobs: Option<usize>,
    pub(super) restore: Option<OtherServer>,
}

/// Reads them; none when one of them is faulty.
pub(super) fn read(
    section: &Section<'_, '_>,
    class: Option<&Spanned<Class>>,
    directory: &Path,
) -> Option<ServerKeys> {
    let strings = |key| {
        let list = section.strings(key).map(Spanned::into_inner);
        let list = list.unwrap_or_default().into_iter();
        list.map(Spanned::into_inner).collect::<Vec<String>>()
    };
    let path = |key| {
        let text = section.string(key)?;
        Some(resolve(directory, text.get_ref()))
    };
    let databases = section.strings("databases").map(Spanned::into_inner);
    let databases = databases.unwrap_or_default();
    for (index, name) in databases.iter().enumerate() {
        if databases[..index]
            .iter()
            .any(|other| other.get_ref() == name.get_ref())
        {
            let what = format!("\"databases\" names \"{}\" twice", name.get_ref());
            section.report(&name.span(), what, "Take one of them out.");
        }
    }
    let facts = section.string("facts");
    let counts_only = match facts.as_ref().map(|facts| facts.get_ref().as_str()) {
        None | Some("digests") => Some(false),
        Some("counts") => Some(true),
        Some(other) => {
            let span = facts.as_ref().map(Spanned::span).unwrap_or_default();
            let what = format!("\"facts\" is \"{}\"", other.escape_debug());
            section.report(&span, what, "Valid are: digests, counts.");
            None
        }
    };
    let restore_url = section.string("restore_url");
    let restore_password_file = section.string("restore_password_file");
    if let (None, Some(file)) = (&restore_url, &restore_password_file) {
        section.report(
            &file.span(),
            "\"restore_password_file\" needs a \"restore_url\"",
            "Name the server and the account that restores: it must be allowed to create databases.",
        );
    }
    let class_of_server = class.map(Spanned::get_ref).copied();
    if let (Some(span), Some(wrong)) = (
        class.map(Spanned::span),
        class_of_server.filter(|class| !matches!(class, Class::Database | Class::Secret)),
    ) {
        section.report(
            &span,
            format!("class is \"{wrong}\", and a server has databases, and roles with secrets"),
            "Write class = \"database\" for databases, class = \"secret\" for the roles with their password hashes.",
        );
    }
    let keys = ServerKeys {
        class: class_of_server?,
        databases: databases.into_iter().map(Spanned::into_inner).collect(),
        via: strings("via"),
        password_file: path("password_file"),
        programs: path("programs"),
        counts_only: counts_only?,
        jobs: jobs(section)?,
        restore: restore_url.map(|url| OtherServer {
            url: url.into_inner(),
            password_file: restore_password_file.map(|file| resolve(directory, file.get_ref())),
        }),
    };
    Some(keys)
}

/// Reads the columns of times; a faulty one is reported, with `hint`, and left out.
pub(super) fn newest<C: TryFrom<String, Error: std::fmt::Display>>(
    section: &Section<'_, '_>,
    hint: &str,
) -> Vec<C> {
    let columns = section.strings("newest").map(Spanned::into_inner);
    let columns = columns.unwrap_or_default().into_iter();
    let read = |column: Spanned<String>| {
        let span = column.span();
        C::try_from(column.into_inner())
            .map_err(|error| section.report(&span, format!("\"newest\": {error}"), hint))
            .ok()
    };
    columns.filter_map(read).collect()
}

/// The outer option is none when the number is faulty.
#[expect(
    clippy::option_option,
    reason = "faulty and absent are different things"
)]
fn jobs(section: &Section<'_, '_>) -> Option<Option<usize>> {
    let Some(jobs) = section.integer("jobs") else {
        return Some(None);
    };
    match usize::try_from(*jobs.get_ref()) {
        Ok(number) if (1..=JOBS_MAX).contains(jobs.get_ref()) => Some(Some(number)),
        _ => {
            let what = format!("\"jobs\" is {}", jobs.get_ref());
            section.report(&jobs.span(), what, format!("Valid are 1 to {JOBS_MAX}."));
            None
        }
    }
}
