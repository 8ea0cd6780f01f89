//! What a kit is made of: configuration, custody records, and what repositories tell without an identity.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use strongroom_adapters::storage::Place;
use strongroom_core::custody::CustodyRecord;
use strongroom_core::format::dsse::VerifyingKey;
use strongroom_core::format::envelope::Status;
use strongroom_core::format::{Digest, WriterId};
use strongroom_core::source::Class;

use crate::config::{AssetConfig, Config, RepositoryConfig, Settings};

/// Everything that a kit tells.
pub(crate) struct Facts {
    pub(crate) deployment: String,
    pub(crate) made: Timestamp,
    /// The file that the configuration was read from.
    pub(crate) configuration: PathBuf,
    /// Those with keys and secrets first.
    pub(crate) repositories: Vec<Repository>,
    pub(crate) copies: Vec<Copy>,
    /// The SHA-256 of each writer's public key, by its id.
    pub(crate) writers: BTreeMap<WriterId, Digest>,
    pub(crate) custodies: Vec<CustodyRecord>,
    /// The newest ones, newest first.
    pub(crate) backups: Vec<Backup>,
    pub(crate) assets: Vec<Asset>,
    /// Repositories that could not be read.
    pub(crate) unread: Vec<String>,
    /// The files of the kit, with their digests.
    pub(crate) files: Vec<(String, Digest)>,
}

/// A repository.
pub(crate) struct Repository {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) place: Location,
    pub(crate) accepts: Vec<Class>,
    pub(crate) recipients: Vec<String>,
}

/// A copy of one.
pub(crate) struct Copy {
    pub(crate) name: String,
    pub(crate) of: String,
    pub(crate) url: String,
    pub(crate) place: Location,
}

/// Where the objects of a repository are, for somebody without Strongroom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In a directory.
    Directory(PathBuf),
    /// Behind a network: the command that brings them into a directory of that name.
    Fetch(String),
}

/// A run.
pub(crate) struct Backup {
    pub(crate) label: String,
    pub(crate) taken: Timestamp,
    pub(crate) status: Status,
    pub(crate) repositories: Vec<String>,
}

/// What comes back.
pub(crate) struct Asset {
    pub(crate) name: String,
    pub(crate) class: Class,
    pub(crate) source: &'static str,
    pub(crate) repository: String,
    /// Where it was.
    pub(crate) places: Vec<String>,
    /// The certificate that a key belongs to.
    pub(crate) certificate: Option<PathBuf>,
}

impl Repository {
    pub(crate) fn new(config: &RepositoryConfig) -> Self {
        Self {
            name: config.name.clone(),
            url: config.url.clone(),
            place: location(config),
            accepts: config.accepts.clone(),
            recipients: config.recipients.clone(),
        }
    }

    /// Whether private keys and secrets may be in it.
    pub(crate) fn has_secrets(&self) -> bool {
        self.accepts.iter().any(|class| class.is_secret())
    }
}

impl Copy {
    pub(crate) fn new(config: &RepositoryConfig) -> Self {
        Self {
            name: config.name.clone(),
            of: config.document_name().to_owned(),
            url: config.url.clone(),
            place: location(config),
        }
    }
}

impl Asset {
    pub(crate) fn new(config: &Config, asset: &AssetConfig) -> Self {
        let (places, certificate) = match &asset.settings {
            Settings::Files {
                paths, certificate, ..
            } => {
                let paths = paths.iter().map(|path| path.display().to_string());
                (paths.collect(), certificate.clone())
            }
            Settings::Redirected { of } => (
                vec![format!("the files of asset {of} that hold secrets")],
                None,
            ),
            Settings::Sqlite { path, .. } => (vec![path.display().to_string()], None),
            _ => {
                let place = match asset.source() {
                    "pkcs11" => "a PKCS#11 token",
                    _ => "a database server",
                };
                (vec![place.to_owned()], None)
            }
        };
        Self {
            name: asset.name.clone(),
            class: asset.class,
            source: asset.source(),
            repository: config.repository_of(asset).name.clone(),
            places,
            certificate,
        }
    }
}

/// The SHA-256 of a writer's SubjectPublicKeyInfo; its first digits are the writer's id.
pub(crate) fn fingerprint(key: VerifyingKey) -> Digest {
    Digest::of(&key.to_spki())
}

/// Endpoints and names are told, credentials never: they are not in these settings.
fn location(config: &RepositoryConfig) -> Location {
    let name = quoted(&config.name);
    let join = |first: &str, prefix: &str| match prefix {
        "" => first.to_owned(),
        prefix => format!("{first}/{prefix}"),
    };
    Location::Fetch(match &config.storage.place {
        Place::Local(directory) => return Location::Directory(directory.clone()),
        Place::S3(s3) => {
            let mut more = String::new();
            if let Some(endpoint) = &s3.endpoint {
                more.push_str(" --endpoint-url ");
                more.push_str(&quoted(endpoint));
            }
            if let Some(region) = &s3.region {
                more.push_str(" --region ");
                more.push_str(&quoted(region));
            }
            let from = quoted(&format!("s3://{}", join(&s3.bucket, &s3.prefix)));
            format!("aws s3 sync {from} {name}{more}")
        }
        Place::Gcs(gcs) => {
            let from = quoted(&format!("gs://{}", join(&gcs.bucket, &gcs.prefix)));
            format!("gcloud storage rsync --recursive {from} {name}")
        }
        Place::Azure(azure) => {
            let host = format!("https://{}.blob.core.windows.net", azure.account);
            let container = format!("{host}/{}", azure.container);
            let from = quoted(&join(&container, &azure.prefix));
            format!("azcopy copy {from} {name} --recursive")
        }
        Place::Sftp(sftp) => {
            let port = sftp.port.map(|port| format!(" -P {port}"));
            let user = sftp.user.as_ref().map(|user| format!("{user}@"));
            let from = format!(
                "{}{}:{}",
                user.unwrap_or_default(),
                sftp.host,
                sftp.directory
            );
            format!(
                "sftp -r{} {} {name}",
                port.unwrap_or_default(),
                quoted(&from)
            )
        }
        _ => format!("# Bring {} into the directory {name}.", config.url),
    })
}

/// A word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell_are_quoted_where_they_must_be() {
        assert_eq!(quoted("s3://bucket/a-b_c.d"), "s3://bucket/a-b_c.d");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(quoted("~/x"), "'~/x'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn each_kind_of_place_has_a_command_and_no_credentials() {
        let text = r#"[deployment]
name = "ca"
[writer]
key_file = "writer.key"
[repository.aws]
url = "s3://bucket/pre/fix"
region = "eu-central-1"
endpoint = "https://s3.example"
credentials_file = "/etc/s/secret"
recipients = ["age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"]
accepts = ["database"]
[repository.disk]
url = "file:///srv/disk"
recipients = ["age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"]
accepts = ["config"]
[repository.ssh]
url = "sftp://backup@host.example:2222/srv/ca"
recipients = ["age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"]
accepts = ["log"]
[asset.database]
source = "sqlite"
class = "database"
path = "/var/lib/ca.sqlite3"
"#;
        let file = std::path::Path::new("strongroom.toml");
        let config = Config::parse(text, file, std::path::Path::new("/etc/s"));
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let place = |name: &str| location(&config.repositories[name]);
        let fetch = |text: &str| Location::Fetch(text.to_owned());
        assert_eq!(place("disk"), Location::Directory("/srv/disk".into()));
        assert_eq!(
            place("aws"),
            fetch(
                "aws s3 sync s3://bucket/pre/fix aws --endpoint-url https://s3.example --region eu-central-1"
            )
        );
        assert_eq!(
            place("ssh"),
            fetch("sftp -r -P 2222 backup@host.example:/srv/ca ssh")
        );
    }
}
