//! `strongroom check`: looks at everything that the next backup needs, and stores nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::Access;
use serde_json::json;
use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::local::directories_of_a_backup;
use strongroom_core::cancel::Cancel;
use strongroom_core::check::{
    self, AssetSeen, CustodySeen, Finding, Inventory, KeysSeen, OpenedSeen, PasswordSeen,
    RepositorySeen, Severity, WriterKeySeen, WrittenSeen,
};
use strongroom_core::clock::Clock as _;
use strongroom_core::error_chain;
use strongroom_core::execute::prove_source;
use strongroom_core::format::WriterId;
use strongroom_core::source::{Class, Inspection, Restorer, Source};
use strongroom_core::storage::FreeSpace;

use crate::command::custody::last_rehearsal;
use crate::config::{AssetConfig, RepositoryConfig, Settings};
use crate::custody::Records;
use crate::failure::{Exit, Failure};
use crate::session::{Session, Surroundings, each};

/// Arguments of `check`.
#[derive(Args)]
pub(crate) struct CheckArgs {}

pub(crate) fn run(_: &CheckArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    let inventory = look(&session);
    let findings = check::run(&inventory);
    let report = &around.report;
    for finding in &findings {
        print(&session, finding);
    }
    let count = |severity| {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    let (problems, warnings) = (count(Severity::Problem), count(Severity::Warning));
    report.line(match (problems, warnings) {
        (0, 0) => "Everything is ready for the next backup.".to_owned(),
        (0, _) => format!("The next backup can be taken; {warnings} warnings are above."),
        _ => format!("{problems} problems stand in the way of a complete backup."),
    });
    report.document(json!({
        "findings": findings, "problems": problems, "warnings": warnings,
    }));
    Ok(if problems + warnings == 0 {
        Exit::Done
    } else {
        Exit::Problems
    })
}

fn print(session: &Session<'_>, finding: &Finding) {
    let report = &session.around.report;
    let (word, color) = match finding.severity {
        Severity::Good => ("good   ", "32"),
        Severity::Warning => ("warning", "33"),
        Severity::Problem => ("PROBLEM", "31"),
    };
    let text = format!(
        "{} {}: {} [{}]",
        report.paint(word, color),
        finding.subject,
        finding.message,
        finding.rule
    );
    if finding.severity == Severity::Good {
        report.line(text);
    } else {
        report.answer(text);
        if let Some(hint) = &finding.hint {
            report.answer(format!("        {hint}"));
        }
    }
}

/// Looks at everything; what cannot be looked at is part of what was seen.
fn look(session: &Session<'_>) -> Inventory {
    let (writer_key, writer) = writer_key(session);
    Inventory {
        assets: assets(session),
        repositories: each(session.config.repositories.values(), |config| {
            opened(session, config, writer)
        })
        .into_iter()
        .map(|(config, opened)| RepositorySeen {
            name: config.name.clone(),
            opened: opened.map_err(|failure| (failure.message, failure.hint)),
        })
        .collect(),
        writer_key,
        scratch_room: scratch_room(&session.config.writer.state_dir),
        written: written(session),
        custody: custody(session),
    }
}

/// What a backup writes to on this host. Nothing is written to find out.
fn written(session: &Session<'_>) -> Vec<WrittenSeen> {
    let state = &session.config.writer.state_dir;
    let mut kept = vec![state.clone(), session.scratch()];
    let names = session.config.repositories.keys();
    kept.extend(names.map(|name| session.state(name).directory().to_owned()));
    let mut seen = vec![WrittenSeen {
        subject: "state directory".to_owned(),
        is_state: true,
        unwritable: kept.iter().find_map(|path| unwritable(path)).or_else(|| {
            let lock = state.join("lock");
            let is_there = lock.symlink_metadata().is_ok();
            is_there.then(|| refused(&lock, Access::WRITE_OK)).flatten()
        }),
    }];
    for config in session.config.repositories.values() {
        if let Place::Local(root) = &config.storage.place
            && root.is_dir()
        {
            seen.push(WrittenSeen {
                subject: config.name.clone(),
                is_state: false,
                unwritable: directories_of_a_backup(root)
                    .iter()
                    .find_map(|path| unwritable(path)),
            });
        }
    }
    seen
}

/// What keeps a directory from being written, or from being made where it does not exist.
fn unwritable(path: &Path) -> Option<(PathBuf, String)> {
    let existing = path
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok())?;
    if !existing.is_dir() {
        return Some((existing.to_owned(), "it is no directory".to_owned()));
    }
    refused(existing, Access::WRITE_OK | Access::EXEC_OK)
}

fn refused(path: &Path, access: Access) -> Option<(PathBuf, String)> {
    let error = rustix::fs::access(path, access).err()?;
    Some((path.to_owned(), std::io::Error::from(error).to_string()))
}

fn writer_key(session: &Session<'_>) -> (WriterKeySeen, Option<WriterId>) {
    let path = session.config.writer.key_file.clone();
    let mode = std::fs::metadata(&path)
        .ok()
        .map(|metadata| metadata.mode() & 0o7777);
    let key = session.writer_key();
    let writer = key.as_ref().ok().map(|key| key.signing.id());
    let unusable = key.err().map(|failure| failure.message);
    (
        WriterKeySeen {
            path,
            mode,
            unusable,
        },
        writer,
    )
}

fn assets(session: &Session<'_>) -> Vec<AssetSeen> {
    let sources = session.sources();
    let cancel = &session.around.cancel;
    session
        .config
        .assets
        .iter()
        .map(|asset| {
            let source = &sources[&asset.name];
            let mut inspection = source.inspect().map_err(|error| error.advice());
            // A look at a token lets its keys sign.
            let is_token = matches!(&asset.settings, Settings::Pkcs11 { .. });
            let of_token = inspection
                .as_mut()
                .ok()
                .filter(|_| is_token)
                .map(|inspection| KeysSeen {
                    are_proved: inspection.problems.is_empty(),
                    problems: std::mem::take(&mut inspection.problems),
                    ..KeysSeen::default()
                });
            AssetSeen {
                name: asset.name.clone(),
                class: asset.class,
                source: asset.source().to_owned(),
                is_on_server: strongroom_adapters::restorer(asset.source())
                    .is_some_and(Restorer::loads_into_server),
                secrets: match source.look_for_secrets(cancel) {
                    Ok(seen) => seen.map(Ok),
                    Err(error) => Some(Err(error.advice())),
                },
                keys: of_token.or_else(|| keys(asset, &**source, &inspection, cancel)),
                inspection,
                password: password(session, asset),
            }
        })
        .collect()
}

/// Reads keys as a backup would, and lets them sign.
fn keys(
    asset: &AssetConfig,
    source: &dyn Source,
    inspection: &Result<Inspection, String>,
    cancel: &Cancel,
) -> Option<KeysSeen> {
    if asset.class != Class::Key || !matches!(asset.settings, Settings::Files { .. }) {
        return None;
    }
    let capture = match prove_source(source, cancel) {
        Ok(capture) => capture,
        Err(error) => {
            return Some(KeysSeen {
                problems: vec![error_chain(&error)],
                ..KeysSeen::default()
            });
        }
    };
    let is_proved = |facts: &serde_json::Value| facts["proved"] == true;
    let listed = capture.facts["private_keys"].as_array();
    let listed = listed.is_some_and(|keys| !keys.is_empty() && keys.iter().all(is_proved));
    // What the look has said already is not said twice.
    let is_new = |note: &String| {
        let seen = inspection.as_ref();
        !seen.is_ok_and(|seen| seen.notes.contains(note))
    };
    Some(KeysSeen {
        are_proved: listed && capture.facts.get("key").is_none_or(is_proved),
        notes: capture.notes.into_iter().filter(is_new).collect(),
        problems: capture.problems,
    })
}

/// The password file of an asset, and which assets cover it.
fn password(session: &Session<'_>, asset: &AssetConfig) -> Option<PasswordSeen> {
    let Settings::Files {
        key_password_file: Some(file),
        ..
    } = &asset.settings
    else {
        return None;
    };
    let all = session.config.assets.iter();
    let covering = all.filter(|other| other.settings.covers(file));
    Some(PasswordSeen {
        file: file.clone(),
        covered_by: covering
            .map(|other| (other.name.clone(), other.class))
            .collect(),
    })
}

fn opened(
    session: &Session<'_>,
    config: &RepositoryConfig,
    writer: Option<WriterId>,
) -> Result<OpenedSeen, Failure> {
    let repository = session.repository(config)?;
    let document = repository.document();
    let catalogue = repository.catalogue()?;
    let configured: BTreeSet<&String> = config.recipients.iter().collect();
    let newest = catalogue
        .backups
        .iter()
        .max_by_key(|stored| stored.envelope.run);
    let newest = newest.map(|stored| (stored.envelope.label.clone(), stored.envelope.started));
    let (mut rolled_back_from, mut newer_than_written) = (None, None);
    let state = session.state(&config.name);
    let head = state.head(document.repository)?;
    if let Some(writer) = writer
        && let Some(head) = &head
    {
        let own = catalogue.backups.iter().map(|stored| &stored.envelope);
        let own = own.filter(|envelope| envelope.writer == writer);
        let newest = own.map(|envelope| envelope.sequence).max().unwrap_or(0);
        rolled_back_from = (head.sequence > newest).then_some(head.sequence);
        newer_than_written = (head.sequence < newest).then_some((head.sequence, newest));
    }
    let objects = repository.survey(&catalogue.backups, head.as_ref())?;
    Ok(OpenedSeen {
        replaced: repository.look_at_replaced(&objects.replaced, &state)?,
        recipients_agree: configured == document.recipients.iter().collect(),
        writer_known: writer.is_none_or(|writer| document.writer(writer).is_ok()),
        history_problems: catalogue.problems,
        rolled_back_from,
        newer_than_written,
        objects,
        backups: (catalogue.backups.len(), newest),
        room: repository.storage().free_space()?,
    })
}

/// The sets that a repository is sealed to. A record that cannot be read is told, and counts as none.
fn custody(session: &Session<'_>) -> Vec<CustodySeen> {
    let seen = || {
        let kept = Records::of(&session.config.writer.state_dir);
        let now = session.around.clock.now();
        let revoked = kept.revocations()?;
        let mut seen = Vec::new();
        for record in kept.all()? {
            let mut repositories = session.config.repositories.values();
            if !repositories.any(|one| one.recipients.contains(&record.recipient)) {
                continue;
            }
            let rehearsals = kept.rehearsals(&record)?;
            let age = |index: u8| {
                let hours = now
                    .duration_since(last_rehearsal(&rehearsals, index)?)
                    .as_hours();
                Some(u32::try_from(hours / 24).unwrap_or(0))
            };
            let custodians = record.custodians.iter().zip(1..);
            seen.push(CustodySeen {
                name: record.name.clone(),
                threshold: record.threshold,
                interval_days: session.config.custody.rehearsal_days,
                revoked: revoked.get(&record.set).map(|one| one.reason.clone()),
                custodians: custodians
                    .map(|(one, index)| (one.name.clone(), age(index)))
                    .collect(),
            });
        }
        Ok::<_, Failure>(seen)
    };
    seen().unwrap_or_else(|failure| {
        session.around.report.failed_part(&failure);
        Vec::new()
    })
}

fn scratch_room(state: &Path) -> Option<FreeSpace> {
    let existing = state.ancestors().find(|path| path.is_dir())?;
    let room = rustix::fs::statvfs(existing).ok()?;
    Some(FreeSpace {
        free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
        total_bytes: room.f_blocks.saturating_mul(room.f_frsize),
    })
}
