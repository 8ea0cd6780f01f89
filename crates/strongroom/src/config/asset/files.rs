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
    let key_password_file = section.string("key_password_file");
    if let (Some(file), Some(class)) = (&key_password_file, class)
        && *class.get_ref() != Class::Key
    {
        section.report(
            &file.span(),
            format!(
                "\"key_password_file\" belongs to a key, and the class is \"{}\"",
                class.get_ref()
            ),
            "Take it out, or write class = \"key\" if the asset is an encrypted private key.",
        );
    }
    let shared_password_reason = shared_password(section, key_password_file.is_some());
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
        key_password_file: key_password_file.map(|path| resolve(directory, path.get_ref())),
        shared_password_reason,
    })
}

/// Why one identity may open the keys and their password, if it may.
fn shared_password(section: &Section<'_, '_>, has_password: bool) -> Option<String> {
    let allow = section.boolean("allow_shared_password");
    let reason = section.string("shared_password_reason");
    let allow = allow.filter(|allow| *allow.get_ref());
    match (&allow, &reason) {
        (Some(allow), _) if !has_password => section.report(
            &allow.span(),
            "\"allow_shared_password\" has no effect without \"key_password_file\"",
            "Name the file with the password of the keys, or take this out.",
        ),
        (Some(allow), None) => section.report(
            &allow.span(),
            "\"allow_shared_password\" needs a \"shared_password_reason\"",
            "Say in one sentence why one identity may open both; an auditor will ask.",
        ),
        (None, Some(reason)) => section.report(
            &reason.span(),
            "\"shared_password_reason\" has no effect without \"allow_shared_password\"",
            "Write allow_shared_password = true as well, or take the reason out.",
        ),
        _ => {}
    }
    reason.map(Spanned::into_inner)
}
