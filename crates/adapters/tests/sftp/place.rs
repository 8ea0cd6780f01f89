//! A server with a directory, and the storage in it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use strongroom_adapters::storage::sftp::SftpSettings;
use strongroom_adapters::storage::{
    Credentials, Place, StorageSettings, TransferLimits, create_storage, open_storage,
};
use strongroom_core::cancel::Cancel;
use strongroom_core::storage::{Storage, StorageError};
use strongroom_testkit::servers::sshd::Sshd;
use strongroom_testkit::skip;

/// A server, and a directory for the repositories of one test.
pub(crate) struct Server {
    pub(crate) sshd: Sshd,
    pub(crate) directory: tempfile::TempDir,
}

/// Starts one; says that the test is skipped where OpenSSH's server is not installed.
pub(crate) fn server(test: &str, arguments: &str) -> Option<Server> {
    if Sshd::program().is_none() {
        skip(test, "openssh-server is not installed");
        return None;
    }
    Some(Server {
        sshd: Sshd::start(arguments).expect("sshd starts"),
        directory: tempfile::tempdir().expect("a directory"),
    })
}

impl Server {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The settings of a repository, reached at `address`: the server's own or a proxy's.
    pub(crate) fn settings(&self, name: &str, address: SocketAddr) -> StorageSettings {
        let directory = self.path(name).to_str().expect("UTF-8").to_owned();
        StorageSettings {
            place: Place::Sftp(SftpSettings {
                url: format!("sftp://{address}{directory}"),
                host: address.ip().to_string(),
                port: Some(address.port()),
                user: Some(self.sshd.user().to_owned()),
                directory,
                known_hosts: None,
                host_key: Some(self.sshd.host_key().expect("a key")),
            }),
            credentials: Credentials {
                file: Some(self.sshd.key()),
                ..Credentials::default()
            },
            limits: TransferLimits {
                patience: Duration::from_mins(1),
                ..TransferLimits::default()
            },
            as_of: None,
        }
    }

    pub(crate) fn here(&self, name: &str) -> StorageSettings {
        self.settings(name, self.sshd.address())
    }
}

pub(crate) fn create(settings: &StorageSettings) -> Box<dyn Storage> {
    create_storage(settings, &Cancel::default()).expect("opens")
}

pub(crate) fn open(settings: &StorageSettings) -> Result<Box<dyn Storage>, StorageError> {
    open_storage(settings, &Cancel::default())
}

/// Changes the settings that are SFTP's own.
pub(crate) fn sftp(settings: &mut StorageSettings) -> &mut SftpSettings {
    match &mut settings.place {
        Place::Sftp(place) => place,
        other => unreachable!("{other:?}"),
    }
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}
