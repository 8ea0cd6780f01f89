//! The keys of the source `files`.

use strongroom_core::source::Class;
use toml::Spanned;

use super::super::Settings;
use super::super::location::resolve;
use super::super::section::Section;
use super::Own;

/// Reads the keys of the source `files`.
pub(super) fn read(section: &Section<'_, '_>, (class, directory): Own<'_>) -> Option<Settings> {
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
