//! The sources: one folder a kind, with the restorer that proves what comes back.

use strongroom_core::source::Restorer;

#[cfg(any(feature = "source-files", feature = "source-sqlite"))]
mod entry;
#[cfg(feature = "source-files")]
pub mod files;
#[cfg(feature = "source-mariadb")]
pub mod mariadb;
#[cfg(any(
    feature = "source-mariadb",
    feature = "source-postgresql",
    feature = "source-sqlite"
))]
mod migrations;
#[cfg(feature = "source-pkcs11")]
pub mod pkcs11;
#[cfg(feature = "source-postgresql")]
pub mod postgresql;
#[cfg(feature = "source-sqlite")]
pub mod sqlite;

/// The kinds of source in this build, in order.
pub const SOURCES: &[&str] = &[
    #[cfg(feature = "source-files")]
    "files",
    #[cfg(feature = "source-mariadb")]
    "mariadb",
    #[cfg(feature = "source-pkcs11")]
    "pkcs11",
    #[cfg(feature = "source-postgresql")]
    "postgresql",
    #[cfg(feature = "source-sqlite")]
    "sqlite",
];

/// One restorer for each kind of source, in the same order.
pub const RESTORERS: &[&dyn Restorer] = &[
    #[cfg(feature = "source-files")]
    &files::FilesRestorer { passwords: None },
    #[cfg(feature = "source-mariadb")]
    &mariadb::MariadbRestorer,
    #[cfg(feature = "source-pkcs11")]
    &pkcs11::Pkcs11Restorer,
    #[cfg(feature = "source-postgresql")]
    &postgresql::PostgresqlRestorer,
    #[cfg(feature = "source-sqlite")]
    &sqlite::SqliteRestorer,
];

/// The restorer for assets of a kind of source.
pub fn restorer(kind: &str) -> Option<&'static dyn Restorer> {
    RESTORERS
        .iter()
        .copied()
        .find(|restorer| restorer.kind() == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_listed_with_its_restorer() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source");
        let mut folders: Vec<String> = std::fs::read_dir(folder)
            .expect("the sources of this crate")
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().expect("a plain name"))
            .collect();
        folders.sort();
        let mut listed = SOURCES.to_vec();
        listed.sort_unstable();
        assert_eq!(folders, listed, "folders under source/, and SOURCES");
        let restored: Vec<_> = RESTORERS.iter().map(|restorer| restorer.kind()).collect();
        assert_eq!(restored, SOURCES);
        assert!(restorer("files").is_some() && restorer("none").is_none());
    }
}
