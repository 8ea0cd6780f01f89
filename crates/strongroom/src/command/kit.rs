//! `strongroom kit`: writes the break-glass kit into a directory.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use strongroom_core::clock::{Clock as _, whole_seconds};
use strongroom_core::format::Digest;
use strongroom_core::format::dsse::VerifyingKey;
use strongroom_core::private_file;

use crate::custody::Records;
use crate::failure::{Exit, Failure, io};
use crate::kit::facts::{Asset, Backup, Copy, Facts, Repository, fingerprint};
use crate::kit::{FILES, content, text};
use crate::runs::Runs;
use crate::session::{Role, Session, Surroundings};
use crate::sheet::write_new;

/// How many backups are told.
const BACKUPS: usize = 5;
/// What the sheets are called.
const STEM: &str = "break-glass";
/// The forms that they have.
const SHEETS: [&str; 3] = ["txt", "html", "pdf"];
/// The file with the digests.
const SUMS: &str = "SHA256SUMS";

/// Arguments of `kit`.
#[derive(Args)]
pub(crate) struct KitArgs {
    /// A new or empty directory for the kit
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(args: &KitArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    let out = &args.out;
    private_file::create_dir_all(out).map_err(io("create", out))?;
    let mut entries = std::fs::read_dir(out).map_err(io("read", out))?;
    if entries.next().is_some() {
        let message = format!("{} is not empty", out.display());
        return Err(Failure::new(Exit::Refused, "not-empty", message).hint(
            "Nothing was written. Name a new directory: an old kit and a new one must not mix.",
        ));
    }
    let (mut facts, problems) = look(&session)?;

    write(out, &mut facts).inspect_err(|_| {
        // Half a kit misleads. The directory was empty before.
        let written = FILES.iter().map(|(name, _)| (*name).to_owned());
        for name in written.chain(SHEETS.map(|end| format!("{STEM}.{end}"))) {
            let _ = std::fs::remove_file(out.join(name));
        }
        let _ = std::fs::remove_file(out.join(SUMS));
    })?;

    let report = &around.report;
    for problem in &problems {
        report.problem(problem);
    }
    report.line(format!(
        "The kit is in {}. Print {STEM}.pdf, keep it with the custodians and away from the host, and put the directory on a medium \
         beside each copy of the repositories. Nothing in it is secret.",
        out.display()
    ));
    report
        .line("Then let somebody who did not write it follow it, on a machine without Strongroom.");
    let custodies: Vec<_> = facts.custodies.iter().map(|one| one.set).collect();
    report.document(json!({
        "out": out, "custodies": custodies, "problems": problems,
        "repositories": facts.repositories.iter().map(|one| &one.name).collect::<Vec<_>>(),
        "writers": facts.writers, "backups": facts.backups.iter().map(|one| &one.label).collect::<Vec<_>>(),
        "files": facts.files.iter().map(|(name, digest)| json!({ "name": name, "sha256": digest })).collect::<Vec<_>>(),
    }));
    Ok(if problems.is_empty() {
        Exit::Done
    } else {
        Exit::Problems
    })
}

/// Writes the files of the kit, and their digests last.
fn write(out: &Path, facts: &mut Facts) -> Result<(), Failure> {
    let mut sums: Vec<String> = Vec::new();
    let mut write = |name: &str, bytes: &[u8]| -> Result<Digest, Failure> {
        write_new(&out.join(name), bytes)?;
        let digest = Digest::of(bytes);
        sums.push(format!("{digest}  {name}\n"));
        Ok(digest)
    };
    for (name, content) in FILES {
        facts
            .files
            .push(((*name).to_owned(), write(name, content.as_bytes())?));
    }
    let kit = content::write(facts);
    let sheet = kit.to_sheet();
    let [text, html, pdf] = SHEETS.map(|end| format!("{STEM}.{end}"));
    write(&text, text::render(&kit).as_bytes())?;
    write(&html, sheet.to_html().as_bytes())?;
    write(&pdf, &sheet.to_pdf())?;
    write_new(&out.join(SUMS), sums.concat().as_bytes())
}

/// Collects what can be known without an identity, and what could not be.
fn look(session: &Session<'_>) -> Result<(Facts, Vec<String>), Failure> {
    let config = &session.config;
    let mut repositories: Vec<Repository> =
        config.repositories.values().map(Repository::new).collect();
    repositories.sort_by_key(|one| !one.has_secrets());
    let mut facts = Facts {
        deployment: config.deployment.name.clone(),
        made: whole_seconds(session.around.clock.now()),
        configuration: std::path::absolute(&config.file).map_err(io("resolve", &config.file))?,
        repositories,
        copies: config.copies.values().map(Copy::new).collect(),
        writers: std::collections::BTreeMap::new(),
        custodies: Records::of(&config.writer.state_dir).all()?,
        backups: Vec::new(),
        assets: config
            .assets
            .iter()
            .map(|asset| Asset::new(config, asset))
            .collect(),
        unread: Vec::new(),
        files: Vec::new(),
    };
    let (opened, failures) = session.reachable_repositories(Role::Writer);
    let mut problems: Vec<String> = failures
        .into_iter()
        .map(|failure| {
            format!(
                "{}; the kit does not tell its writers and backups",
                failure.message
            )
        })
        .collect();
    for (name, repository) in &opened {
        let document = repository.document();
        for (writer, key) in &document.writers {
            let key = VerifyingKey::from_base64(key)?;
            facts.writers.insert(*writer, fingerprint(key));
        }
        if document.recipients != config.repositories[name].recipients {
            problems.push(format!(
                "repository {name}: its recipients are not those of the configuration, which the kit tells; look at `strongroom check`"
            ));
        }
    }
    let all = config.repositories.keys();
    let unread = all.filter(|name| !opened.contains_key(*name));
    facts.unread = unread.cloned().collect();
    let runs = Runs::read(session, &opened)?;
    problems.extend(runs.problems.iter().cloned());
    for run in runs.all.iter().rev().take(BACKUPS) {
        facts.backups.push(Backup {
            label: run.label.to_string(),
            taken: run.any().started,
            status: run.status(),
            repositories: run.envelopes.keys().cloned().collect(),
        });
    }
    let is_split = |one: &Repository| {
        let mut recipients = one.recipients.iter();
        recipients.any(|recipient| {
            facts
                .custodies
                .iter()
                .any(|set| set.recipient == *recipient)
        })
    };
    for repository in facts
        .repositories
        .iter()
        .filter(|one| one.has_secrets() && !is_split(one))
    {
        session.around.report.note(format!(
            "repository {} holds keys and is opened by one identity alone; `strongroom custody create` puts one into several hands",
            repository.name
        ));
    }
    Ok((facts, problems))
}
