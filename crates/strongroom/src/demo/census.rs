//! What stands in an authority's directory, counted: the same before a disaster and after it.

use std::path::Path;

use serde::Serialize;

use super::config::Config;
use super::error::DemoError;
use super::{audit, database, x509};

/// Counts and heads of an authority, to be compared.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Census {
    /// All that were ever issued.
    pub(crate) certificates: u64,
    /// Those that are not revoked; an expired one counts.
    pub(crate) valid: u64,
    /// Those that are revoked.
    pub(crate) revoked: u64,
    /// The number in the published CRL.
    pub(crate) crl_number: i64,
    /// Serial number of the newest certificate in hexadecimal, if any was issued.
    pub(crate) newest_serial: Option<String>,
    /// Lines of the audit log.
    pub(crate) audit_lines: u64,
    /// SHA-256 of the last of them, in hexadecimal.
    pub(crate) audit_head: String,
}

impl Census {
    /// Reads the files of the authority in `dir`; no key is needed.
    pub(crate) fn take(dir: &Path) -> Result<Self, DemoError> {
        let paths = Config::load(dir)?.paths;
        let connection = database::open_to_read(&paths.database)?;
        let (certificates, valid, revoked) = database::count_certificates(&connection)
            .map_err(DemoError::database("count certificates in"))?;
        let newest_serial = database::newest_serial(&connection)
            .map_err(DemoError::database("find the newest certificate in"))?;
        let crl = std::fs::read(&paths.crl).map_err(DemoError::file("read", &paths.crl))?;
        let crl_number = x509::crl_number(&x509::parse_crl(&crl)?)?;
        let head = audit::head(&paths.audit_log)?;
        Ok(Self {
            certificates,
            valid,
            revoked,
            crl_number,
            newest_serial,
            audit_lines: head.lines,
            audit_head: head.digest,
        })
    }
}
