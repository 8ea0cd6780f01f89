//! `strongroom restore`: shows the plan of a restore; with --apply carries it out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom_adapters::source::pkcs11::TokenUri;
use strongroom_core::execute::restore::journal::Journal;
use strongroom_core::execute::restore::observe::observe;
use strongroom_core::execute::restore::{
    self, Consent, FindRestorer, FindServer, FindToken, RestoreContext, RestoreReport,
    journal_directory,
};
use strongroom_core::format::manifest::StreamKind;
use strongroom_core::plan::approval::RestoreWork;
use strongroom_core::plan::restore::{RestoreAsset, RestorePlan, Target, plan_restore};
use strongroom_core::repository::Repository;
use strongroom_core::repository::state::DAMAGED;
use strongroom_core::source::server::{LoadOptions, OtherServer, OtherToken};

use crate::approval::{self, ApprovalOptions, Approved, Gate, Work};
use crate::cli::{IdentityOptions, ReadOptions};
use crate::custody::Purpose;
use crate::failure::{Exit, Failure, io};
use crate::opened;
use crate::report::{Progress, Report, bytes, shown_path, table};
use crate::runs::{Run, Runs};
use crate::session::{Session, Surroundings};

/// Arguments of `restore`.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of a command line")]
pub(crate) struct RestoreArgs {
    /// The backup; the newest complete one of all assets if none is named [default: latest]
    #[arg(hide_default_value = true)]
    label: Option<String>,
    /// The assets to restore; all if none is named
    #[arg(value_name = "ASSET")]
    assets: Vec<String>,
    /// Restore below this empty directory, as DIR/ASSET/PATH, in place of where everything was
    #[arg(long, value_name = "DIR")]
    to_dir: Option<PathBuf>,
    /// Load the one database of the asset into a new one of this name, on its server, and replace nothing
    #[arg(long, value_name = "NAME", conflicts_with = "to_dir")]
    to_database: Option<String>,
    /// Load only the rows of this table (SCHEMA.TABLE or TABLE); can be repeated
    #[arg(long = "table", value_name = "TABLE", requires = "to_database")]
    tables: Vec<String>,
    /// Give what belonged to one role to another; can be repeated
    #[arg(long = "map-role", value_name = "OLD=NEW", value_parser = role_pair)]
    roles: Vec<(String, String)>,
    /// Restore databases into the server at this URL, in place of the asset's own
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The file with the password for --server
    #[arg(long, value_name = "FILE", requires = "server")]
    server_password_file: Option<PathBuf>,
    /// Put keys into the token with this URI (pkcs11:token=LABEL;serial=NUMBER), in place of the asset's own
    #[arg(long, value_name = "URI", conflicts_with = "to_dir")]
    token: Option<String>,
    /// The file with the PIN for --token
    #[arg(long, value_name = "FILE", requires = "token")]
    pin_file: Option<PathBuf>,
    /// Carry out the plan
    #[arg(long)]
    apply: bool,
    /// Go on with a restore that was interrupted
    #[arg(long, conflicts_with_all = ["apply", "undo", "sign_off", "plan"])]
    resume: bool,
    /// Put back what the last restore replaced, and take out of a token what it put in
    #[arg(long, conflicts_with_all = ["apply", "sign_off", "plan"])]
    undo: bool,
    /// End the last restore: delete what it replaced; there is no way back after that
    #[arg(long, conflicts_with_all = ["apply", "plan"])]
    sign_off: bool,
    #[command(flatten)]
    approval: ApprovalOptions,
    #[command(flatten)]
    read: ReadOptions,
    #[command(flatten)]
    identity: IdentityOptions,
}

impl RestoreArgs {
    /// The latest backup, in place, at once.
    pub(crate) fn apply_latest(identities: &[PathBuf]) -> Self {
        Self {
            label: None,
            assets: Vec::new(),
            to_dir: None,
            to_database: None,
            tables: Vec::new(),
            roles: Vec::new(),
            server: None,
            server_password_file: None,
            token: None,
            pin_file: None,
            apply: true,
            resume: false,
            undo: false,
            sign_off: false,
            approval: ApprovalOptions::default(),
            read: ReadOptions::default(),
            identity: IdentityOptions {
                identity: identities.to_vec(),
                ..IdentityOptions::default()
            },
        }
    }
}

/// What is asked for, by arguments or by a plan that operators signed.
struct Request {
    label: String,
    assets: Vec<String>,
    target: Target,
    options: LoadOptions,
    read: ReadOptions,
}

impl Request {
    fn by_arguments(args: &RestoreArgs) -> Result<Self, Failure> {
        Ok(Self {
            label: args.label.clone().unwrap_or_else(|| "latest".to_owned()),
            assets: args.assets.clone(),
            target: target(args)?,
            options: options(args)?,
            read: args.read.clone(),
        })
    }

    /// The plan says it all; arguments beside it could only contradict.
    fn by_plan(args: &RestoreArgs, approved: &Approved) -> Result<Self, Failure> {
        let is_plain = args.label.is_none()
            && args.to_dir.is_none()
            && args.to_database.is_none()
            && args.roles.is_empty()
            && args.server.is_none()
            && args.token.is_none()
            && args.read == ReadOptions::default();
        if !is_plain {
            return Err(approval::contradicted());
        }
        let scope = &approved.document.scope;
        let Work::Restore(work) = &scope.work else {
            return Err(approved.of_another_command("restore"));
        };
        Ok(Self {
            label: work.label.to_string(),
            assets: work.assets.clone(),
            target: work.target.clone(),
            options: work.options.clone(),
            read: approved.read_options(),
        })
    }
}

pub(crate) fn run(args: &RestoreArgs, around: &Surroundings) -> Result<Exit, Failure> {
    if args.resume || args.undo || args.sign_off {
        let session = around.session_reading(&args.read)?;
        let _lock = session.lock()?;
        let target = target(args)?;
        return if args.resume {
            resume(args, &session, &target)
        } else {
            end(&session, &target, args.undo)
        };
    }
    let gate = Gate::find(&around.session()?, &args.approval, args.apply)?;
    let request = match gate.approved() {
        Some(approved) => Request::by_plan(args, approved)?,
        None => Request::by_arguments(args)?,
    };
    let session = around.session_reading(&request.read)?;
    let state = &session.config.writer.state_dir;
    let _lock = if args.apply {
        Some(session.lock()?)
    } else {
        None
    };
    let (target, only, options) = (&request.target, &request.assets, &request.options);
    let journal = Journal::open(&journal_directory(target, state))?;
    let repositories = session.repositories_for(only)?;
    let runs = read_runs(&session, &repositories)?;
    let run = runs.find(&request.label, only)?;
    let purpose = Purpose {
        command: "restore",
        target: run.label.as_str(),
    };
    let identities = session.identities(&args.identity, &repositories, &purpose)?;
    let readers = opened::open(run, &repositories, only, &identities)?;
    let progress = Progress::new(&around.report);
    let restorers = session.find_restorer();
    let (servers, tokens) = (session.find_server(), session.find_token());
    let context = context(around, &progress, (&restorers, &servers, &tokens));

    let assets: Vec<RestoreAsset> = opened::assets(&readers, only)?
        .iter()
        .map(opened::OpenedAsset::outline)
        .collect();
    let finders: Finders<'_> = (&restorers, &servers, &tokens);
    let world = observe(target, &assets, options, finders)?;
    let mut plan = plan_restore(run.label.clone(), target.clone(), options, &assets, &world);
    plan.warnings.extend(run.missing_parts(only));
    if let Some(journal) = journal {
        plan.refusals.push(format!(
            "the restore of {} is {}; end it with {}",
            journal.plan().label,
            journal.phase(),
            journal.phase().ways_on()
        ));
    }
    print_plan(&around.report, &plan);
    let damage = found_damaged(&session, run, readers.iter().map(|(name, _)| *name))?;
    for warning in &damage {
        around.report.problem(warning);
    }
    let envelopes = approval::envelopes(&session, run, &readers);
    let work = Work::Restore(RestoreWork::of(&plan, only, envelopes));
    if !args.apply {
        let is_refused = !plan.refusals.is_empty();
        around.report.line(if is_refused {
            "Nothing was changed. The plan is refused, for the reasons above."
        } else {
            "Nothing was changed. With --apply, the plan is carried out."
        });
        let mut document = plan_document(&plan, &assets);
        document["warnings"] = json!([plan.warnings.as_slice(), &damage].concat());
        if !is_refused && let Some(written) = gate.write(&session, &request.read, work)? {
            document["plan"] = written;
        }
        around.report.document(document);
        return Ok(if is_refused {
            Exit::Refused
        } else {
            Exit::Done
        });
    }
    let consent = Consent::to(&plan)?;
    if let Some(approved) = gate.approved() {
        approved.compare(&session, &request.read, work)?;
        approved.use_up(&session)?;
    }
    let readers: Vec<_> = readers.into_iter().map(|(_, reader)| reader).collect();
    let done = restore::restore(&consent, state, &readers, &context);
    let mut done = done.map_err(|error| of_target(error, target))?;
    done.problems.extend(run.gaps(only));
    let told = (plan.warnings.as_slice(), gate.approved());
    Ok(finish(around, run.label.as_str(), target, &done, told))
}

/// Goes on with the restore that was interrupted.
fn resume(args: &RestoreArgs, session: &Session<'_>, target: &Target) -> Result<Exit, Failure> {
    let around = session.around;
    let directory = journal_directory(target, &session.config.writer.state_dir);
    let journal = Journal::open(&directory)?.ok_or(restore::RestoreError::NothingToDo)?;
    let plan = journal.plan();
    let databases = plan.databases.iter().map(|database| &database.asset);
    let items = plan.items.iter().map(|item| &item.asset);
    let in_tokens = plan.tokens.iter().map(|token| &token.asset);
    let mut only: Vec<String> = databases.chain(items).chain(in_tokens).cloned().collect();
    only.dedup();
    let repositories = session.repositories_for(&only)?;
    let runs = read_runs(session, &repositories)?;
    let run = runs.find(plan.label.as_str(), &only)?;
    let purpose = Purpose {
        command: "restore",
        target: run.label.as_str(),
    };
    let identities = session.identities(&args.identity, &repositories, &purpose)?;
    let readers = opened::open(run, &repositories, &only, &identities)?;
    let envelopes = approval::envelopes(session, run, &readers);
    let approved = approval::of_interrupted(session, plan, &envelopes)?;
    drop(journal);

    let progress = Progress::new(&around.report);
    let restorers = session.find_restorer();
    let (servers, tokens) = (session.find_server(), session.find_token());
    let readers: Vec<_> = readers.into_iter().map(|(_, reader)| reader).collect();
    let context = context(around, &progress, (&restorers, &servers, &tokens));
    let done = restore::resume(&directory, &readers, &context);
    let mut done = done.map_err(|error| of_target(error, target))?;
    // The journal names every asset; a restore of all that there is was one without names.
    let named = if run.is_all(&only) {
        &[]
    } else {
        only.as_slice()
    };
    done.problems.extend(run.gaps(named));
    let told = (&[][..], approved.as_ref());
    Ok(finish(around, run.label.as_str(), target, &done, told))
}

/// Where a verification on this host has found the backup damaged, a sentence each.
fn found_damaged<'n>(
    session: &Session<'_>,
    run: &Run,
    repositories: impl Iterator<Item = &'n str>,
) -> Result<Vec<String>, Failure> {
    let mut told = Vec::new();
    for name in repositories {
        let verified = session.state(name).verified()?;
        if let Some(found) = verified.get(&run.label)
            && found.level == DAMAGED
        {
            told.push(format!(
                "backup {} in repository {name} was found damaged on {}; restore from a copy with --from, or an older label",
                run.label,
                found.time.strftime("%F")
            ));
        }
    }
    Ok(told)
}

/// Reads all runs, and tells what is wrong with their history.
fn read_runs(
    session: &Session<'_>,
    repositories: &BTreeMap<String, Repository>,
) -> Result<Runs, Failure> {
    let runs = Runs::read(session, repositories)?;
    for problem in &runs.problems {
        session.around.report.problem(problem);
    }
    Ok(runs)
}

/// What finds restorers, servers and tokens.
pub(crate) type Finders<'c> = (FindRestorer<'c>, FindServer<'c>, FindToken<'c>);

/// What a restore works with; also for `export` and `demo`.
pub(crate) fn context<'c>(
    around: &'c Surroundings,
    progress: &'c Progress,
    (restorers, servers, tokens): Finders<'c>,
) -> RestoreContext<'c> {
    RestoreContext {
        restorers,
        servers,
        tokens,
        cancel: &around.cancel,
        observer: progress,
        before_step: &|_| Ok(()),
    }
}

/// A restore that stopped, with hints that can be typed as they are: they name its target again.
fn of_target(error: restore::RestoreError, target: &Target) -> Failure {
    let failure = Failure::from(error);
    let Some(hint) = &failure.hint else {
        return failure;
    };
    let option = match target {
        Target::InPlace => String::new(),
        Target::Directory(directory) => format!("--to-dir {} ", directory.display()),
        Target::Database(name) => format!("--to-database {name} "),
    };
    let mut hint = hint.replace(
        "`strongroom restore --",
        &format!("`strongroom restore {option}--"),
    );
    if hint.contains("--resume") {
        hint.push_str(" To resume takes the identities again.");
    }
    failure.hint(hint)
}

fn target(args: &RestoreArgs) -> Result<Target, Failure> {
    if let Some(name) = &args.to_database {
        return Ok(Target::Database(name.clone()));
    }
    let Some(directory) = &args.to_dir else {
        return Ok(Target::InPlace);
    };
    let absolute = std::path::absolute(directory).map_err(io("resolve", directory))?;
    Ok(Target::Directory(absolute))
}

fn options(args: &RestoreArgs) -> Result<LoadOptions, Failure> {
    let absolute = |file: &Option<PathBuf>| match file {
        Some(file) => std::path::absolute(file)
            .map(Some)
            .map_err(io("resolve", file)),
        None => Ok(None),
    };
    let password_file = absolute(&args.server_password_file)?;
    let pin_file = absolute(&args.pin_file)?;
    if let Some(Err(error)) = args.token.as_ref().map(|uri| TokenUri::parse(uri)) {
        return Err(Failure::usage(format!("--token: {error}"))
            .hint("It has the form pkcs11:token=LABEL;serial=NUMBER."));
    }
    Ok(LoadOptions {
        tables: args.tables.iter().cloned().collect(),
        roles: args.roles.iter().cloned().collect(),
        server: args.server.as_ref().map(|url| OtherServer {
            url: url.clone(),
            password_file,
        }),
        token: args.token.as_ref().map(|uri| OtherToken {
            uri: uri.clone(),
            pin_file,
        }),
    })
}

fn role_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => {
            Ok((old.to_owned(), new.to_owned()))
        }
        _ => Err("write it as OLD=NEW".to_owned()),
    }
}

fn end(session: &Session<'_>, target: &Target, undo: bool) -> Result<Exit, Failure> {
    let around = session.around;
    let directory = journal_directory(target, &session.config.writer.state_dir);
    let progress = Progress::new(&around.report);
    let restorers = session.find_restorer();
    let (servers, tokens) = (session.find_server(), session.find_token());
    let context = context(around, &progress, (&restorers, &servers, &tokens));
    let report = if undo {
        restore::undo(&directory, &context)?
    } else {
        restore::sign_off(&directory, &context)?
    };
    for note in &report.notes {
        around.report.note(note);
    }
    around.report.line(if undo {
        "Undone: everything is as it was before the restore.".to_owned()
    } else if report.items == 0 {
        "Signed off.".to_owned()
    } else {
        format!(
            "Signed off: what was replaced is deleted, {} items.",
            report.items
        )
    });
    let action = if undo { "undo" } else { "sign-off" };
    around
        .report
        .document(json!({ "action": action, "items": report.items, "notes": report.notes }));
    Ok(Exit::Done)
}

/// What a plan does with one asset.
#[derive(Default)]
struct Counts {
    items: u64,
    bytes: u64,
    new: u64,
    replaced: u64,
}

/// The row of an asset, in the order in which they come up.
fn row_of<'r, 'p>(rows: &'r mut Vec<(&'p str, Counts)>, asset: &'p str) -> &'r mut Counts {
    let place = rows.iter().position(|(name, _)| *name == asset);
    let place = place.unwrap_or_else(|| {
        rows.push((asset, Counts::default()));
        rows.len() - 1
    });
    &mut rows[place].1
}

/// Shows a plan to people; also for `export`.
pub(crate) fn print_plan(report: &Report, plan: &RestorePlan) {
    let mut rows: Vec<(&str, Counts)> = Vec::new();
    for database in &plan.databases {
        let row = row_of(&mut rows, &database.asset);
        row.items += 1;
        row.bytes += database.size_bytes;
        match database.replaces {
            Some(_) => row.replaced += 1,
            None => row.new += 1,
        }
    }
    for item in &plan.items {
        let row = row_of(&mut rows, &item.asset);
        row.items += 1;
        row.bytes += item.size_bytes;
        match (item.kind, &item.replaces) {
            (StreamKind::Directory, _) => {}
            (_, Some(_)) => row.replaced += 1,
            (_, None) => row.new += 1,
        }
    }
    for token in &plan.tokens {
        let row = row_of(&mut rows, &token.asset);
        for object in &token.objects {
            row.items += 1;
            row.bytes += object.size_bytes;
            row.new += u64::from(!object.is_there);
        }
    }
    let place = match &plan.target {
        Target::InPlace => "to where everything was".to_owned(),
        Target::Directory(directory) => format!("below {}", directory.display()),
        Target::Database(name) => format!("into the new database {name:?}"),
    };
    report.heading(&format!("Restore of {} {place}:", plan.label));
    let rows = rows.iter().map(|(name, row)| {
        vec![
            format!("  {name}"),
            row.items.to_string(),
            bytes(row.bytes),
            row.new.to_string(),
            row.replaced.to_string(),
        ]
    });
    report.line(table(
        &["  asset", ">items", ">size", ">new", ">replaced"],
        rows.collect(),
    ));
    for database in &plan.databases {
        let what = match &database.replaces {
            Some(seen) => format!("replaces ({} now) ", bytes(seen.size_bytes)),
            None => "creates ".to_owned(),
        };
        report.line(format!(
            "  {what}database {} at {}",
            database.name, database.server
        ));
    }
    print_tokens(report, plan);
    for item in plan
        .items
        .iter()
        .filter(|item| item.kind != StreamKind::Directory)
    {
        if report.verbose > 0 || item.replaces.is_some() {
            let what = if item.replaces.is_some() {
                "replaces"
            } else {
                "creates "
            };
            report.line(format!("  {what} {}", shown_path(&item.path)));
        }
    }
    for note in plan.notes.iter().chain(&plan.passing) {
        report.note(note);
    }
    for warning in &plan.warnings {
        report.problem(warning);
    }
    for refusal in &plan.refusals {
        report.problem(format!("refused: {refusal}"));
    }
}

fn print_tokens(report: &Report, plan: &RestorePlan) {
    for token in &plan.tokens {
        for object in &token.objects {
            let what = if object.is_there {
                "is there: "
            } else {
                "creates  "
            };
            report.line(format!("  {what}{}", object.object.what));
        }
        report.line(format!("  in {}", token.token));
    }
}

fn plan_document(plan: &RestorePlan, assets: &[RestoreAsset]) -> serde_json::Value {
    let items = plan.items.iter().map(|item| {
        json!({
            "asset": item.asset, "kind": item.kind, "path": shown_path(&item.path),
            "size_bytes": item.size_bytes, "replaces": item.replaces.is_some(),
        })
    });
    json!({
        "label": plan.label,
        "target": plan.target,
        "applied": false,
        "assets": assets.iter().map(|asset| json!({
            "name": asset.name, "class": asset.class, "repository": asset.repository,
            "complete": asset.complete,
        })).collect::<Vec<_>>(),
        "databases": plan.databases,
        "tokens": plan.tokens,
        "items": items.collect::<Vec<_>>(),
        "warnings": plan.warnings,
        "notes": plan.notes.iter().chain(&plan.passing).collect::<Vec<_>>(),
        "refusals": plan.refusals,
    })
}

/// Reports a restore and who approved it; what the plan has `told` already is not repeated.
fn finish(
    around: &Surroundings,
    label: &str,
    target: &Target,
    done: &RestoreReport,
    (told, approved): (&[String], Option<&Approved>),
) -> Exit {
    let report = &around.report;
    print_done(report, done, told);
    let place = match target {
        Target::InPlace => "in place".to_owned(),
        Target::Directory(directory) => format!("below {}", directory.display()),
        Target::Database(name) => format!("into the new database {name:?}"),
    };
    report.line(format!(
        "Restored {label} {place}: {} items, {}, every byte as it was captured.",
        done.items,
        bytes(done.bytes)
    ));
    if !done.awaits_sign_off && *target == Target::InPlace {
        report.line("Nothing was replaced, so there is nothing to sign off.");
    }
    if done.made_in_tokens > 0 {
        let objects = match done.made_in_tokens {
            1 => "1 object was".to_owned(),
            objects => format!("{objects} objects were"),
        };
        report.line(format!(
            "{objects} put into a token; nothing in it was replaced. Start the CA and look; then `strongroom restore \
             --sign-off` leaves it so and deletes what was replaced elsewhere, or `--undo` takes out of the token \
             what was put in and puts everything else back.",
        ));
    } else if done.awaits_sign_off {
        report.line(
            "What was replaced is kept. Start the CA and look; then `strongroom restore --sign-off` deletes it, or \
             `--undo` puts it back.",
        );
    }
    let mut document = json!({
        "label": label,
        "target": target,
        "applied": true,
        "items": done.items,
        "bytes": done.bytes,
        "shown": done.shown,
        "seconds": done.timings.iter().cloned().collect::<BTreeMap<_, _>>(),
        "problems": done.problems,
        "notes": done.notes,
        "made_in_tokens": done.made_in_tokens,
        "awaits_sign_off": done.awaits_sign_off,
    });
    if let Some(approved) = approved {
        document["approved"] = approved.to_json();
    }
    report.document(document);
    if done.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Problems
    }
}

/// What a restore has shown, for people.
pub(crate) fn print_done(report: &Report, done: &RestoreReport, told: &[String]) {
    for (asset, shown) in &done.shown {
        for line in shown {
            report.line(format!("  {asset}: {line}"));
        }
    }
    for (what, seconds) in &done.timings {
        report.line(format!("  {what} in {seconds:.1} s"));
    }
    for note in &done.notes {
        report.note(note);
    }
    for problem in done
        .problems
        .iter()
        .filter(|problem| !told.contains(problem))
    {
        report.problem(problem);
    }
}
