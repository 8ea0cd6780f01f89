//! The identities of a command that opens backups: given as such, or by a quorum of custodians.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;
use strongroom_core::clock::{Clock as _, whole_seconds};
use strongroom_core::custody::{Opening, Refusal, Statement as _};
use strongroom_core::format::seal::BoxedIdentity;
use strongroom_core::repository::Repository;

use super::gathering::{Gathered, Gathering};
use super::socket::QuorumSocket;
use super::{Records, read_file, read_record, typed};
use crate::cli::IdentityOptions;
use crate::command::backup::TOOL;
use crate::failure::{Exit, Failure};
use crate::session::Session;

/// What identities are wanted for; it is put on record when custodians give them.
pub(crate) struct Purpose<'p> {
    /// The command: `restore`.
    pub(crate) command: &'static str,
    /// The backup, as it was asked for or found.
    pub(crate) target: &'p str,
}

impl Session<'_> {
    /// The identities that open these repositories: from files and the terminal, or put together from shares.
    pub(crate) fn identities(
        &self,
        options: &IdentityOptions,
        repositories: &BTreeMap<String, Repository>,
        purpose: &Purpose<'_>,
    ) -> Result<Vec<BoxedIdentity>, Failure> {
        if !options.has_shares() {
            return self.around.identities(options);
        }
        let mut identities = if self.around.has_identity_file(options) {
            self.around.identities(options)?
        } else {
            Vec::new()
        };
        let records = Records::of(&self.config.writer.state_dir);
        // The shares open without them: what is damaged here must not keep a restore from going on.
        let told = |failure: Failure| self.around.report.failed_part(&failure);
        let mut known = records.all().unwrap_or_else(|failure| {
            told(failure);
            Vec::new()
        });
        for path in &options.custody_record {
            known.push(read_record(path)?);
        }
        let recipients: BTreeSet<&String> = repositories
            .values()
            .flat_map(Repository::all_recipients)
            .collect();
        let mut gathering = Gathering::new(known, recipients, options.quorums.max(1));
        self.gather(&mut gathering, options, &identities)?;
        if !gathering.is_complete() {
            let state = gathering.state().join("\n  ");
            let message = format!("too few shares\n  {state}");
            return Err(Failure::new(Exit::Refused, "too-few-shares", message).hint(
                "Give more of them: --share FILE, --type-shares, or --quorum-socket PATH to wait for the custodians.",
            ));
        }
        let revoked = records.revocations().unwrap_or_else(|failure| {
            told(failure);
            BTreeMap::new()
        });
        for set in gathering.into_sets() {
            if let Some(one) = revoked.get(&set.quorum.set()) {
                let (set, reason) = (one.set, &one.reason);
                self.around
                    .report
                    .problem(format!("the set {set} was revoked: {reason}"));
            }
            self.note_opening(&records, &set, purpose);
            if let Some(identity) = &set.identity {
                if !identity.is_locked() {
                    let text = "the system does not lock memory here (RLIMIT_MEMLOCK): the identity may reach swap";
                    self.around.report.problem(text);
                }
                identities.push(identity.to_identity());
            }
        }
        Ok(identities)
    }

    fn gather(
        &self,
        gathering: &mut Gathering,
        options: &IdentityOptions,
        identities: &[BoxedIdentity],
    ) -> Result<(), Failure> {
        let report = &self.around.report;
        let refused = |origin: &str, refusal: &Refusal| {
            report.problem(format!("{origin}: {refusal}. {}", refusal.hint()));
        };
        for path in &options.share {
            match read_file(path, identities) {
                Ok(text) => match gathering.offer(text, "file") {
                    Ok(said) => report.note(said),
                    Err(refusal) => refused(&path.display().to_string(), &refusal),
                },
                Err(failure) => report.failed_part(&failure),
            }
        }
        while options.type_shares && !gathering.is_complete() {
            self.around.cancel.check()?;
            for state in gathering.state() {
                eprintln!("{state}.");
            }
            // Without a terminal there is nobody to ask again.
            let text = match typed("a share") {
                Err(failure) if failure.code == "identity" => return Err(failure),
                text => text,
            };
            match text {
                Ok(text) => match gathering.offer(text, "terminal") {
                    Ok(said) => report.note(said),
                    Err(refusal) => refused("what was typed", &refusal),
                },
                Err(failure) => report.failed_part(&failure),
            }
        }
        if let Some(path) = &options.quorum_socket
            && !gathering.is_complete()
        {
            self.wait(gathering, path, options.quorum_group)?;
        }
        Ok(())
    }

    /// Waits for shares from other processes until there are enough.
    fn wait(&self, gathering: &mut Gathering, path: &Path, for_group: bool) -> Result<(), Failure> {
        let report = &self.around.report;
        let socket = QuorumSocket::bind(path, for_group)?;
        let tell = |event: &str, text: &str| {
            if report.json {
                eprintln!("{}", json!({ "event": event, "message": text }));
            } else {
                eprintln!("{text}");
            }
        };
        for state in gathering.state() {
            tell("state", &state);
        }
        let command = format!(
            "strongroom custody combine --socket {} --share FILE",
            path.display()
        );
        tell("waiting", &format!("Waiting for shares: {command}"));
        while !gathering.is_complete() {
            let heard = socket.next(&self.around.cancel, &mut |text, way| {
                gathering
                    .offer(text, way)
                    .map_err(|refusal| format!("{refusal}. {}", refusal.hint()))
            })?;
            match heard {
                Ok(said) => tell("share", &said),
                Err(why) => tell("refused", &why),
            }
        }
        Ok(())
    }

    /// Puts on record who took part, signed by each share. That must not keep a restore from going on.
    fn note_opening(&self, records: &Records, set: &Gathered, purpose: &Purpose<'_>) {
        let now = whole_seconds(self.around.clock.now());
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        for (share, way) in set.participants() {
            let opening = Opening {
                format: strongroom_core::format::VERSION,
                set: share.set(),
                index: share.index(),
                time: now,
                command: purpose.command.to_owned(),
                target: purpose.target.to_owned(),
                deployment: self.config.deployment.name.clone(),
                host: host.clone(),
                user: format!("uid {}", rustix::process::getuid().as_raw()),
                given: way.clone(),
                tool: TOOL.to_owned(),
            };
            let noted = opening.sign(share).map_err(Failure::from);
            if let Err(failure) = noted.and_then(|signed| records.add_opening(&signed)) {
                let failure = failure.context("who took part is not on record");
                self.around.report.failed_part(&failure);
            }
        }
        let report = &self.around.report;
        for one in &set.false_shares {
            report.problem(format!("{one} is false; find out how it came to be"));
        }
    }
}
