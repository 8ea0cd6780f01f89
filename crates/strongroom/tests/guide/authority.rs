//! The miniature CA that the guide protects: a key with its certificate, a database, a configuration and a log.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use age::armor::ArmoredReader;
use age::secrecy::SecretString;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rusqlite::Connection;

/// A CA in a directory.
pub(crate) struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// Makes it.
    pub(crate) fn create(directory: &Path) -> Self {
        let authority = Self {
            directory: directory.to_owned(),
        };
        for name in ["", "etc", "var"] {
            std::fs::create_dir(directory.join(name)).expect("a new directory");
        }
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        write(&authority.key(), key.serialize_pem().as_bytes());
        write(&authority.certificate(), certificate.pem().as_bytes());
        write(&authority.path("etc/ca.toml"), b"crl_days = 7\n");
        write(&authority.path("var/ca.log"), b"started\nissued 1\n");
        let database = Connection::open(authority.path("var/ca.sqlite3")).expect("a database");
        database
            .execute_batch(
                "CREATE TABLE certificates (serial BLOB PRIMARY KEY, issued_at TEXT);
                 INSERT INTO certificates VALUES (randomblob(16), '2026-11-20T15:30:00Z');",
            )
            .expect("a table");
        authority
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path("etc/ca.key.pem")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("etc/ca.cert.pem")
    }

    /// Every file below its directory.
    pub(crate) fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut content = BTreeMap::new();
        let mut folders = vec![self.directory.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = std::fs::read(&path).expect("a file");
                    content.insert(path, bytes);
                }
            }
        }
        content
    }

    /// Loses the key and the configuration, and cuts the database.
    pub(crate) fn damage(&self) {
        self.lose_key();
        std::fs::remove_file(self.path("etc/ca.toml")).expect("it was there");
        write(
            &self.path("var/ca.sqlite3"),
            b"SQLite format 3\0, or what is left of it",
        );
    }

    pub(crate) fn lose_key(&self) {
        std::fs::remove_file(self.key()).expect("it was there");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Writes a file that only its owner reads.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .expect("a file");
}

/// Opens an identity file that is sealed by a passphrase, as `age` does at a terminal.
pub(crate) fn open_identity(sealed: &Path, passphrase: &str, to: &Path) {
    let file = std::fs::File::open(sealed).expect("an identity file");
    let decryptor = age::Decryptor::new(ArmoredReader::new(file)).expect("an age file");
    let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase));
    identity.set_max_work_factor(22);
    let mut text = Vec::new();
    decryptor
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .expect("the passphrase")
        .read_to_end(&mut text)
        .expect("an identity");
    write(to, &text);
}
