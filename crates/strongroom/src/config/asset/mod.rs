//! The `[asset.NAME]` tables: what all have in common, and one file for the keys of each source.

mod files;
mod mariadb;
mod pkcs11;
mod postgresql;
mod server;
mod sqlite;

use std::ops::Range;
use std::path::Path;

use strongroom_adapters::SOURCES;
use strongroom_core::plan::expire::Retention;
use strongroom_core::source::Class;
use toml::Spanned;

use super::error::Problems;
use super::parse::class;
use super::section::Section;
use super::suggest::did_you_mean;
use super::{AssetConfig, Settings, retention};

/// An asset.
pub(super) struct ParsedAsset {
    pub(super) name: String,
    pub(super) header: Range<usize>,
    pub(super) class: Option<Spanned<Class>>,
    pub(super) repository: Option<Spanned<String>>,
    pub(super) retention: Option<Retention>,
    pub(super) settings: Option<Settings>,
    pub(super) redirect: Option<Redirect>,
}

/// That files with secrets go to another asset.
pub(super) struct Redirect {
    /// Where that is written.
    pub(super) span: Range<usize>,
    /// The repository that is named for them.
    pub(super) repository: Option<Spanned<String>>,
}

impl ParsedAsset {
    /// The finished configuration, if nothing is missing.
    pub(super) fn finish(self, problems: &Problems<'_>) -> Option<AssetConfig> {
        Some(AssetConfig {
            line: problems.line(self.header.start),
            name: self.name,
            class: self.class?.into_inner(),
            repository: self.repository.map(Spanned::into_inner),
            retention: self.retention,
            settings: self.settings?,
        })
    }
}

/// Reads an `[asset.NAME]` table.
pub(super) fn read(section: Section<'_, '_>, name: &str, directory: &Path) -> ParsedAsset {
    if name == "latest" {
        section.report(
            &section.span(),
            "the name \"latest\" stands for the latest backup",
            "Choose another name.",
        );
    }
    let class_hint = format!("Valid are: {}.", Class::ALL.map(Class::as_str).join(", "));
    let class = section
        .required("class", &class_hint)
        .and_then(|name| Some(Spanned::new(name.span(), class(&section, &name)?)));
    let repository = section.string("repository");
    let retention = retention::read(&section, class.as_ref().map(|class| *class.get_ref()));
    let source_hint = format!("Valid are: {}.", SOURCES.join(", "));
    let source = section.required("source", &source_hint);
    let header = section.span();
    let own = (class.as_ref(), directory);
    let mut redirect = None;
    let settings = match source.as_ref().map(|source| source.get_ref().as_str()) {
        Some("files") => finished(section, |section| {
            let (settings, found) = files::read(section, own, name)?;
            redirect = found;
            Some(settings)
        }),
        Some("sqlite") => finished(section, |section| sqlite::read(section, own)),
        Some("pkcs11") => finished(section, |section| pkcs11::read(section, own)),
        Some("postgresql") => finished(section, |section| postgresql::read(section, own)),
        Some("mariadb") => finished(section, |section| mariadb::read(section, own)),
        // Which keys are right depends on the source.
        _ => {
            if let Some(source) = &source {
                let text = source.get_ref();
                let what = format!("unknown source \"{text}\"");
                section.report(&source.span(), what, did_you_mean(text, SOURCES));
            }
            None
        }
    };
    ParsedAsset {
        name: name.to_owned(),
        header,
        class,
        repository,
        retention,
        settings,
        redirect,
    }
}

/// What the keys of a source are read with: the asset's class, if it is right, and the directory of the configuration.
type Own<'o> = (Option<&'o Spanned<Class>>, &'o Path);

/// Reads the keys of a source, and reports those that nobody knows.
fn finished<'a, 'i>(
    section: Section<'a, 'i>,
    read: impl FnOnce(&Section<'a, 'i>) -> Option<Settings>,
) -> Option<Settings> {
    let settings = read(&section);
    section.finish();
    settings
}
