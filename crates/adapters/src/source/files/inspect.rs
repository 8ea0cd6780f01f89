//! A look at what a capture would take, without reading content.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use strongroom_core::source::Inspection;

use super::FilesSettings;
use super::findings::{Findings, Quoted};
use super::select::{Selection, check_readable, sorted_names};
use super::walk::{self, FirstNames, Walk};

/// How many neighbours are suggested at most.
const SUGGESTIONS: usize = 20;
/// How the names of key material and configuration end.
const TELLING: [&str; 9] = [
    "key", "pem", "p12", "pfx", "jks", "env", "crt", "toml", "conf",
];

pub(super) fn inspect(
    settings: &FilesSettings,
    selection: &Selection,
    mut findings: Findings,
) -> Inspection {
    let mut inspection = Inspection::default();
    let mut first_names = FirstNames::default();
    let mut walk = Walk::new(selection);
    while let Some(visit) = walk.next(&mut findings) {
        walk::note_links(&visit, selection, &mut findings);
        if visit.metadata.is_dir() || visit.metadata.is_symlink() {
            continue;
        }
        if !visit.metadata.is_file() {
            walk::skip_special(&visit, &mut findings);
            continue;
        }
        if first_names.get(&visit.metadata).is_some() {
            continue;
        }
        first_names.insert(&visit.metadata, &visit.path);
        inspection.files += 1;
        inspection.size_bytes += visit.metadata.len();
        if let Err(error) = check_readable(&visit.path, Access::READ_OK) {
            findings.problem(format!("{}: cannot be read: {error}", Quoted(&visit.path)));
        }
        if settings.class.is_secret() && visit.metadata.mode() & 0o077 != 0 {
            findings.note(open_to_others(&visit.path, visit.metadata.mode()));
        }
    }
    if let Some(certificate) = &settings.certificate
        && let Err(error) = certificate.metadata()
    {
        findings.problem(format!(
            "the certificate {} cannot be used: {error}",
            Quoted(certificate)
        ));
    }
    if let Some(file) = &settings.key_password_file {
        match file.metadata() {
            Ok(metadata) if metadata.mode() & 0o077 != 0 => {
                findings.note(open_to_others(file, metadata.mode()));
            }
            Ok(_) => {}
            Err(error) => findings.problem(format!(
                "the password file {} cannot be used: {error}",
                Quoted(file)
            )),
        }
    }
    inspection.suggestions = suggestions(selection);
    inspection.covered = selection
        .roots
        .iter()
        .map(|root| root.path.clone())
        .collect();
    (inspection.problems, inspection.notes) = findings.into_parts();
    inspection
}

/// A sentence with the command that closes the file.
fn open_to_others(path: &Path, mode: u32) -> String {
    let others = mode & 0o007;
    let who = if others == 0 {
        "its group"
    } else {
        "everybody"
    };
    let quoted = match path.to_str() {
        Some(text) if !text.contains(char::is_control) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => Quoted(path).to_string(),
    };
    format!(
        "{}: has the mode {:04o} and is open to {who}; close it with: chmod {:03o} {quoted}",
        Quoted(path),
        mode & 0o7777,
        mode & 0o700,
    )
}

/// Neighbours of the roots that look as if they belonged to the server.
fn suggestions(selection: &Selection) -> Vec<PathBuf> {
    let directories: BTreeSet<&Path> = selection
        .roots
        .iter()
        .filter(|root| {
            let metadata = root.path.symlink_metadata();
            metadata.is_ok_and(|metadata| !metadata.is_dir())
        })
        .filter_map(|root| root.path.parent())
        .collect();
    let mut found = Vec::new();
    for directory in directories {
        for name in sorted_names(directory, true).unwrap_or_default() {
            let path = directory.join(&name);
            if found.len() < SUGGESTIONS
                && is_telling(&path)
                && !selection.covers(&path)
                && !selection.is_excluded(&path)
                && path.is_file()
            {
                found.push(path);
            }
        }
    }
    found
}

fn is_telling(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let ending = ending.map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| TELLING.contains(&ending.as_str()))
        || path.file_name().is_some_and(|name| name == ".env")
}
