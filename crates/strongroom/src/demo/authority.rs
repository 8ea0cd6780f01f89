//! The authority at work: it comes to be, issues, revokes, publishes, and is destroyed.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair,
    RevocationReason, RevokedCertParams, SerialNumber,
};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use strongroom_core::clock::{Clock, whole_seconds};
use strongroom_core::private_file;
use zeroize::Zeroizing;

use super::audit::{self, Event, Subject};
use super::census::Census;
use super::config::{CONFIG_FILE, Config};
use super::database::{self, Row};
use super::error::DemoError;
use super::x509;

/// Marks a directory whose `etc` and `var` the demonstration may delete.
const MARKER_FILE: &str = ".strongroom-demo";
const MARKER_TEXT: &str =
    "This directory was made by `strongroom demo`, which may delete etc and var in it.\n";

const ROOT_NAME: &str = "Strongroom Demonstration Root CA";
const ROOT_VALIDITY_DAYS: u16 = 20 * 365;
const ISSUING_VALIDITY_DAYS: u16 = 10 * 365;

/// A certificate authority in a directory, open.
///
/// Nothing is kept in memory that is not in the directory: it can be dropped at any time and opened
/// again. Each change holds the database's write lock until its line stands in the audit log, so
/// nothing that was issued, revoked or published is ever missing from the log.
pub(crate) struct Authority<'clock> {
    dir: PathBuf,
    config: Config,
    clock: &'clock dyn Clock,
    issuer: Issuer<'static, KeyPair>,
    connection: Connection,
}

impl<'clock> Authority<'clock> {
    /// Makes a root, an issuing CA, its database, its audit log and its first CRL in `dir`.
    pub(crate) fn create(dir: &Path, clock: &'clock dyn Clock) -> Result<Self, DemoError> {
        for name in ["etc", "var"] {
            if dir.join(name).symlink_metadata().is_ok() {
                return Err(DemoError::Exists { dir: dir.into() });
            }
        }
        let config = Config::default();
        let text = config.to_text();
        let config = config.beneath(dir);
        let paths = &config.paths;
        let config_path = dir.join(CONFIG_FILE);
        for path in [&config_path, &paths.crl, &paths.database, &paths.audit_log] {
            let parent = path.parent().unwrap_or(dir);
            private_file::create_dir_all(parent).map_err(DemoError::file("create", parent))?;
        }
        let marker = dir.join(MARKER_FILE);
        private_file::replace(&marker, MARKER_TEXT.as_bytes())
            .map_err(DemoError::file("write", &marker))?;
        write_new(&config_path, text.as_bytes())?;

        let now = whole_seconds(clock.now());
        write_keys(&config, now)?;
        let token = Zeroizing::new(x509::hex(&x509::random::<32>()?));
        write_new(&paths.api_token, format!("{}\n", &*token).as_bytes())?;
        let digest = x509::hex(&x509::sha256(token.as_bytes()));
        database::create(&paths.database, now, &digest)?;
        audit::append(
            &paths.audit_log,
            now,
            Event::AuthorityCreated,
            [Subject::Authority],
        )?;
        let mut authority = Self::open(dir, clock)?;
        authority.publish_crl()?;
        Ok(authority)
    }

    /// Opens the authority in `dir`.
    pub(crate) fn open(dir: &Path, clock: &'clock dyn Clock) -> Result<Self, DemoError> {
        let config = Config::load(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            issuer: issuer(&config)?,
            connection: database::open(&config.paths.database)?,
            config,
            clock,
        })
    }

    /// Issues `count` certificates for new keys and gives back their serial numbers.
    ///
    /// All of them are issued, or none.
    pub(crate) fn issue(&mut self, count: usize) -> Result<Vec<String>, DemoError> {
        let now = whole_seconds(self.clock.now());
        let transaction = begin(&mut self.connection)?;
        let (already, _, _) = database::count_certificates(&transaction)
            .map_err(DemoError::database("count certificates in"))?;
        let mut serials = Vec::with_capacity(count);
        for number in (already + 1..).take(count) {
            let row = new_certificate(&self.config, &self.issuer, number, now)?;
            database::insert_certificate(&transaction, &row)
                .map_err(DemoError::database("add a certificate to"))?;
            serials.push(row.serial);
        }
        let subjects = serials.iter().cloned().map(Subject::Serial);
        let event = Event::CertificateIssued;
        audit::append(&self.config.paths.audit_log, now, event, subjects)?;
        commit(transaction)?;
        Ok(serials)
    }

    /// Revokes the oldest certificates that are still valid, at most `count`, and gives back their
    /// serial numbers. Relying parties see it from the next CRL on.
    pub(crate) fn revoke(
        &mut self,
        count: usize,
        reason: RevocationReason,
    ) -> Result<Vec<String>, DemoError> {
        let code = reason as i64;
        reason_of(code)?;
        let now = whole_seconds(self.clock.now());
        let at = now.to_string();
        let transaction = begin(&mut self.connection)?;
        let serials = database::oldest_valid(&transaction, &at, count)
            .map_err(DemoError::database("find certificates in"))?;
        for serial in &serials {
            database::revoke(&transaction, serial, &at, code)
                .map_err(DemoError::database("revoke a certificate in"))?;
        }
        let subjects = serials.iter().cloned().map(Subject::Serial);
        let event = Event::CertificateRevoked;
        audit::append(&self.config.paths.audit_log, now, event, subjects)?;
        commit(transaction)?;
        Ok(serials)
    }

    /// Signs a CRL of every revoked certificate that has not expired, writes it to the distribution
    /// file and gives back its number, one above the newest in the database (RFC 5280, 5.2.3).
    pub(crate) fn publish_crl(&mut self) -> Result<i64, DemoError> {
        let this_update = whole_seconds(self.clock.now());
        let hours = i64::from(self.config.crl.validity_hours);
        let next_update = after(this_update, SignedDuration::from_hours(hours));
        let times = [this_update.to_string(), next_update.to_string()];
        let transaction = begin(&mut self.connection)?;
        let number = database::newest_crl_number(&transaction)
            .map_err(DemoError::database("find the newest CRL in"))?
            .unwrap_or(0);
        let number = number
            .checked_add(1)
            .filter(|next| *next > 0)
            .ok_or(DemoError::CrlNumber { number })?;
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(1970, 1, 1) + x509::since_epoch(this_update),
            next_update: rcgen::date_time_ymd(1970, 1, 1) + x509::since_epoch(next_update),
            crl_number: SerialNumber::from(number.unsigned_abs()),
            issuing_distribution_point: None,
            revoked_certs: revoked(&transaction, &times[0])?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params
            .signed_by(&self.issuer)
            .map_err(DemoError::sign("sign the CRL"))?;
        database::insert_crl(&transaction, number, [&times[0], &times[1]], crl.der())
            .map_err(DemoError::database("add a CRL to"))?;
        let paths = &self.config.paths;
        audit::append(
            &paths.audit_log,
            this_update,
            Event::CrlPublished,
            [Subject::Crl(number)],
        )?;
        commit(transaction)?;
        private_file::replace(&paths.crl, crl.der())
            .map_err(DemoError::file("write", &paths.crl))?;
        Ok(number)
    }

    /// What is there, read from the files alone.
    pub(crate) fn census(&self) -> Result<Census, DemoError> {
        Census::take(&self.dir)
    }
}

/// Deletes `etc` and `var` in a directory that [`Authority::create`] made, and in no other.
///
/// The marker stays, so that the directory can be restored into and destroyed again.
pub(crate) fn destroy(dir: &Path) -> Result<(), DemoError> {
    let marker = dir.join(MARKER_FILE);
    let ours = marker
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file())
        && std::fs::read(&marker).is_ok_and(|text| text == MARKER_TEXT.as_bytes());
    if !ours {
        return Err(DemoError::Foreign { dir: dir.into() });
    }
    for name in ["etc", "var"] {
        let path = dir.join(name);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DemoError::file("delete", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The issuing CA, from its key and the name in the configuration.
pub(super) fn issuer(config: &Config) -> Result<Issuer<'static, KeyPair>, DemoError> {
    let key = x509::load_key(&config.paths.key)?;
    let params = x509::ca_params(&config.name, BasicConstraints::Constrained(0));
    Ok(Issuer::new(params, key))
}

/// Signs certificate number `number` for a key that is thrown away.
pub(super) fn new_certificate(
    config: &Config,
    issuer: &Issuer<'_, KeyPair>,
    number: u64,
    now: Timestamp,
) -> Result<Row, DemoError> {
    let name = format!("server-{number:05}.{}", config.certificates.domain);
    let serial = x509::new_serial()?;
    let not_after = after_days(now, config.certificates.validity_days);
    let mut params = x509::end_entity_params(&name, &config.crl.url)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    x509::set_validity(&mut params, now, not_after);
    let certificate = params
        .signed_by(&x509::new_key()?, issuer)
        .map_err(DemoError::sign("sign a certificate"))?;
    Ok(Row {
        serial: x509::hex(&serial),
        subject: format!("CN={name}"),
        not_before: now.to_string(),
        not_after: not_after.to_string(),
        revoked: None,
        der: certificate.der().to_vec(),
    })
}

/// Makes both keys and both certificates; the root signs the issuing CA and is not used again.
fn write_keys(config: &Config, now: Timestamp) -> Result<(), DemoError> {
    let paths = &config.paths;
    let root_key = x509::new_key()?;
    let mut root = x509::ca_params(ROOT_NAME, BasicConstraints::Unconstrained);
    root.serial_number = Some(SerialNumber::from_slice(&x509::new_serial()?));
    x509::set_validity(&mut root, now, after_days(now, ROOT_VALIDITY_DAYS));
    let root_certificate = root
        .self_signed(&root_key)
        .map_err(DemoError::sign("sign the root certificate"))?;

    let key = x509::new_key()?;
    let mut issuing = x509::ca_params(&config.name, BasicConstraints::Constrained(0));
    issuing.serial_number = Some(SerialNumber::from_slice(&x509::new_serial()?));
    x509::set_validity(&mut issuing, now, after_days(now, ISSUING_VALIDITY_DAYS));
    let certificate = issuing
        .signed_by(&key, &Issuer::from_params(&root, &root_key))
        .map_err(DemoError::sign("sign the issuing CA's certificate"))?;

    for (path, key) in [(&paths.root_key, &root_key), (&paths.key, &key)] {
        write_new(path, Zeroizing::new(key.serialize_pem()).as_bytes())?;
    }
    write_new(&paths.root_certificate, root_certificate.pem().as_bytes())?;
    write_new(&paths.certificate, certificate.pem().as_bytes())
}

/// The entries of a CRL that is signed at `now`.
fn revoked(connection: &Connection, now: &str) -> Result<Vec<RevokedCertParams>, DemoError> {
    let rows = database::certificates(connection)
        .map_err(DemoError::database("list revoked certificates in"))?;
    let mut entries = Vec::new();
    for row in rows.iter().filter(|row| row.not_after.as_str() > now) {
        let Some((at, code)) = &row.revoked else {
            continue;
        };
        let entry = x509::parse_serial(&row.serial).zip(at.parse::<Timestamp>().ok());
        let (serial_number, at) = entry.ok_or(DemoError::Database {
            operation: "read a revocation from",
            source: rusqlite::Error::InvalidQuery,
        })?;
        entries.push(RevokedCertParams {
            serial_number,
            revocation_time: rcgen::date_time_ymd(1970, 1, 1) + x509::since_epoch(at),
            reason_code: Some(reason_of(*code)?),
            invalidity_date: None,
        });
    }
    Ok(entries)
}

/// The reason with this code. `removeFromCRL` belongs in delta CRLs only (RFC 5280, 5.3.1).
fn reason_of(code: i64) -> Result<RevocationReason, DemoError> {
    use RevocationReason as Reason;
    Ok(match code {
        0 => Reason::Unspecified,
        1 => Reason::KeyCompromise,
        2 => Reason::CaCompromise,
        3 => Reason::AffiliationChanged,
        4 => Reason::Superseded,
        5 => Reason::CessationOfOperation,
        6 => Reason::CertificateHold,
        9 => Reason::PrivilegeWithdrawn,
        10 => Reason::AaCompromise,
        code => return Err(DemoError::Reason { code }),
    })
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, DemoError> {
    connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(DemoError::database("lock"))
}

fn commit(transaction: Transaction<'_>) -> Result<(), DemoError> {
    transaction
        .commit()
        .map_err(DemoError::database("write to"))
}

fn after_days(time: Timestamp, days: u16) -> Timestamp {
    after(time, SignedDuration::from_hours(24 * i64::from(days)))
}

fn after(time: Timestamp, span: SignedDuration) -> Timestamp {
    time.checked_add(span).unwrap_or(Timestamp::MAX)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), DemoError> {
    private_file::create_new(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| private_file::sync_parent(path))
        .map_err(DemoError::file("write", path))
}
