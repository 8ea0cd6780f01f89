//! `strongroom custody create`: the ceremony. An identity is made, split, proved and forgotten.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use age::armor::{ArmoredWriter, Format};
use clap::Args;
use serde_json::json;
use strongroom_core::clock::{Clock as _, whole_seconds};
use strongroom_core::custody::{CUSTODIANS_MAX, CustodyError, CustodyRecord, Dealt, Share, deal};
use strongroom_core::format::seal::{BoxedRecipient, plugin_ended, plugin_says};
use strongroom_core::format::writer_key::WriterKey;
use strongroom_core::private_file;

use super::session_if_any;
use crate::command::backup::TOOL;
use crate::config::{RecipientError, is_valid_name, parse_recipient};
use crate::custody::{Records, paper_sheet};
use crate::failure::{Exit, Failure, io};
use crate::session::Surroundings;
use crate::sheet::write_new;

/// Arguments of `custody create`.
#[derive(Args)]
pub(crate) struct CreateArgs {
    /// What the identity is called: `ca-keys`
    name: String,
    /// How many custodians open it together
    #[arg(long, value_name = "N")]
    threshold: u8,
    /// A custodian and the recipient that the share is sealed to; may be given several times
    #[arg(long, value_name = "NAME=RECIPIENT")]
    custodian: Vec<String>,
    /// A custodian whose share is printed on a sheet, HTML and PDF; may be given several times
    #[arg(long, value_name = "NAME")]
    paper: Vec<String>,
    /// The directory for shares, sheets and the custody record; made when it is missing
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Allow --threshold 1: every custodian opens everything alone, unseen by the others
    #[arg(long)]
    each_opens_alone: bool,
}

/// A custodian and where the share goes.
struct Holder {
    name: String,
    recipient: Option<(String, BoxedRecipient)>,
}

pub(crate) fn run(args: &CreateArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let holders = holders(args)?;
    check_threshold(args, holders.len())?;
    let session = session_if_any(around)?;
    let key = match &session {
        Some(session) if session.config.writer.key_file.exists() => session.writer_key()?,
        // A machine of its own: the record brings this key with it, and the shares prove themselves.
        _ => WriterKey::generate()?,
    };
    private_file::create_dir_all(&args.out).map_err(io("create", &args.out))?;
    let stem = |holder: &str| args.out.join(format!("{}.{holder}", args.name));
    let record_path = args.out.join(format!("{}.custody.json", args.name));
    let paths = paths(&holders, &stem, &record_path);
    refuse_what_exists(&paths)?;

    let dealt = deal(args.threshold, holders.len()).map_err(|error| match error {
        CustodyError::Format(error) => error.into(),
        error => Failure::new(Exit::Failed, "custody", error.to_string()),
    })?;
    let listed = holders.iter().map(|holder| {
        let recipient = holder.recipient.as_ref().map(|(text, _)| text.clone());
        (holder.name.clone(), recipient)
    });
    let now = whole_seconds(around.clock.now());
    let listed: Vec<_> = listed.collect();
    let record = CustodyRecord::new(&args.name, &dealt, &listed, now, TOOL, &key.signing)?;
    let signed = record.sign(&key.signing);
    let write = || {
        let mut written = Vec::new();
        for (holder, share) in holders.iter().zip(&dealt.shares) {
            let stem = stem(&holder.name);
            let files = match &holder.recipient {
                Some((_, recipient)) => {
                    let sealed = seal(share, &record, &**recipient, &stem);
                    vec![sealed.map_err(|failure| {
                        failure.context(format_args!("custodian {}", holder.name))
                    })?]
                }
                None => paper_sheet(share, &record).write(&stem)?.to_vec(),
            };
            written.push((holder.name.clone(), files));
        }
        write_new(&record_path, &signed)?;
        if let Some(session) = &session {
            Records::of(&session.config.writer.state_dir).keep(&record, &signed)?;
        }
        Ok::<_, Failure>(written)
    };
    let written = write().inspect_err(|_| {
        // Shares of a set that is not whole are of no use. None of these files was there before.
        for path in &paths {
            let _ = std::fs::remove_file(path);
        }
    })?;
    tell(around, &record, &dealt, &written, &record_path);
    Ok(Exit::Done)
}

fn holders(args: &CreateArgs) -> Result<Vec<Holder>, Failure> {
    let mut holders = Vec::new();
    for text in &args.custodian {
        let Some((name, recipient)) = text.split_once('=') else {
            return Err(Failure::usage("a custodian is written NAME=RECIPIENT")
                .hint("For a share on paper: --paper NAME."));
        };
        let recipient = recipient.trim();
        let sealed = parse_recipient(recipient).map_err(|error| unusable(error, name))?;
        holders.push(Holder {
            name: name.to_owned(),
            recipient: Some((recipient.to_owned(), sealed)),
        });
    }
    holders.extend(args.paper.iter().map(|name| Holder {
        name: name.clone(),
        recipient: None,
    }));
    let all = std::iter::once(&args.name).chain(holders.iter().map(|holder| &holder.name));
    for name in all {
        if !is_valid_name(name) {
            return Err(Failure::usage(format!("the name {name:?} is not valid"))
                .hint("A name is 1 to 64 characters long and made of a-z, 0-9 and \"-\"."));
        }
    }
    for (index, holder) in holders.iter().enumerate() {
        let before = &holders[..index];
        if before.iter().any(|other| other.name == holder.name) {
            return Err(Failure::usage(format!(
                "custodian {} is given twice",
                holder.name
            )));
        }
        let recipient = |one: &Holder| one.recipient.as_ref().map(|(text, _)| text.clone());
        let same =
            |other: &&Holder| recipient(other).is_some() && recipient(other) == recipient(holder);
        if let Some(other) = before.iter().find(same) {
            let message = format!("{} and {} have the same recipient", other.name, holder.name);
            return Err(Failure::usage(message).hint(
                "Whoever holds its identity would hold both shares; each custodian makes his own.",
            ));
        }
    }
    Ok(holders)
}

fn unusable(error: RecipientError, name: &str) -> Failure {
    let is_missing = matches!(error, RecipientError::PluginMissing { .. });
    let failure = Failure::from(error).context(format_args!("custodian {name}"));
    if is_missing {
        failure.hint("Install the plugin on this machine, in the PATH of this command. Sealing needs the program, not the custodian's device.")
    } else {
        failure
    }
}

fn check_threshold(args: &CreateArgs, count: usize) -> Result<(), Failure> {
    let threshold = usize::from(args.threshold);
    if threshold == 0 || threshold > count || count > usize::from(CUSTODIANS_MAX) {
        let message = format!("{threshold} of {count} custodians is not possible");
        return Err(Failure::usage(message).hint(format!(
            "Name 1 to {CUSTODIANS_MAX} custodians with --custodian and --paper, and a threshold up to their number."
        )));
    }
    if threshold == 1 && !args.each_opens_alone {
        let message = "with a threshold of 1 every custodian opens everything alone";
        return Err(Failure::usage(message)
            .hint("Choose 2 or more; if that is what you want, say --each-opens-alone."));
    }
    Ok(())
}

/// All files that will be written.
fn paths(holders: &[Holder], stem: &dyn Fn(&str) -> PathBuf, record: &Path) -> Vec<PathBuf> {
    let mut paths = vec![record.to_owned()];
    for holder in holders {
        let endings: &[&str] = match holder.recipient {
            Some(_) => &[SEALED],
            None => &[".html", ".pdf"],
        };
        let stem = stem(&holder.name);
        paths.extend(endings.iter().map(|ending| with_ending(&stem, ending)));
    }
    paths
}

/// Nothing is made when something would be in its way.
fn refuse_what_exists(paths: &[PathBuf]) -> Result<(), Failure> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(path) => {
            let message = format!("{} exists already; nothing was made", path.display());
            Err(Failure::new(Exit::Refused, "exists", message)
                .hint("Name another directory; shares are never overwritten."))
        }
    }
}

const SEALED: &str = ".share.age";

fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Seals a share to its custodian, as an armored age file.
fn seal(
    share: &Share,
    record: &CustodyRecord,
    recipient: &(dyn age::Recipient + Send + Sync),
    stem: &Path,
) -> Result<PathBuf, Failure> {
    let path = with_ending(stem, SEALED);
    let failed = |error: &dyn std::fmt::Display| {
        let message = format!("cannot seal {}: {error}", path.display());
        Failure::new(Exit::Failed, "seal", message)
    };
    let recipients = std::iter::once(recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(|error| {
        let why = match &error {
            age::EncryptError::Io(error) => plugin_ended(error),
            error => plugin_says(&error.to_string()),
        };
        failed(&why).hint("The recipient, or its plugin, does not take the share. Nothing was made; see to it and try again.")
    })?;
    let sealed = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)
        .and_then(|armor| encryptor.wrap_output(armor))
        .and_then(|mut writer| {
            writer.write_all(share.to_file(record).as_bytes())?;
            writer.finish()?.finish()
        })
        .map_err(|error| failed(&error))?;
    write_new(&path, &sealed)?;
    Ok(path)
}

fn tell(
    around: &Surroundings,
    record: &CustodyRecord,
    dealt: &Dealt,
    written: &[(String, Vec<PathBuf>)],
    record_path: &Path,
) {
    let report = &around.report;
    report.line(format!(
        "The identity {} is split: any {} of {} custodians open it. All {} quorums were tried, and it is forgotten.",
        record.name,
        record.threshold,
        record.custodians.len(),
        dealt.quorums
    ));
    for (name, files) in written {
        let files: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        report.line(format!("  {name}: {}", files.join(", ")));
    }
    report.line(format!(
        "  the custody record, without secrets: {}",
        record_path.display()
    ));
    if !dealt.is_locked {
        report.problem("the system does not lock memory here (RLIMIT_MEMLOCK): the identity may have reached swap");
    }
    report.line("Give each custodian the file or sheet, delete it here, and let each rehearse. For the configuration:");
    report.answer(format!("recipients = [\"{}\"]", record.recipient));
    let files: Vec<_> = written
        .iter()
        .map(|(name, files)| json!({ "custodian": name, "files": files }))
        .collect();
    report.document(json!({
        "name": record.name, "set": record.set, "recipient": record.recipient, "threshold": record.threshold,
        "custodians": files, "record": record_path, "quorums_proved": dealt.quorums,
        "memory_locked": dealt.is_locked,
    }));
}
