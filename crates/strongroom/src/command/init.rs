//! `strongroom init`: writes a configuration, or creates what an existing one names.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom_core::format::writer_key::WriterKey;
use strongroom_core::private_file;
use strongroom_core::repository::{NewRepository, Repository, RepositoryError};

use crate::config::{Config, parse_repository_argument, template};
use crate::failure::{Exit, Failure, io};
use crate::session::{Role, Session, Surroundings};

/// Arguments of `init`.
#[derive(Args, Default)]
pub(crate) struct InitArgs {
    /// A repository for the new configuration, for instance offsite=file:///srv/backups/example; may be given several times
    #[arg(long, value_name = "NAME=URL")]
    repository: Vec<String>,
    /// Where to write the new configuration [default: the file of --config]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Seal the next epochs of this repository to the recipients that the configuration has now
    #[arg(long, value_name = "NAME")]
    accept_recipients: Vec<String>,
}

pub(crate) fn run(args: &InitArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let file = around.configuration_file();
    if args.out.is_some() || !file.exists() {
        let out = args.out.clone().unwrap_or(file);
        return write_configuration(args, &out, around);
    }
    if !args.repository.is_empty() {
        let message = format!(
            "{} exists already; --repository is for a new one",
            file.display()
        );
        return Err(Failure::new(Exit::Refused, "configuration-exists", message)
            .hint("Add the repository to the file, or name another one with --out."));
    }
    create_missing(args, around)
}

fn write_configuration(
    args: &InitArgs,
    out: &std::path::Path,
    around: &Surroundings,
) -> Result<Exit, Failure> {
    if !args.accept_recipients.is_empty() {
        return Err(Failure::usage("--accept-recipients needs a configuration")
            .hint("Name it with --config."));
    }
    let repositories = args
        .repository
        .iter()
        .map(|text| parse_repository_argument(text));
    let repositories: Vec<_> = repositories
        .collect::<Result<_, _>>()
        .map_err(Failure::usage)?;
    let mut file = match private_file::create_new(out) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let message = format!("{} exists already", out.display());
            return Err(Failure::new(Exit::Refused, "configuration-exists", message)
                .hint("Choose another file with --out, or remove that one."));
        }
        file => file.map_err(io("create", out))?,
    };
    file.write_all(template(&repositories).as_bytes())
        .map_err(io("write", out))?;
    let report = &around.report;
    report.line(format!("Wrote {}. Next:", out.display()));
    report.line("  1. strongroom identity new --out FILE   once for databases, once for keys; keep both files elsewhere");
    report.line("  2. put the recipients and your assets into the configuration");
    report.line(format!(
        "  3. strongroom -c {} init      to create the writer key and the repositories",
        out.display()
    ));
    report.document(json!({ "configuration": out, "created": [out] }));
    Ok(Exit::Done)
}

fn create_missing(args: &InitArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    for name in &args.accept_recipients {
        if !session.config.repositories.contains_key(name) {
            return Err(Failure::usage(format!("there is no repository {name:?}")));
        }
    }
    for repository in session.config.repositories.values() {
        repository.open_recipients()?;
    }
    let _lock = session.lock()?;
    let mut created = Vec::new();
    let report = &around.report;
    let key = writer_key(&session, &mut created)?;
    for (name, config) in &session.config.repositories {
        let place = strongroom_adapters::create_storage(&config.storage, &around.cancel)
            .map_err(|error| Failure::from(error).context(format_args!("repository {name}")))?;
        match Repository::open(place.into()) {
            Ok(_) => {
                let repository = session.repository(config)?;
                if args.accept_recipients.contains(name) {
                    repository.change_recipients(config.recipients.clone(), &key, &around.clock)?;
                    created.push(format!("recipients of {name}"));
                    report.line(format!(
                        "Repository {name} seals its next epoch to the {} recipients of the configuration.",
                        config.recipients.len()
                    ));
                } else {
                    report.line(format!("Repository {name} is there: {}", config.url));
                }
            }
            Err(RepositoryError::NotARepository { .. }) => {
                let state = session.state(name);
                if let Some(known) = state.repository()? {
                    let message = format!(
                        "{} is no repository any more, and this host has written to one there, of number {known}",
                        config.url
                    );
                    let hint = format!(
                        "Is it mounted, and is the URL right? What was deleted comes back with --as-of or from a copy. \
                         To begin anew, move {} away, which is what this host remembers of the old one.",
                        state.directory().display()
                    );
                    return Err(Failure::new(Exit::Refused, "repository-gone", message).hint(hint));
                }
                let storage = session.storage(config, Role::Writer)?;
                let new = NewRepository {
                    deployment: session.config.deployment.name.clone(),
                    name: name.clone(),
                    accepts: config.accepts.clone(),
                    recipients: config.recipients.clone(),
                };
                Repository::create(storage, new, &key, &around.clock)?;
                created.push(config.url.clone());
                report.line(format!("Created repository {name}: {}", config.url));
            }
            Err(error) => {
                return Err(Failure::from(error).context(format_args!("repository {name}")));
            }
        }
    }
    for (name, config) in &session.config.copies {
        strongroom_adapters::create_storage(&config.storage, &around.cancel)
            .map_err(|error| Failure::from(error).context(format_args!("copy {name}")))?;
        report.line(format!(
            "The place of copy {name} is there: {}; `strongroom copy` fills it.",
            config.url
        ));
    }
    report.line(format!(
        "The writer is {}. Write it on paper with the identities: it tells your repository from a forged one.",
        key.signing.id()
    ));
    report.document(json!({
        "configuration": session.config.file, "created": created, "writer": key.signing.id(),
    }));
    Ok(Exit::Done)
}

/// Reads the writer key, and makes it first where it is missing and no repository waits for an older one.
fn writer_key(session: &Session<'_>, created: &mut Vec<String>) -> Result<WriterKey, Failure> {
    let file = &session.config.writer.key_file;
    if file.exists() {
        return session.writer_key();
    }
    refuse_second_writer(&session.config, session)?;
    if let Some(directory) = file.parent() {
        private_file::create_dir_all(directory).map_err(io("create", directory))?;
    }
    let key = WriterKey::generate()?;
    private_file::replace(file, key.to_pem().as_bytes()).map_err(io("write", file))?;
    created.push(file.display().to_string());
    session
        .around
        .report
        .line(format!("Created the writer key {}", file.display()));
    Ok(key)
}

/// A new key could not write to repositories that exist: then the old one is what is missing.
fn refuse_second_writer(config: &Config, session: &Session<'_>) -> Result<(), Failure> {
    for (name, repository) in &config.repositories {
        if session.repository(repository).is_ok() {
            let message = format!(
                "the writer key {} is missing, and repository {name} was made with one",
                config.writer.key_file.display()
            );
            return Err(Failure::new(Exit::Refused, "no-writer-key", message).hint(
                "Put back its file. `list`, `verify` and `restore` need no writer key; without it, new backups need \
                 a new repository.",
            ));
        }
    }
    Ok(())
}
