//! What a restored folder can still do, shown from its files alone.
//!
//! A failure ends nothing but what rests on the part that failed, and every failure is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::SigningKey as _;
use strongroom_core::clock::{Clock, whole_seconds};
use strongroom_core::error_chain;
use zeroize::Zeroizing;

use super::audit::{self, Event, Subject};
use super::authority::{issuer, new_certificate};
use super::config::Config;
use super::database::{self, Row};
use super::error::DemoError;
use super::x509::{self, Parsed};

/// Failures of one kind that are told one by one; the rest are counted.
const TOLD_ONE_BY_ONE: usize = 5;

/// What was shown and what was not, in sentences.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Proof {
    /// What holds.
    pub(crate) shown: Vec<String>,
    /// What does not hold, or could not be looked at.
    pub(crate) failures: Vec<String>,
}

/// Shows that the authority in `dir` works and that its parts agree; signs in memory only.
///
/// Only an unreadable configuration is an error: without it nothing can be looked at.
pub(crate) fn prove(dir: &Path, clock: &dyn Clock) -> Result<Proof, DemoError> {
    let config = Config::load(dir)?;
    let now = whole_seconds(clock.now());
    let mut proof = Proof::default();
    proof.take(secrets_are_private(&config));
    let certificate = Parsed::load(&config.paths.certificate);
    let root = Parsed::load(&config.paths.root_certificate);
    if let (Some(certificate), Some(root)) = (proof.keep(certificate), proof.keep(root)) {
        proof.take(path_holds(&certificate, &root));
        proof.take(root_key_signs(&config, &root));
        proof.take(key_issues(&config, &certificate, now));
        prove_records(&mut proof, &config, &certificate, now);
    } else {
        proof.failures.push(
            "No key, certificate or CRL could be verified without both CA certificates.".to_owned(),
        );
    }
    Ok(proof)
}

impl Proof {
    /// Whether something was shown and nothing failed.
    #[cfg(test)]
    pub(crate) fn holds(&self) -> bool {
        !self.shown.is_empty() && self.failures.is_empty()
    }

    fn take(&mut self, outcome: Result<String, Failure>) {
        match outcome {
            Ok(sentence) => self.shown.push(sentence),
            Err(Failure(sentences)) => self.failures.extend(sentences),
        }
    }

    fn keep<T>(&mut self, outcome: Result<T, DemoError>) -> Option<T> {
        outcome.map_err(|error| self.take(Err(error.into()))).ok()
    }
}

/// Why something could not be shown: whole sentences, at least one.
struct Failure(Vec<String>);

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        failure(&error_chain(&error))
    }
}

fn failure(text: &str) -> Failure {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    Failure(vec![format!(
        "{}.",
        first.into_iter().chain(letters).collect::<String>()
    )])
}

fn secrets_are_private(config: &Config) -> Result<String, Failure> {
    let paths = &config.paths;
    for path in [&paths.key, &paths.root_key, &paths.api_token] {
        let metadata = std::fs::metadata(path).map_err(DemoError::file("look at", path))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = path.display();
            return Err(failure(&format!(
                "{path} is open to others: its mode is {mode:o}"
            )));
        }
    }
    Ok("Both keys and the API token are readable by their owner only.".to_owned())
}

fn path_holds(certificate: &Parsed, root: &Parsed) -> Result<String, Failure> {
    root.check_issued_by(root, "the root certificate")?;
    certificate.check_issued_by(root, "the issuing CA's certificate")?;
    Ok("The issuing CA's certificate chains to the root.".to_owned())
}

fn root_key_signs(config: &Config, root: &Parsed) -> Result<String, Failure> {
    let nonce = x509::random::<32>()?;
    let signature = x509::load_key(&config.paths.root_key)?
        .sign(&nonce)
        .map_err(DemoError::sign("sign with the root key"))?;
    if !x509::verify_raw(&nonce, &signature, root.public_key()) {
        return Err(failure(
            "the root key does not belong to the root certificate",
        ));
    }
    Ok("The root key signs, and the root certificate verifies it.".to_owned())
}

fn key_issues(
    config: &Config,
    certificate: &Parsed,
    now: jiff::Timestamp,
) -> Result<String, Failure> {
    let probe = new_certificate(config, &issuer(config)?, 0, now)?;
    let what = "a probe certificate signed with the issuing CA's key";
    Parsed::from_der(&probe.der, what)?.check_issued_by(certificate, what)?;
    Ok("The issuing CA's key signed a probe certificate, and its certificate verifies it.".into())
}

/// The database, the CRL and the log: each for itself, then against each other.
fn prove_records(proof: &mut Proof, config: &Config, ca: &Parsed, now: jiff::Timestamp) {
    let paths = &config.paths;
    let events = proof.keep(audit::follow(&paths.audit_log));
    if let Some(events) = &events {
        proof.shown.push(format!(
            "The audit log is one unbroken chain of {} lines.",
            events.len()
        ));
    }
    let Some(connection) = proof.keep(database::open_to_read(&paths.database)) else {
        return;
    };
    proof.take(database_is_sound(&connection));
    proof.take(token_is_known(&connection, &paths.api_token));
    let rows = database::certificates(&connection).map_err(DemoError::database("read"));
    let crls = database::crls(&connection).map_err(DemoError::database("read"));
    let (Some(rows), Some(crls)) = (proof.keep(rows), proof.keep(crls)) else {
        return;
    };
    proof.take(certificates_verify(&rows, ca));
    proof.take(crl_holds(&paths.crl, ca, &rows, &crls, now));
    if let Some(events) = events {
        proof.take(log_agrees(events, &rows, &crls));
    }
}

fn database_is_sound(connection: &rusqlite::Connection) -> Result<String, Failure> {
    let complaint =
        database::complaint(connection).map_err(DemoError::database("check the pages of"))?;
    if let Some(complaint) = complaint {
        return Err(failure(&format!("the database is damaged: {complaint}")));
    }
    let version = database::schema_version(connection)
        .map_err(DemoError::database("find the schema version of"))?;
    if version.as_deref() != Some(database::SCHEMA_VERSION) {
        return Err(failure(
            "the database has a schema that this program does not know",
        ));
    }
    Ok(format!(
        "SQLite finds the database intact, at schema {}.",
        database::SCHEMA_VERSION
    ))
}

fn token_is_known(connection: &rusqlite::Connection, path: &Path) -> Result<String, Failure> {
    let token = std::fs::read_to_string(path).map_err(DemoError::file("read", path))?;
    let token = Zeroizing::new(token);
    let digest = x509::hex(&x509::sha256(token.trim_end().as_bytes()));
    let known =
        database::has_token(connection, &digest).map_err(DemoError::database("look up in"))?;
    if !known {
        return Err(failure("the API token is not the one the database knows"));
    }
    Ok("The API token is the one the database knows.".to_owned())
}

fn certificates_verify(rows: &[Row], ca: &Parsed) -> Result<String, Failure> {
    let failures = rows
        .iter()
        .filter_map(|row| certificate_verifies(row, ca).err())
        .flat_map(|Failure(sentences)| sentences)
        .collect();
    told(failures, "certificate")?;
    Ok(format!(
        "All {} certificates in the database are signed by the issuing CA and agree with their rows.",
        rows.len()
    ))
}

fn certificate_verifies(row: &Row, ca: &Parsed) -> Result<(), Failure> {
    let what = format!("certificate {}", row.serial);
    let parsed = Parsed::from_der(&row.der, &what)?;
    parsed.check_issued_by(ca, &what)?;
    let differs = |column: &str| failure(&format!("{what} differs from its column {column}"));
    let tbs = parsed.certificate.tbs_certificate();
    if parsed.serial() != row.serial {
        return Err(differs("serial"));
    }
    if tbs.subject().to_string() != row.subject {
        return Err(differs("subject"));
    }
    let validity = tbs.validity();
    if x509::rfc3339(validity.not_before) != row.not_before {
        return Err(differs("not_before"));
    }
    if x509::rfc3339(validity.not_after) != row.not_after {
        return Err(differs("not_after"));
    }
    Ok(())
}

fn crl_holds(
    path: &Path,
    ca: &Parsed,
    rows: &[Row],
    crls: &[(i64, Vec<u8>)],
    now: jiff::Timestamp,
) -> Result<String, Failure> {
    let der = std::fs::read(path).map_err(DemoError::file("read", path))?;
    x509::verify(&der, ca.public_key(), "the CRL")?;
    let crl = x509::parse_crl(&der)?;
    if crl.tbs_cert_list.issuer != *ca.certificate.tbs_certificate().subject() {
        return Err(failure("the CRL names another issuer"));
    }
    let number = x509::crl_number(&crl)?;
    match crls.last() {
        Some((newest, stored)) if *newest == number && *stored == der => {}
        Some((newest, _)) => {
            return Err(failure(&format!(
                "the published CRL has number {number}, and is not number {newest}, the newest in \
                 the database"
            )));
        }
        None => return Err(failure("the database knows no CRL")),
    }

    let this_update = x509::rfc3339(crl.tbs_cert_list.this_update);
    let listed = x509::crl_entries(&crl);
    let revoked: BTreeMap<&str, &Row> = rows
        .iter()
        .filter(|row| row.revoked.is_some())
        .map(|row| (row.serial.as_str(), row))
        .collect();
    let mut failures = Vec::new();
    for (serial, entry) in &listed {
        let row = revoked.get(serial.as_str());
        match row.and_then(|row| row.revoked.as_ref()) {
            Some(revocation) if revocation == entry => {}
            Some(_) => failures.push(format!(
                "The CRL lists {serial} for another reason or at another time than the database."
            )),
            None => failures.push(format!(
                "The CRL lists {serial}, which the database has not revoked."
            )),
        }
    }
    let mut waiting = 0;
    for (serial, row) in revoked {
        if listed.contains_key(serial) || row.not_after <= this_update {
            continue;
        }
        match &row.revoked {
            Some((at, _)) if *at < this_update => {
                failures.push(format!(
                    "The CRL does not list {serial}, revoked before it."
                ));
            }
            _ => waiting += 1,
        }
    }
    told(failures, "revocation")?;
    let next_update = crl.tbs_cert_list.next_update.map(x509::rfc3339);
    Ok(crl_sentence(
        number,
        listed.len(),
        waiting,
        next_update,
        now,
    ))
}

fn crl_sentence(
    number: i64,
    listed: usize,
    waiting: usize,
    next_update: Option<String>,
    now: jiff::Timestamp,
) -> String {
    let mut text = format!(
        "CRL number {number} is signed by the issuing CA and lists {listed} revoked certificates, \
         as the database does"
    );
    if waiting > 0 {
        let _ = write!(text, "; {waiting} more wait for the next CRL");
    }
    if let Some(until) = next_update {
        let verb = if until > now.to_string() { "is" } else { "was" };
        let _ = write!(text, "; it {verb} good until {until}");
    }
    text.push('.');
    text
}

fn log_agrees(
    events: Vec<(Event, Subject)>,
    rows: &[Row],
    crls: &[(i64, Vec<u8>)],
) -> Result<String, Failure> {
    let logged: BTreeSet<(Event, Subject)> = events
        .into_iter()
        .filter(|(event, _)| *event != Event::AuthorityCreated)
        .collect();
    let mut held = BTreeSet::new();
    for row in rows {
        let subject = Subject::Serial(row.serial.clone());
        if row.revoked.is_some() {
            held.insert((Event::CertificateRevoked, subject.clone()));
        }
        held.insert((Event::CertificateIssued, subject));
    }
    for (number, _) in crls {
        held.insert((Event::CrlPublished, Subject::Crl(*number)));
    }
    let lost = logged.difference(&held).map(|(event, subject)| {
        format!("The database has lost an event of the log: {event} {subject}.")
    });
    let unlogged = held.difference(&logged).map(|(event, subject)| {
        format!("The audit log lacks an event of the database: {event} {subject}.")
    });
    told(lost.chain(unlogged).collect(), "event")?;
    Ok(format!(
        "Every one of {} issuances, revocations and CRLs stands in the database and in the log.",
        held.len()
    ))
}

/// Passes where there is no failure; shortens a long list otherwise.
fn told(mut failures: Vec<String>, kind: &str) -> Result<(), Failure> {
    if failures.is_empty() {
        return Ok(());
    }
    let more = failures.len().saturating_sub(TOLD_ONE_BY_ONE);
    if more > 0 {
        failures.truncate(TOLD_ONE_BY_ONE);
        failures.push(format!(
            "The same kind of failure, {kind}, occurs {more} more times."
        ));
    }
    Err(Failure(failures))
}
