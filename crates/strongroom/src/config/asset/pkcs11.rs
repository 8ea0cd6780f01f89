//! The keys of the source `pkcs11`.

use std::path::{Path, PathBuf};

use strongroom_adapters::source::pkcs11::{Access, Export, Pkcs11Settings, TokenUri, VendorBackup};
use strongroom_core::source::Class;
use toml::Spanned;

use super::super::Settings;
use super::super::location::resolve;
use super::super::section::Section;
use super::super::suggest::did_you_mean;
use super::Own;

/// The longest age of a vendor's backup that can be asked for, in days.
const DAYS_MAX: i64 = 3660;

/// What can be exported.
const EXPORTS: [&str; 3] = ["inventory", "wrapped", "softhsm"];

/// The keys that belong to one export alone.
const KEYS: [(&str, &str); 7] = [
    ("vendor_backup", "inventory"),
    ("vendor_backup_file", "inventory"),
    ("vendor_backup_max_age", "inventory"),
    ("wrapping_key", "wrapped"),
    ("wrapping_key_custody", "wrapped"),
    ("stay_in_token", "wrapped"),
    ("softhsm_tokens", "softhsm"),
];

/// Reads the keys of the source `pkcs11`.
pub(super) fn read(section: &Section<'_, '_>, (class, directory): Own<'_>) -> Option<Settings> {
    if let Some(class) = class.filter(|class| *class.get_ref() != Class::Key) {
        section.report(
            &class.span(),
            format!("class is \"{}\", and a token has keys", class.get_ref()),
            "Write class = \"key\".",
        );
    }
    let hint =
        "Name the library of the token, for instance module = \"/usr/lib/softhsm/libsofthsm2.so\".";
    let module = section.required("module", hint);
    let token = token(section);
    let pin_file = path(section, "pin_file", directory);
    let use_final_try = section.boolean("use_final_try").map(Spanned::into_inner);
    let hint = "Say what leaves the token: export = \"inventory\" (no key), \"wrapped\" (keys under a wrapping key) or \"softhsm\" (the files of a SoftHSM2 token).";
    let export = section.required("export", hint);
    let name = export.as_ref().map(|export| export.get_ref().as_str());
    let own = match name {
        Some("inventory") => inventory(section, directory).map(Export::Inventory),
        Some("wrapped") => wrapped(section),
        Some("softhsm") => softhsm(section, directory),
        _ => {
            if let Some(export) = &export {
                let text = export.get_ref();
                section.report(
                    &export.span(),
                    format!("unknown export \"{}\"", text.escape_debug()),
                    did_you_mean(text, &EXPORTS),
                );
            }
            None
        }
    };
    for (key, belongs) in KEYS {
        // Asked for, so that it is not called unknown.
        if let (Some(value), Some(name)) = (section.value(key), name)
            && EXPORTS.contains(&name)
            && name != belongs
        {
            section.report(
                &value.span(),
                format!("\"{key}\" does nothing with export = \"{name}\""),
                format!("Take it out, or write export = \"{belongs}\"."),
            );
        }
    }
    Some(Settings::Pkcs11 {
        source: Pkcs11Settings {
            access: Access {
                module: resolve(directory, module?.get_ref()),
                token: token?,
                use_final_try: use_final_try.unwrap_or_default(),
            },
            export: own?,
        },
        pin_file,
    })
}

fn path(section: &Section<'_, '_>, key: &'static str, directory: &Path) -> Option<PathBuf> {
    let text = section.string(key)?;
    Some(resolve(directory, text.get_ref()))
}

fn strings(section: &Section<'_, '_>, key: &'static str) -> Vec<String> {
    let list = section.strings(key).map(Spanned::into_inner);
    let list = list.unwrap_or_default().into_iter();
    list.map(Spanned::into_inner).collect()
}

/// A URI is never shown: it may hold a PIN.
fn token(section: &Section<'_, '_>) -> Option<TokenUri> {
    let uri = section.string("uri");
    let (label, serial) = (section.string("token"), section.string("serial"));
    let other = label.as_ref().or(serial.as_ref());
    if let Some(label) = label
        .as_ref()
        .filter(|label| label.get_ref().starts_with("pkcs11:"))
    {
        section.report(
            &label.span(),
            "\"token\" is the label of the token, and this is a URI",
            "Write it as uri = \"pkcs11:token=LABEL;serial=NUMBER\".",
        );
        return None;
    }
    match (&uri, other) {
        (Some(uri), None) => match TokenUri::parse(uri.get_ref()) {
            Ok(uri) => Some(uri),
            Err(error) => {
                section.report(
                    &uri.span(),
                    format!("\"uri\": {error}"),
                    "It has the form pkcs11:token=LABEL;serial=NUMBER; the PIN goes into a file, pin_file = \"...\".",
                );
                None
            }
        },
        (Some(_), Some(other)) => {
            section.report(
                &other.span(),
                "\"uri\" and \"token\" or \"serial\" both say which token is meant",
                "Take one of them out.",
            );
            None
        }
        (None, None) => {
            section.report(
                &section.span(),
                "no token is named",
                "Write token = \"LABEL\", serial = \"NUMBER\", or uri = \"pkcs11:token=LABEL;serial=NUMBER\".",
            );
            None
        }
        (None, Some(_)) => Some(TokenUri {
            token: label.map(Spanned::into_inner),
            serial: serial.map(Spanned::into_inner),
            ..TokenUri::default()
        }),
    }
}

fn inventory(section: &Section<'_, '_>, directory: &Path) -> Option<VendorBackup> {
    let command = strings(section, "vendor_backup");
    let file = path(section, "vendor_backup_file", directory);
    if let (false, Some(value)) = (command.is_empty(), section.value("vendor_backup_file")) {
        section.report(
            &value.span(),
            "\"vendor_backup\" and \"vendor_backup_file\" both say where the vendor's backup is",
            "Take one of them out.",
        );
    }
    let age = section.integer("vendor_backup_max_age");
    let max_age_days = match &age {
        None => None,
        Some(days) if (1..=DAYS_MAX).contains(days.get_ref()) => {
            u32::try_from(*days.get_ref()).ok()
        }
        Some(days) => {
            section.report(
                &days.span(),
                "\"vendor_backup_max_age\" is out of bounds",
                format!("Valid are 1 to {DAYS_MAX} days."),
            );
            return None;
        }
    };
    if let (Some(age), None) = (&age, &file) {
        section.report(
            &age.span(),
            "\"vendor_backup_max_age\" needs a \"vendor_backup_file\"",
            "Name the file that the vendor's procedure leaves; what a command says is new each time.",
        );
    }
    Some(VendorBackup {
        command,
        file,
        max_age_days,
    })
}

fn wrapped(section: &Section<'_, '_>) -> Option<Export> {
    let hint = "Name the label of the AES or RSA key in the token that wraps the others.";
    let wrapping_key = section.required("wrapping_key", hint);
    let hint =
        "Say who else has the wrapping key, and where: without it nobody opens these backups.";
    let custody = section.required("wrapping_key_custody", hint);
    let stay_in_token = strings(section, "stay_in_token");
    Some(Export::Wrapped {
        wrapping_key: wrapping_key?.into_inner(),
        custody: custody?.into_inner(),
        stay_in_token,
    })
}

fn softhsm(section: &Section<'_, '_>, directory: &Path) -> Option<Export> {
    let hint = "Name the directories.tokendir of softhsm2.conf, for instance softhsm_tokens = \"/var/lib/softhsm/tokens\".";
    let tokens = section.required("softhsm_tokens", hint)?;
    Some(Export::SoftHsm {
        tokens: resolve(directory, tokens.get_ref()),
    })
}
