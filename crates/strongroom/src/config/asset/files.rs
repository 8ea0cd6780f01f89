//! The keys of the source `files`.

use strongroom_adapters::source::files::{ASK, OnSecret};
use strongroom_core::plan::backup::part_name;
use strongroom_core::source::Class;
use toml::Spanned;

use super::super::Settings;
use super::super::location::resolve;
use super::super::section::Section;
use super::{Own, Redirect};

/// Reads the keys of the source `files` of the asset `name`.
pub(super) fn read(
    section: &Section<'_, '_>,
    (class, directory): Own<'_>,
    name: &str,
) -> Option<(Settings, Option<Redirect>)> {
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
    let key_password = section.string("key_password");
    let asks_key_password = asks(section, key_password.as_ref(), class);
    if let (Some(key_password), Some(_)) = (&key_password, &key_password_file) {
        section.report(
            &key_password.span(),
            "\"key_password\" and \"key_password_file\" exclude each other",
            "Keep the file where backups run by themselves; keep \"ask\" where somebody types the password.",
        );
    }
    let shared_password_reason = shared_password(section, key_password_file.is_some());
    let (on_secret, redirect) = on_secret(section, class, name);
    let paths = paths?.into_inner();
    let settings = Settings::Files {
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
        asks_key_password,
        shared_password_reason,
        on_secret,
    };
    Some((settings, redirect))
}

/// Whether the password of the keys is asked for.
fn asks(
    section: &Section<'_, '_>,
    key_password: Option<&Spanned<String>>,
    class: Option<&Spanned<Class>>,
) -> bool {
    let Some(how) = key_password else {
        return false;
    };
    if how.get_ref() != ASK {
        section.report(
            &how.span(),
            "\"key_password\" is not a password",
            "Valid is: ask. A password belongs into a file, named as \"key_password_file\".",
        );
    } else if let Some(class) = class.filter(|class| *class.get_ref() != Class::Key) {
        section.report(
            &how.span(),
            format!(
                "\"key_password\" belongs to a key, and the class is \"{}\"",
                class.get_ref()
            ),
            "Take it out, or write class = \"key\" if the asset is an encrypted private key.",
        );
    }
    true
}

/// Reads `on_secret` and what belongs to it.
fn on_secret(
    section: &Section<'_, '_>,
    class: Option<&Spanned<Class>>,
    name: &str,
) -> (Option<OnSecret>, Option<Redirect>) {
    let key = section.string("on_secret");
    let reason = section.string("on_secret_reason");
    let repository = section.string("redirect_to");
    let class = class.map(|class| *class.get_ref());
    let default = class.and_then(OnSecret::default_of);
    let chosen = key.as_ref().map(|key| key.get_ref().as_str());
    if let (Some(key), Some(class), None) = (&key, class, &default) {
        section.report(
            &key.span(),
            format!("\"on_secret\" has no effect in an asset of class \"{class}\""),
            "Take it out: such an asset is not searched for secrets.",
        );
        return (None, None);
    }
    for (other, name, wanted) in [
        (&reason, "on_secret_reason", "allow"),
        (&repository, "redirect_to", "redirect"),
    ] {
        if let Some(other) = other
            && chosen != Some(wanted)
        {
            section.report(
                &other.span(),
                format!("\"{name}\" has no effect without on_secret = \"{wanted}\""),
                format!("Write on_secret = \"{wanted}\" as well, or take it out."),
            );
        }
    }
    let Some(key) = key else {
        return (default, None);
    };
    match key.get_ref().as_str() {
        "refuse" => (Some(OnSecret::Refuse), None),
        "redirect" if default == Some(OnSecret::Note) => {
            section.report(
                &key.span(),
                "a log cannot be redirected",
                "Its secrets are noted when nothing is said; write \"refuse\" to leave such a log out, or give the asset the class \"secret\".",
            );
            (None, None)
        }
        "redirect" => {
            let asset = part_name(name);
            let redirect = Redirect {
                span: key.span(),
                repository,
            };
            (Some(OnSecret::Redirect { asset }), Some(redirect))
        }
        "allow" => {
            if reason.is_none() {
                section.report(
                    &key.span(),
                    "on_secret = \"allow\" needs an \"on_secret_reason\"",
                    "Say in one sentence why whoever opens these backups may read the secrets; an auditor will ask.",
                );
            }
            let reason = reason.map(Spanned::into_inner);
            (reason.map(|reason| OnSecret::Allow { reason }), None)
        }
        other => {
            let what = format!("\"on_secret\" is \"{}\"", other.escape_debug());
            section.report(&key.span(), what, "Valid are: refuse, redirect, allow.");
            (None, None)
        }
    }
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
