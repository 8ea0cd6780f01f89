//! The configuration of the authority, `etc/ca.toml`: paths, the CRL's address, lifetimes; no secret.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::DemoError;

/// Where the configuration stands in the authority's directory.
pub(super) const CONFIG_FILE: &str = "etc/ca.toml";

const HEADING: &str = "\
# The configuration of the demonstration's certificate authority.
# Paths are relative to the directory above this one. No secret stands in this file.

";

/// What the authority reads before anything else.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Common name of the issuing CA, byte for byte the one in its certificate.
    pub(super) name: String,
    /// Where the files are.
    pub(super) paths: Paths,
    /// How revocation is published.
    pub(super) crl: Crl,
    /// What is issued.
    pub(super) certificates: Certificates,
}

/// The authority's files, relative to its directory.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paths {
    /// Key of the issuing CA, PKCS#8 in PEM.
    pub(super) key: PathBuf,
    /// Certificate of the issuing CA, PEM.
    pub(super) certificate: PathBuf,
    /// Key of the root, PKCS#8 in PEM; used once, to sign the issuing CA.
    pub(super) root_key: PathBuf,
    /// Certificate of the root, the trust anchor, PEM.
    pub(super) root_certificate: PathBuf,
    /// The secret a client shows to the authority.
    pub(super) api_token: PathBuf,
    /// SQLite database of certificates, CRLs and accounts.
    pub(super) database: PathBuf,
    /// The newest CRL, DER.
    pub(super) crl: PathBuf,
    /// The chained audit log, one JSON object a line.
    pub(super) audit_log: PathBuf,
}

/// How revocation is published.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Crl {
    /// The distribution point named in every certificate.
    pub(super) url: String,
    /// From thisUpdate to nextUpdate.
    pub(super) validity_hours: u16,
}

/// What is issued.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificates {
    /// Common names end in it.
    pub(super) domain: String,
    /// From notBefore to notAfter.
    pub(super) validity_days: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "Strongroom Demonstration Issuing CA".to_owned(),
            paths: Paths {
                key: "etc/ca.key.pem".into(),
                certificate: "etc/ca.cert.pem".into(),
                root_key: "etc/root.key.pem".into(),
                root_certificate: "etc/root.cert.pem".into(),
                api_token: "etc/api-token".into(),
                database: "var/ca.sqlite3".into(),
                crl: "var/crl/ca.crl".into(),
                audit_log: "var/log/audit.jsonl".into(),
            },
            crl: Crl {
                url: "http://crl.example.org/ca.crl".to_owned(),
                validity_hours: 24,
            },
            certificates: Certificates {
                domain: "example.org".to_owned(),
                validity_days: 90,
            },
        }
    }
}

impl Config {
    /// Reads the configuration of the authority in `dir`, every path joined to it.
    pub(super) fn load(dir: &Path) -> Result<Self, DemoError> {
        let path = dir.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path).map_err(DemoError::file("read", &path))?;
        let config: Self =
            toml::from_str(&text).map_err(|source| DemoError::Configuration { path, source })?;
        Ok(config.beneath(dir))
    }

    /// The configuration as it is written.
    pub(super) fn to_text(&self) -> String {
        let body = toml::to_string(self).expect("strings and small numbers are always TOML");
        format!("{HEADING}{body}")
    }

    /// The same with every path joined to `dir`.
    pub(super) fn beneath(mut self, dir: &Path) -> Self {
        let paths = &mut self.paths;
        for path in [
            &mut paths.key,
            &mut paths.certificate,
            &mut paths.root_key,
            &mut paths.root_certificate,
            &mut paths.api_token,
            &mut paths.database,
            &mut paths.crl,
            &mut paths.audit_log,
        ] {
            *path = dir.join(&*path);
        }
        self
    }
}
