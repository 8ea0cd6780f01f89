//! The `[asset.NAME]` tables.

use std::ops::Range;
use std::path::Path;

use strongroom_adapters::SOURCES;
use strongroom_adapters::source::sqlite::TimestampColumn;
use strongroom_core::source::Class;
use toml::Spanned;

use super::error::Problems;
use super::location::resolve;
use super::parse::class;
use super::section::Section;
use super::suggest::did_you_mean;
use super::{AssetConfig, Settings};

/// An asset.
pub(super) struct ParsedAsset {
    pub(super) name: String,
    pub(super) header: Range<usize>,
    pub(super) class: Option<Spanned<Class>>,
    pub(super) repository: Option<Spanned<String>>,
    pub(super) settings: Option<Settings>,
}

impl ParsedAsset {
    /// The finished configuration, if nothing is missing.
    pub(super) fn finish(self, problems: &Problems<'_>) -> Option<AssetConfig> {
        Some(AssetConfig {
            line: problems.line(self.header.start),
            name: self.name,
            class: self.class?.into_inner(),
            repository: self.repository.map(Spanned::into_inner),
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
    let source_hint = format!("Valid are: {}.", SOURCES.join(", "));
    let source = section.required("source", &source_hint);
    let header = section.span();
    let settings = match source.as_ref().map(|source| source.get_ref().as_str()) {
        Some("files") => {
            let settings = files(&section, class.as_ref(), directory);
            section.finish();
            settings
        }
        Some("sqlite") => {
            let settings = sqlite(&section, directory);
            section.finish();
            settings
        }
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
        settings,
    }
}

fn files(
    section: &Section<'_, '_>,
    class: Option<&Spanned<Class>>,
    directory: &Path,
) -> Option<Settings> {
    let hint =
        "List files, directories or globs, for instance paths = [\"/etc/example/ca.key.pem\"].";
    let paths = section.required_strings("paths", hint);
    let exclude = section.strings("exclude");
    let certificate = section.string("certificate");
    if let (Some(certificate), Some(class)) = (&certificate, class)
        && *class.get_ref() != Class::Key
    {
        section.report(
            &certificate.span(),
            format!(
                "\"certificate\" belongs to a key, and the class is \"{}\"",
                class.get_ref()
            ),
            "Take it out, or write class = \"key\" if the asset is a private key.",
        );
    }
    let paths = paths?.into_inner();
    Some(Settings::Files {
        paths: paths
            .iter()
            .map(|path| resolve(directory, path.get_ref()))
            .collect(),
        exclude: exclude
            .map(Spanned::into_inner)
            .unwrap_or_default()
            .into_iter()
            .map(Spanned::into_inner)
            .collect(),
        certificate: certificate.map(|path| resolve(directory, path.get_ref())),
    })
}

fn sqlite(section: &Section<'_, '_>, directory: &Path) -> Option<Settings> {
    let hint = "Name the database file, for instance path = \"/var/lib/example/ca.sqlite3\".";
    let path = section.required("path", hint);
    let columns = section.strings("newest").map(Spanned::into_inner);
    let mut newest = Vec::new();
    for column in columns.unwrap_or_default() {
        if let Ok(column) = TimestampColumn::try_from(column.get_ref().clone()) {
            newest.push(column);
        } else {
            section.report(
                &column.span(),
                format!("\"newest\": \"{}\" is not TABLE.COLUMN", column.get_ref()),
                "Name timestamp columns with their tables, for instance newest = [\"certificates.issued_at\"].",
            );
        }
    }
    Some(Settings::Sqlite {
        path: resolve(directory, path?.get_ref()),
        newest,
    })
}
