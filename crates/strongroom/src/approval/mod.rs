//! Dual control: a plan is carried out only when enough operators have signed that very plan (docs/adr/0024).
//!
//! A command writes its plan with --plan, and later makes it again and compares it with the one that was signed. Whether
//! it may go on is decided here; what it does then is the command's own business.

mod differences;
mod document;
mod record;
mod signature;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strongroom_core::clock::{Clock as _, whole_seconds};
use strongroom_core::format::Digest;
use strongroom_core::format::id::{from_hex, random, to_hex};
use strongroom_core::plan::approval::ReadEnvelope;
use strongroom_core::plan::restore::RestorePlan;
use strongroom_core::private_file;
use strongroom_core::repository::reader::BackupReader;

pub(crate) use document::{PlanDocument, Work};
pub(crate) use signature::{KeyFault, OperatorKey};

use self::document::Scope;
use self::signature::{NAMESPACE, PlanSignature};
use crate::cli::ReadOptions;
use crate::command::backup::TOOL;
use crate::config::Approvals;
use crate::failure::{Exit, Failure, io};
use crate::runs::Run;
use crate::session::Session;

/// The longest plan that is read: a million files and more.
const PLAN_MAX: u64 = 512 * 1024 * 1024;
/// The longest signature.
const SIGNATURE_MAX: u64 = 64 * 1024;
/// By how much clocks of hosts may disagree.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);
/// The most differences that are shown.
const DIFFERENCES_MAX: usize = 20;

/// How a command that operators must approve is told of their plan.
#[derive(Args, Default)]
pub(crate) struct ApprovalOptions {
    /// Where operators must approve: write the plan to this new file, for them to sign; with --approval, the plan that they signed
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
    /// An operator's signature of the plan, made by `ssh-keygen -Y sign -n strongroom-plan`; may be given several times
    #[arg(long, value_name = "FILE", requires = "plan")]
    pub(crate) approval: Vec<PathBuf>,
}

/// What the configuration and the command line make of a command.
pub(crate) enum Gate {
    /// Nobody has to approve.
    Open,
    /// The plan is written to this file.
    Write(PathBuf),
    /// The plan is carried out as it was signed.
    Approved(Box<Approved>),
}

/// A plan with enough signatures.
pub(crate) struct Approved {
    pub(crate) document: PlanDocument,
    bytes: Vec<u8>,
    digest: Digest,
    approvals: Vec<Approval>,
}

/// The signature of one operator.
struct Approval {
    operator: String,
    signature: Vec<u8>,
}

impl Gate {
    /// Decides what a command may do that `carries_out` its plan, or only shows it.
    pub(crate) fn find(
        session: &Session<'_>,
        options: &ApprovalOptions,
        carries_out: bool,
    ) -> Result<Self, Failure> {
        let Some(rule) = &session.config.approvals else {
            if options.plan.is_some() {
                let message =
                    "the configuration asks for no approvals, so there is nothing to sign";
                return Err(Failure::usage(message).hint(
                    "Leave --plan and --approval out, or write approvals = 2 and tables [operator.NAME].",
                ));
            }
            return Ok(Self::Open);
        };
        match (&options.plan, options.approval.as_slice(), carries_out) {
            (None, _, false) => Ok(Self::Open),
            (Some(file), [], false) if file.exists() => {
                let message = format!("{} exists already", file.display());
                Err(Failure::usage(message).hint("A plan is written to a new file."))
            }
            (Some(file), [], false) => Ok(Self::Write(file.clone())),
            (Some(_), [_, ..], false) => {
                let message = "--approval without --apply";
                Err(Failure::usage(message)
                    .hint("To carry out the plan that was signed, add --apply."))
            }
            (_, [], true) | (None, ..) => Err(missing(rule)),
            (Some(file), signatures, true) => {
                let bytes = read(file, PLAN_MAX)?;
                let mut named = Vec::new();
                for file in signatures {
                    let signature = read(file, SIGNATURE_MAX)?;
                    named.push((file.display().to_string(), signature));
                }
                let approved = Approved::verify(rule, bytes, &named)
                    .map_err(|failure| failure.context(file.display()))?;
                approved.may_be_used(session)?;
                Ok(Self::Approved(Box::new(approved)))
            }
        }
    }

    /// The plan that was signed.
    pub(crate) fn approved(&self) -> Option<&Approved> {
        match self {
            Self::Approved(approved) => Some(approved),
            _ => None,
        }
    }

    /// Writes the plan where that was asked for, and tells how it is signed.
    pub(crate) fn write(
        &self,
        session: &Session<'_>,
        read: &ReadOptions,
        work: Work,
    ) -> Result<Option<Value>, Failure> {
        let (Self::Write(file), Some(rule)) = (self, &session.config.approvals) else {
            return Ok(None);
        };
        let made = now(session);
        let command = work.command();
        let document = PlanDocument {
            strongroom_plan: document::VERSION,
            id: to_hex(&random::<16>()?),
            made,
            expires: made + SignedDuration::from_hours(i64::from(rule.plan_hours)),
            scope: scope(session, rule, read, work)?,
        };
        let bytes = document.to_bytes();
        let mut out = private_file::create_new(file).map_err(io("create", file))?;
        let written = out.write_all(&bytes).and_then(|()| out.sync_all());
        written.map_err(io("write", file))?;
        let digest = Digest::of(&bytes);
        let shown = file.display();
        let names: Vec<&str> = rule.operators.keys().map(String::as_str).collect();
        let report = &session.around.report;
        report.answer(format!("The plan is in {shown}, SHA-256 {digest}."));
        let apply = if command == "export" { "" } else { " --apply" };
        report.line(format!(
            "Signatures needed: {} of {}, before {}. Who signs reads the file, compares the digest, and runs\n  \
             ssh-keygen -Y sign -f KEY -n {NAMESPACE} FILE\nwhich writes FILE.sig. Then, on this host:\n  \
             strongroom {command}{apply} --plan {shown}{}",
            rule.needed,
            names.join(", "),
            document.expires,
            " --approval SIGNATURE".repeat(rule.needed as usize),
        ));
        Ok(Some(json!({
            "file": file, "sha256": digest, "id": document.id, "expires": document.expires,
            "approvals": rule.needed, "operators": names,
        })))
    }
}

impl Approved {
    /// Verifies signatures of a plan, each with its name for messages.
    fn verify(
        rule: &Approvals,
        bytes: Vec<u8>,
        signatures: &[(String, Vec<u8>)],
    ) -> Result<Self, Failure> {
        let refused = |message: String| Failure::new(Exit::Refused, "approval", message);
        let document = PlanDocument::parse(&bytes)
            .map_err(|why| refused(format!("this is no plan: {why}")).hint(NEW_PLAN))?;
        if from_hex::<16>(&document.id).is_none() {
            return Err(refused("this is no plan: its id is not valid".to_owned()));
        }
        let operators = || {
            rule.operators
                .iter()
                .map(|(name, key)| (name.as_str(), key))
        };
        let mut approvals: Vec<Approval> = Vec::new();
        let mut faults = Vec::new();
        for (shown, signature) in signatures {
            let signer = PlanSignature::parse(signature)
                .and_then(|parsed| parsed.signer(&bytes, operators()));
            match signer {
                Ok(name) if approvals.iter().any(|one| one.operator == name) => {
                    faults.push(format!("{shown}: {name} has signed already"));
                }
                Ok(name) => approvals.push(Approval {
                    operator: name.to_owned(),
                    signature: signature.clone(),
                }),
                Err(fault) => faults.push(format!("{shown}: {fault}")),
            }
        }
        if !faults.is_empty() {
            let message = format!("not every signature counts\n  {}", faults.join("\n  "));
            return Err(refused(message).hint(
                "Nothing was changed. An operator signs the very file that --plan names, with the key in the configuration.",
            ));
        }
        if approvals.len() < rule.needed as usize {
            let message = format!(
                "{} of {} operators have approved the plan",
                approvals.len(),
                rule.needed
            );
            return Err(refused(message).hint(
                "Nothing was changed. Let more operators sign it, and give each signature with --approval.",
            ));
        }
        let digest = Digest::of(&bytes);
        approvals.sort_by(|left, right| left.operator.cmp(&right.operator));
        Ok(Self {
            document,
            bytes,
            digest,
            approvals,
        })
    }

    /// Whether it holds now and was not used before.
    fn may_be_used(&self, session: &Session<'_>) -> Result<(), Failure> {
        let refused =
            |message: String| Failure::new(Exit::Refused, "plan-expired", message).hint(NEW_PLAN);
        let now = now(session);
        if now >= self.document.expires {
            let message = format!("the plan has expired, at {}", self.document.expires);
            return Err(refused(message));
        }
        if self.document.made > now + CLOCK_TOLERANCE {
            let message = format!(
                "the plan was made later than now, at {}",
                self.document.made
            );
            return Err(refused(message));
        }
        if record::is_used(session, &self.document.id) {
            return Err(record::used());
        }
        Ok(())
    }

    /// Refused unless what would be done now is what was signed.
    pub(crate) fn compare(
        &self,
        session: &Session<'_>,
        read: &ReadOptions,
        work: Work,
    ) -> Result<(), Failure> {
        let Some(rule) = &session.config.approvals else {
            return Ok(());
        };
        let now = scope(session, rule, read, work)?;
        let mut differences = self.document.differences(&now);
        if differences.is_empty() {
            return Ok(());
        }
        let all = differences.len();
        differences.truncate(DIFFERENCES_MAX);
        if all > DIFFERENCES_MAX {
            differences.push(format!("and {} more", all - DIFFERENCES_MAX));
        }
        let message = format!(
            "what would be done now is not what was signed; nothing was changed\n  {}",
            differences.join("\n  ")
        );
        let mut failure = Failure::new(Exit::Refused, "plan-differs", message).hint(NEW_PLAN);
        failure.details = differences.into_iter().map(Value::String).collect();
        Err(failure)
    }

    /// Notes that the plan is used, and tells who approved it; to be called right before it is carried out.
    pub(crate) fn use_up(&self, session: &Session<'_>) -> Result<(), Failure> {
        record::use_up(session, self)?;
        self.tell(session);
        Ok(())
    }

    /// Tells who approved it.
    fn tell(&self, session: &Session<'_>) {
        let names: Vec<&str> = self.operators().collect();
        session.around.report.line(format!(
            "Approved by {}: plan {} of {}.",
            names.join(" and "),
            self.digest,
            self.document.made
        ));
    }

    fn operators(&self) -> impl Iterator<Item = &str> {
        self.approvals
            .iter()
            .map(|approval| approval.operator.as_str())
    }

    /// From where it reads backups.
    pub(crate) fn read_options(&self) -> ReadOptions {
        ReadOptions {
            from: self.document.scope.from.clone(),
            as_of: self.document.scope.as_of,
        }
    }

    /// The plan is not for the command that was called.
    pub(crate) fn of_another_command(&self, called: &str) -> Failure {
        let command = self.document.scope.work.command();
        Failure::usage(format!("the plan is one of {command}, not of {called}"))
            .hint(format!("Give it to `strongroom {command}`."))
    }

    /// The same for --json.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "plan": self.digest, "id": self.document.id,
            "operators": self.operators().collect::<Vec<_>>(),
        })
    }
}

/// Finds the approval that an interrupted restore began with; refused where one is needed and there is none.
pub(crate) fn of_interrupted(
    session: &Session<'_>,
    plan: &RestorePlan,
    backups: &[ReadEnvelope],
) -> Result<Option<Approved>, Failure> {
    let Some(rule) = &session.config.approvals else {
        return Ok(None);
    };
    for used in record::all(session)? {
        // Verified again: who can write to the state directory approves nothing by that.
        let named: Vec<(String, Vec<u8>)> = used
            .signatures
            .into_iter()
            .map(|signature| (String::new(), signature))
            .collect();
        let Ok(approved) = Approved::verify(rule, used.plan, &named) else {
            continue;
        };
        let (Work::Restore(work) | Work::Export(work)) = &approved.document.scope.work else {
            continue;
        };
        if work.is_of(plan, backups) {
            approved.tell(session);
            return Ok(Some(approved));
        }
    }
    let message = "no approved plan is on record for the restore that was interrupted";
    Err(Failure::new(Exit::Refused, "approval", message).hint(
        "`strongroom restore --undo` goes back; then begin anew with a plan that operators have signed.",
    ))
}

/// The parts of a backup that these readers read.
pub(crate) fn envelopes(
    session: &Session<'_>,
    run: &Run,
    readers: &[(&str, BackupReader<'_>)],
) -> Vec<ReadEnvelope> {
    let is_read = |name: &str| readers.iter().any(|(repository, _)| *repository == name);
    let parts = run.envelopes.iter().filter(|(name, _)| is_read(name));
    parts
        .map(|(name, stored)| ReadEnvelope {
            repository: name.clone(),
            url: session
                .config
                .repositories
                .get(name)
                .map(|config| config.url.clone())
                .unwrap_or_default(),
            writer: stored.envelope.writer,
            sequence: stored.envelope.sequence,
            envelope: stored.digest,
        })
        .collect()
}

const NEW_PLAN: &str = "Nothing was changed. Make a new plan with --plan, and have it signed.";

/// Arguments beside a signed plan.
pub(crate) fn contradicted() -> Failure {
    Failure::usage("the plan says what is done; nothing else can be said beside it")
        .hint("With --approval, leave out backup, assets and places.")
}

fn missing(rule: &Approvals) -> Failure {
    let operators = match rule.needed {
        1 => "1 operator".to_owned(),
        needed => format!("{needed} operators"),
    };
    let message = format!("{operators} must approve the plan first; nothing was changed");
    Failure::new(Exit::Refused, "approval", message).hint(
        "Write the plan with --plan FILE, let operators sign it, and give the plan and each signature: --plan FILE --approval FILE.sig.",
    )
}

fn scope(
    session: &Session<'_>,
    rule: &Approvals,
    read: &ReadOptions,
    work: Work,
) -> Result<Scope, Failure> {
    let host = rustix::system::uname();
    let operators = rule.operators.iter();
    Ok(Scope {
        deployment: session.config.deployment.name.clone(),
        host: host.nodename().to_string_lossy().into_owned(),
        state: record::state_name(&session.config.writer.state_dir)?,
        tool: TOOL.to_owned(),
        approvals: rule.needed,
        operators: operators
            .map(|(name, key)| (name.clone(), key.fingerprint()))
            .collect(),
        from: read.from.clone(),
        as_of: read.as_of,
        work,
    })
}

fn now(session: &Session<'_>) -> Timestamp {
    whole_seconds(session.around.clock.now())
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let file = std::fs::File::open(path).map_err(io("open", path))?;
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(io("read", path))?;
    if bytes.len() as u64 > most {
        let message = format!("{} is longer than {most} bytes", path.display());
        return Err(Failure::new(Exit::Refused, "approval", message));
    }
    Ok(bytes)
}
