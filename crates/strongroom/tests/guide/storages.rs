//! The pages of the storages: their tables are put into a whole configuration, their commands run against real servers or emulators.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use strongroom_testkit::servers::clouds::{self, AZURE_ACCOUNT};
use strongroom_testkit::servers::minio::{Account, Kind, Minio, Options};
use strongroom_testkit::servers::sas;
use strongroom_testkit::servers::sshd::Sshd;
use strongroom_testkit::skip;

use super::authority::{self, Authority};
use super::page::{Page, root};
use super::{PASSPHRASE, PLAIN, programs};

/// Follows the page on directories.
pub(crate) fn file() {
    let host = Host::new();
    let directory = host.text("srv");
    host.configure("file", &[("/srv/backups/example", &directory)], "");
    host.follow("file");
    assert!(host.path("srv/envelopes").is_dir());
}

/// Follows the page on S3 with its bucket, its region, its file names and its policies.
pub(crate) fn s3() {
    let options = Options {
        region: Some("eu-central-1"),
        certificates: None,
    };
    let Some(server) = Minio::start("the_page_of_s3_can_be_followed", &options) else {
        return;
    };
    let host = Host::new();
    server.make_bucket("example-backups", Kind::Locking);
    // Only where all repositories are buckets can the past be looked at.
    server.make_bucket("keysafe", Kind::Locking);
    Minio::root().write(&host.path("etc"));
    for role in ["writer", "restorer", "expirer"] {
        let policy = root().join(format!("docs/policies/s3-{role}.json"));
        let policy = std::fs::read_to_string(policy).expect("a policy");
        let name = format!("s3-{role}");
        let account = server.make_user(&name, &policy, "example-backups");
        account.write(&host.path("etc"));
    }
    let more = format!("endpoint = \"{}\"\npath_style = true\n", server.endpoint());
    let keysafe = format!(
        "url = \"s3://keysafe/ca\"\nregion = \"eu-central-1\"\n{more}credentials_file = \"{}.credentials\"\n",
        Minio::root().access_key
    );
    host.configure_with("s3", &[], &more, &keysafe);
    let said = host.follow("s3");
    host.assert_restored("before");
    for role in ["writer", "restorer", "expirer"] {
        let secret = Account::new(&format!("s3-{role}")).secret_key;
        assert!(!said.contains(&secret), "a secret was shown");
    }
}

/// Follows the page on SFTP with a server that allows what the page allows the writer.
pub(crate) fn sftp() {
    if Sshd::program().is_none() {
        let why = "openssh-server is not installed";
        return skip("the_page_of_sftp_can_be_followed", why);
    }
    let page = Page::blocks("storages/sftp.md", "text").concat();
    let (_, block) = page.split_once("Match User ca-writer\n").expect("a block");
    let mut lines = block.lines().map(str::trim);
    let allowed = lines.find_map(|line| line.strip_prefix("ForceCommand internal-sftp "));
    let server = Sshd::start(allowed.expect("it forces internal-sftp")).expect("sshd starts");
    let host = Host::new();
    std::fs::create_dir(host.path("etc/ssh")).expect("a directory");
    let key = std::fs::read(server.key()).expect("a key");
    authority::write(&host.path("etc/ssh/writer"), &key);
    let url = format!("{}@{}{}", server.user(), server.address(), host.text("srv"));
    let host_key = server.host_key().expect("a key");
    host.configure(
        "sftp",
        &[
            ("ca-writer@backup.example:22/srv/backups/example", &url),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA...", &host_key),
        ],
        "",
    );
    host.follow("sftp");
    assert!(host.path("srv/envelopes").is_dir());
}

/// Follows the page on Google Cloud Storage, as somebody with the page's role of a writer.
pub(crate) fn gcs() {
    let server = match clouds::gcs(&["example-ca-backups"]) {
        Ok(server) => server,
        Err(why) => return skip("the_page_of_gcs_can_be_followed", &why),
    };
    let host = Host::new();
    // What the library takes for emulators: no token is asked for.
    let key = r#"{"private_key":"planted","private_key_id":"1","client_email":"a@b","disable_oauth":true}"#;
    authority::write(&host.path("etc/writer.json"), key.as_bytes());
    let endpoint = format!("endpoint = \"{}/as/writer\"\n", server.url);
    host.configure("gcs", &[], &endpoint);
    let said = host.follow("gcs");
    assert!(!said.contains("planted"), "a secret was shown");
}

/// Follows the page on Azure, with a signature that has the permissions of the page's first writer.
pub(crate) fn azure() {
    let server = match clouds::azurite(None) {
        Ok(server) => server,
        Err(why) => return skip("the_page_of_azure_can_be_followed", &why),
    };
    sas::create_container(&server.url, "ca-backups");
    let host = Host::new();
    let signature = sas::of_container("ca-backups", "rcl", None);
    authority::write(&host.path("etc/writer.sas"), signature.as_bytes());
    let endpoint = format!("endpoint = \"{}\"\n", server.url);
    let account = format!("az://{AZURE_ACCOUNT}/");
    host.configure("azure", &[("az://exampleaccount/", &account)], &endpoint);
    let said = host.follow("azure");
    let (_, secret) = signature.rsplit_once("sig=").expect("a signature");
    assert!(!said.contains(secret), "a secret was shown");
}

/// A host with a CA, identities, and no configuration yet.
struct Host {
    place: tempfile::TempDir,
    programs: PathBuf,
    authority: Authority,
}

impl Host {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let programs = programs(&place.path().join("bin"), &[&PLAIN[..], &["ssh"]].concat());
        let program = programs.join("strongroom");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_strongroom"), program).expect("a link");
        let authority = Authority::create(&place.path().join("ca"));
        let host = Self {
            place,
            programs,
            authority,
        };
        authority::write(&host.path("passphrase"), PASSPHRASE.as_bytes());
        for name in ["etc", "custodian"] {
            std::fs::create_dir(host.path(name)).expect("a directory");
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// A new identity, and its recipient.
    fn identity(&self, name: &str) -> String {
        let file = self.text(&format!("custodian/{name}.identity"));
        let made = self.strongroom(&["identity", "new", "--out", &file]);
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).expect("text").trim().into()
    }

    /// Writes a whole configuration around the table of a page, with these words replaced and `more` keys.
    fn configure(&self, page: &str, replaced: &[(&str, &str)], more: &str) {
        let keysafe = format!("url = \"file://{}\"\n", self.text("keysafe"));
        self.configure_with(page, replaced, more, &keysafe);
    }

    /// The same, with these lines of the repository of keys.
    fn configure_with(&self, page: &str, replaced: &[(&str, &str)], more: &str, keysafe: &str) {
        let blocks = Page::blocks(&format!("storages/{page}.md"), "toml");
        let mut table = blocks.concat();
        for (from, to) in replaced {
            assert!(table.contains(from), "{page}: no {from}");
            table = table.replace(from, to);
        }
        let head = "[repository.offsite]\n";
        assert_eq!(table.matches(head).count(), 1, "{page}: one repository");
        let missing = format!(
            "{head}recipients = [\"{}\"]\naccepts = [\"database\", \"config\", \"certificate\"]\n{more}",
            self.identity("database")
        );
        let table = table.replace(head, &missing);
        let text = format!(
            r#"[deployment]
name = "example-ca"
[writer]
key_file = "writer.key"
state_dir = "{state}"
{table}
[repository.keysafe]
recipients = ["{keys}"]
accepts = ["key"]
{keysafe}[asset.database]
source = "sqlite"
class = "database"
path = "{ca}/var/ca.sqlite3"
[asset.config]
source = "files"
class = "config"
paths = ["{ca}/etc/ca.toml"]
[asset.certificates]
source = "files"
class = "certificate"
paths = ["{ca}/etc/ca.cert.pem"]
[asset.ca-key]
source = "files"
class = "key"
paths = ["{ca}/etc/ca.key.pem"]
certificate = "{ca}/etc/ca.cert.pem"
"#,
            state = self.text("state"),
            keys = self.identity("keys"),
            ca = self.text("ca"),
        );
        authority::write(&self.path("etc/strongroom.toml"), text.as_bytes());
    }

    /// Executes a page, looks at what it restored, and returns what it said.
    fn follow(&self, page: &str) -> String {
        let hence = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let mut command = Command::new("bash");
        self.surround(&mut command);
        command
            .env(
                "DATABASE_IDENTITY",
                self.path("custodian/database.identity"),
            )
            .env("KEYS_IDENTITY", self.path("custodian/keys.identity"))
            .env("LOOK", self.path("look"))
            .env("BEFORE", self.path("before"))
            .env("WHEN", hence.to_string());
        let said = Page::read(&format!("storages/{page}.md")).execute(&mut command);
        self.assert_restored("look");
        said
    }

    fn strongroom(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        self.surround(&mut command);
        command.args(arguments).output().expect("the program")
    }

    fn surround(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", &self.programs)
            .env("HOME", self.place.path())
            .env("LC_ALL", "C.UTF-8")
            .env("STRONGROOM_CONFIG", self.path("etc/strongroom.toml"))
            .env("STRONGROOM_PASSPHRASE_FILE", self.path("passphrase"))
            .current_dir(self.place.path());
    }

    /// Asserts that a directory has the key, its certificate and the configuration as the CA has them, and a database.
    fn assert_restored(&self, name: &str) {
        let mut wanted = BTreeMap::from([("ca/var/ca.sqlite3".into(), None)]);
        for (path, bytes) in self.authority.content() {
            let below = path.strip_prefix(self.place.path()).expect("below");
            if below.starts_with("ca/etc") {
                wanted.insert(below.to_owned(), Some(bytes));
            }
        }
        let place = self.place.path().strip_prefix("/").expect("absolute");
        let assets = std::fs::read_dir(self.path(name)).expect("a directory");
        for asset in assets {
            let asset = asset.expect("an entry").path().join(place);
            wanted.retain(|below: &PathBuf, bytes| !is_there(&asset.join(below), bytes.as_deref()));
        }
        assert!(
            wanted.is_empty(),
            "{name}: not restored: {:?}",
            wanted.keys()
        );
    }
}

/// Whether a file is there, with these bytes if they are given.
fn is_there(file: &Path, bytes: Option<&[u8]>) -> bool {
    match std::fs::read(file) {
        Ok(found) => bytes.is_none_or(|bytes| bytes == found),
        Err(_) => false,
    }
}
