//! `strongroom demo`: makes a small CA, backs it up, loses it, and brings it back, in one directory.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use strongroom_core::cancel::Cancel;
use strongroom_core::clock::{Clock as _, SystemClock};
use strongroom_core::private_file;

use super::backup::BackupArgs;
use super::init::InitArgs;
use super::restore::RestoreArgs;
use super::verify::VerifyArgs;
use super::{backup, init, restore, verify};
use crate::cli::Global;
use crate::demo::{Authority, Census, DemoError, RevocationReason, destroy, prove};
use crate::environment::Environment;
use crate::failure::{Exit, Failure, io};
use crate::identity;
use crate::report::Report;
use crate::session::Surroundings;

/// Arguments of `demo`.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// A new or empty directory
    #[arg(default_value = "strongroom-demo")]
    dir: PathBuf,
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        Self::new(Exit::Failed, "demo", strongroom_core::error_chain(&error))
    }
}

/// Where everything of the demonstration lies.
struct Places {
    ca: PathBuf,
    config: PathBuf,
    database_identity: PathBuf,
    key_identity: PathBuf,
    repositories: PathBuf,
}

impl Places {
    fn below(dir: &Path) -> Self {
        Self {
            ca: dir.join("ca"),
            config: dir.join("host/strongroom.toml"),
            database_identity: dir.join("custodians/database.identity"),
            key_identity: dir.join("custodians/keys.identity"),
            repositories: dir.join("repositories"),
        }
    }
}

pub(crate) fn run(args: &DemoArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let dir = std::path::absolute(&args.dir).map_err(io("resolve", &args.dir))?;
    refuse_full(&dir)?;
    let places = Places::below(&dir);
    let report = &around.report;
    let mut steps = Steps { report, number: 0 };

    steps.begin("A certificate authority begins to work");
    let mut authority = Authority::create(&places.ca, &around.clock)?;
    authority.issue(200)?;
    authority.revoke(5, RevocationReason::KeyCompromise)?;
    authority.publish_crl()?;
    steps.say(&format!(
        "A root, an issuing CA, 200 certificates with random serials, 5 of them revoked, a CRL and an audit log are \
         in {}.",
        places.ca.display()
    ));

    steps.begin("Two identities, two repositories, one configuration");
    write_host(&places, around)?;
    let here = surroundings_of(around, &places.config);
    init::run(&InitArgs::default(), &here)?;
    steps.say(&format!(
        "Databases and keys go to different repositories, sealed for different people. The identities in {} open \
         them; a real host never sees those.",
        dir.join("custodians").display()
    ));

    steps.begin("The first backup, while the CA is running");
    require(
        backup::run(&BackupArgs::default(), &here)?,
        "the first backup",
    )?;

    steps.begin("The CA goes on: 20 more certificates, 3 more revocations, a new CRL; then the second backup");
    authority.issue(20)?;
    authority.revoke(3, RevocationReason::Superseded)?;
    authority.publish_crl()?;
    let before = authority.census()?;
    require(
        backup::run(&BackupArgs::default(), &here)?,
        "the second backup",
    )?;
    steps.say(
        "Only what had changed was stored. Nothing on this host could have read the first backup.",
    );

    steps.begin("Are the stored backups whole? Digests need no identity; decryption and proofs do");
    let identities = [
        places.database_identity.clone(),
        places.key_identity.clone(),
    ];
    require(verify::run(&VerifyArgs::all_l1(), &here)?, "verification")?;
    require(
        verify::run(&VerifyArgs::latest_l4(&identities), &here)?,
        "verification",
    )?;

    steps.begin("Disaster: database, keys, certificates, configuration and log are deleted");
    drop(authority);
    destroy(&places.ca)?;
    steps.say(&format!(
        "{} is empty now. Without a backup this CA would be over.",
        places.ca.display()
    ));

    steps.begin("The restore: first the plan, then everything to its place");
    require(
        restore::run(&RestoreArgs::apply_latest(&identities), &here)?,
        "the restore",
    )?;

    steps.begin("Is it the same CA?");
    let failures = compare(&steps, &places.ca, &before, around.clock)?;
    if !failures.is_empty() {
        for failure in &failures {
            report.problem(failure);
        }
        let message = "the restored CA is not the one that was backed up";
        return Err(Failure::new(Exit::Failed, "demo", message));
    }
    steps.end(&dir, &places);
    report.document(json!({
        "dir": dir, "census": before, "steps": steps.number, "restored": true,
    }));
    Ok(Exit::Done)
}

/// Numbered steps, told in plain words.
struct Steps<'r> {
    report: &'r Report,
    number: u32,
}

impl Steps<'_> {
    fn begin(&mut self, title: &str) {
        self.number += 1;
        self.report.line("");
        self.report.heading(&format!("{}. {title}", self.number));
    }

    fn say(&self, text: &str) {
        self.report.line(text);
    }

    fn end(&self, dir: &Path, places: &Places) {
        self.say("");
        self.report.heading("It is. Where to look now:");
        let config = places.config.display();
        self.say(&format!("  {}  the CA", places.ca.display()));
        self.say(&format!("  {config}  the configuration, with comments"));
        self.say(&format!(
            "  {}  what a thief would get",
            places.repositories.display()
        ));
        self.say("Try it yourself:");
        self.say(&format!("  strongroom -c {config} list"));
        self.say(&format!(
            "  strongroom -c {config} show latest -i {} -i {}",
            places.database_identity.display(),
            places.key_identity.display()
        ));
        self.say(&format!("Remove all of it with: rm -r {}", dir.display()));
    }
}

/// Proves the restored CA from its files alone, and compares it with what it was.
fn compare(
    steps: &Steps<'_>,
    ca: &Path,
    before: &Census,
    clock: SystemClock,
) -> Result<Vec<String>, Failure> {
    let proof = prove(ca, &clock)?;
    for sentence in &proof.shown {
        steps.say(&format!("  {sentence}"));
    }
    let after = Census::take(ca)?;
    let mut failures = proof.failures;
    if after == *before {
        steps.say(&format!(
            "  Certificates: {}, revoked: {}, CRL number {}, audit lines: {}: the same as before, and the same log head.",
            after.certificates, after.revoked, after.crl_number, after.audit_lines
        ));
    } else {
        failures.push(format!("before the disaster: {before:?}; now: {after:?}"));
    }
    Ok(failures)
}

fn require(exit: Exit, what: &str) -> Result<(), Failure> {
    if exit == Exit::Done {
        return Ok(());
    }
    Err(Failure::new(
        exit,
        "demo",
        format!("{what} ended with problems"),
    ))
}

fn refuse_full(dir: &Path) -> Result<(), Failure> {
    let mut entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("read", dir)(error)),
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let message = format!("{} is not empty", dir.display());
    Err(Failure::new(Exit::Refused, "not-empty", message)
        .hint("Name a new directory: `strongroom demo DIR`."))
}

/// Makes the identities and writes the configuration of the demonstration.
fn write_host(places: &Places, around: &Surroundings) -> Result<(), Failure> {
    for path in [&places.config, &places.database_identity] {
        let parent = path.parent().unwrap_or(Path::new("/"));
        private_file::create_dir_all(parent).map_err(io("create", parent))?;
    }
    let new = |path: &Path| identity::new_identity(path, None, around.clock.now(), None);
    let database = new(&places.database_identity)?;
    let keys = new(&places.key_identity)?;
    let text = configuration(&places.ca, &places.repositories, &database, &keys);
    private_file::replace(&places.config, text.as_bytes()).map_err(io("write", &places.config))
}

/// The demonstration runs the ordinary commands, with its own configuration.
fn surroundings_of(around: &Surroundings, config: &Path) -> Surroundings {
    let global = Global {
        config: Some(config.to_owned()),
        json: false,
        quiet: around.report.json || around.report.quiet,
        verbose: 0,
        no_color: around.global.no_color,
    };
    Surroundings {
        report: Report::new(&global, around.environment.no_color),
        global,
        environment: Environment::default(),
        cancel: Cancel::clone(&around.cancel),
        clock: around.clock,
    }
}

fn configuration(ca: &Path, repositories: &Path, database: &str, keys: &str) -> String {
    let ca = ca.display();
    let repositories = repositories.display();
    format!(
        r#"# The configuration of the demonstration. A real one is written by `strongroom init`.

[deployment]
name = "demo-ca"

[writer]
key_file = "writer.key"

# Databases, certificates, configuration and logs, for whoever holds database.identity.
[repository.offsite]
url = "file://{repositories}/offsite"
recipients = ["{database}"]
accepts = ["database", "config", "certificate", "log", "audit"]

# Keys and secrets, for whoever holds keys.identity.
[repository.keysafe]
url = "file://{repositories}/keysafe"
recipients = ["{keys}"]
accepts = ["key", "secret"]

[asset.database]
source = "sqlite"
class = "database"
path = "{ca}/var/ca.sqlite3"
newest = ["certificates.not_before"]

[asset.audit-log]
source = "files"
class = "audit"
paths = ["{ca}/var/log"]

[asset.config]
source = "files"
class = "config"
paths = ["{ca}/etc/ca.toml"]

[asset.certificates]
source = "files"
class = "certificate"
paths = ["{ca}/etc/*.cert.pem", "{ca}/var/crl"]

[asset.api-token]
source = "files"
class = "secret"
paths = ["{ca}/etc/api-token"]

[asset.issuing-key]
source = "files"
class = "key"
paths = ["{ca}/etc/ca.key.pem"]
certificate = "{ca}/etc/ca.cert.pem"

[asset.root-key]
source = "files"
class = "key"
paths = ["{ca}/etc/root.key.pem"]
certificate = "{ca}/etc/root.cert.pem"
"#
    )
}
