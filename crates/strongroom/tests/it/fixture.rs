//! A host with a small CA, two repositories and two identities, and the program run on it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rusqlite::Connection;
use serde_json::Value;
use strongroom_testkit::canary;
use tempfile::TempDir;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_strongroom");
/// A secret of the CA that nothing may ever print.
pub(crate) const TOKEN: &str = "canary-token-5b1f0c2d9e7a4386";

/// A host: `ca/` is protected, `host/` has the configuration, `repo/` the repositories, `id/` the identities.
pub(crate) struct Host {
    _directory: Option<TempDir>,
    pub(crate) root: PathBuf,
    /// What must never be printed.
    secrets: Mutex<Vec<String>>,
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Asserts the exit status.
    #[track_caller]
    pub(crate) fn exits(self, status: i32) -> Self {
        assert_eq!(
            self.status, status,
            "--- stdout\n{}--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Asserts that something was said, on either stream.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.has(text),
            "{text:?} is not in\n--- stdout\n{}--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }

    /// The one JSON document on standard output.
    #[track_caller]
    pub(crate) fn document(&self) -> Value {
        let document: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.stdout, self.stderr));
        assert_eq!(document["schema"], 1, "{document}");
        document
    }
}

impl Host {
    /// A host with a CA, ready for its first backup.
    pub(crate) fn new() -> Self {
        let host = Self::without_repositories();
        host.configure("");
        host.ok(&["init"]);
        host.learn_secrets();
        host
    }

    /// A host with a CA and identities, and nothing configured.
    pub(crate) fn without_repositories() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().canonicalize().expect("exists");
        let host = Self {
            _directory: Some(directory),
            root,
            secrets: Mutex::default(),
        };
        host.make_authority();
        host.make_identities();
        host
    }

    /// A host whose directories are there already.
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            _directory: None,
            root: root.to_owned(),
            secrets: Mutex::default(),
        }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// A path below the host as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca")
    }

    fn make_authority(&self) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec!["ca.example".into()])
            .and_then(|params| params.self_signed(&key))
            .expect("a certificate");
        write(&self.path("ca/private/ca.key.pem"), key.serialize_pem());
        write(&self.path("ca/certs/ca.cert.pem"), certificate.pem());
        write(&self.path("ca/private/token"), TOKEN);
        must("chmod", &["-R", "go=", &self.text("ca/private")]);
        write(&self.path("ca/conf/ca.toml"), "days = 90\n");
        write(&self.path("ca/conf/sub/extra.conf"), "one = 1\n");
        write(&self.path("ca/conf/empty"), "");
        let conf = self.path("ca/conf");
        std::fs::hard_link(conf.join("sub/extra.conf"), conf.join("sub/same.conf")).expect("link");
        std::os::unix::fs::symlink("ca.toml", conf.join("current")).expect("links");
        let line = |n: u32| format!("{n} issued serial {:x}\n", n * 7919).into_bytes();
        let log: Vec<u8> = (0..4000).flat_map(line).collect();
        write(&self.path("ca/var/log/ca.log"), log);
        self.insert(0, 200);
    }

    /// Adds certificates to the database.
    pub(crate) fn insert(&self, first: u32, count: u32) {
        let connection = self.database();
        connection
            .execute_batch(
                "create table if not exists certificates (serial integer primary key, der blob);",
            )
            .expect("a table");
        let mut random = Random(u64::from(first) + 1);
        for serial in first..first + count {
            let der: Vec<u8> = (0..150).flat_map(|_| random.next().to_le_bytes()).collect();
            connection
                .execute("insert into certificates values (?1, ?2)", (serial, der))
                .expect("inserts");
        }
    }

    pub(crate) fn database(&self) -> Connection {
        std::fs::create_dir_all(self.path("ca/var")).expect("creates");
        let connection = Connection::open(self.path("ca/var/ca.sqlite3")).expect("opens");
        connection
            .pragma_update(None, "synchronous", "off")
            .expect("sets");
        connection
    }

    fn make_identities(&self) {
        std::fs::create_dir_all(self.path("id")).expect("creates");
        for name in ["database", "keys", "stranger"] {
            let file = self.text(&format!("id/{name}"));
            let made = self.ok(&["identity", "new", "--no-passphrase", "--out", &file]);
            write(&self.path(format!("id/{name}.pub")), made.stdout.trim());
        }
    }

    pub(crate) fn recipient(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(format!("id/{name}.pub"))).expect("a recipient")
    }

    /// Writes the usual configuration, with `more` at its end.
    pub(crate) fn configure(&self, more: &str) {
        self.configure_sealed_to("database", "keys", more);
    }

    pub(crate) fn configure_sealed_to(&self, database: &str, keys: &str, more: &str) {
        let text = format!(
            r#"[deployment]
name = "example-ca"
[writer]
key_file = "writer.key"
[repository.offsite]
url = "file://{root}/repo/offsite"
recipients = ["{database}"]
accepts = ["database", "config", "certificate", "log", "audit"]
[repository.keysafe]
url = "file://{root}/repo/keysafe"
recipients = ["{keys}"]
accepts = ["key", "secret"]
[asset.database]
source = "sqlite"
class = "database"
path = "{root}/ca/var/ca.sqlite3"
[asset.log]
source = "files"
class = "log"
paths = ["{root}/ca/var/log"]
[asset.config]
source = "files"
class = "config"
paths = ["{root}/ca/conf"]
[asset.certificates]
source = "files"
class = "certificate"
paths = ["{root}/ca/certs"]
[asset.ca-key]
source = "files"
class = "key"
paths = ["{root}/ca/private/ca.key.pem"]
certificate = "{root}/ca/certs/ca.cert.pem"
[asset.token]
source = "files"
class = "secret"
paths = ["{root}/ca/private/token"]
{more}"#,
            root = self.root.display(),
            database = self.recipient(database),
            keys = self.recipient(keys),
        );
        write(&self.path("host/strongroom.toml"), text);
    }

    /// Writes the usual configuration, but with these lines in the place of the `url` of each repository, and `more` at its end.
    pub(crate) fn configure_at(&self, offsite: &str, keysafe: &str, more: &str) {
        self.configure(more);
        let file = self.path("host/strongroom.toml");
        let mut text = std::fs::read_to_string(&file).expect("reads");
        for (name, lines) in [("offsite", offsite), ("keysafe", keysafe)] {
            let url = format!("url = \"file://{}/repo/{name}\"\n", self.root.display());
            assert!(text.contains(&url), "{url}");
            text = text.replace(&url, lines);
        }
        write(&file, text);
    }

    /// Remembers every secret there is, so that each later run is searched for them.
    pub(crate) fn learn_secrets(&self) {
        let mut secrets = vec![TOKEN.to_owned()];
        let files = ["id/database", "id/keys", "id/stranger", "host/writer.key"];
        for file in files
            .iter()
            .map(|file| self.path(file))
            .chain([self.path("ca/private/ca.key.pem")])
        {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let lines = text.lines().map(str::trim);
            let is_secret = |line: &&str| {
                line.len() >= 30 && !line.starts_with('#') && !line.starts_with("-----")
            };
            secrets.extend(lines.filter(is_secret).map(str::to_owned));
        }
        assert!(secrets.len() >= 6, "the canaries are planted");
        for secret in &secrets {
            plant(secret);
        }
        *self.secrets.lock().expect("no panic") = secrets;
    }

    pub(crate) fn learn_secret(&self, secret: &str) {
        plant(secret);
        self.secrets
            .lock()
            .expect("no panic")
            .push(secret.to_owned());
    }

    /// The program, without anything of the caller's surroundings.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(PROGRAM);
        self.prepare(&mut command, arguments);
        command
    }

    pub(crate) fn prepare<A: AsRef<OsStr>>(&self, command: &mut Command, arguments: &[A]) {
        for name in [
            "STRONGROOM_CONFIG",
            "STRONGROOM_IDENTITY_FILE",
            "STRONGROOM_PASSPHRASE_FILE",
            "CREDENTIALS_DIRECTORY",
        ] {
            command.env_remove(name);
        }
        command
            .arg("--config")
            .arg(self.path("host/strongroom.toml"))
            .args(arguments)
            .stdin(Stdio::null());
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Outcome {
        self.finish(&mut self.command(arguments))
    }

    /// Runs a prepared command, and looks for secrets in what it prints.
    pub(crate) fn finish(&self, command: &mut Command) -> Outcome {
        let output = command.output().expect("the program starts");
        let outcome = Outcome {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        let (stdout, stderr) = (&output.stdout, &output.stderr);
        let arguments: Vec<_> = command.get_args().collect();
        canary::printed(&format!("{arguments:?}"), &[stdout, stderr]);
        for secret in &*self.secrets.lock().expect("no panic") {
            assert!(!outcome.has(secret), "a secret was printed by {command:?}");
        }
        assert!(!outcome.has("panicked"), "{command:?}: {}", outcome.stderr);
        outcome
    }

    #[track_caller]
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Outcome {
        self.run(arguments).exits(0)
    }

    /// Takes a complete backup and tells its label.
    #[track_caller]
    pub(crate) fn backup(&self) -> String {
        let document = self.ok(&["backup", "--json"]).document();
        assert_eq!(document["status"], "complete");
        document["label"].as_str().expect("a label").to_owned()
    }

    /// Arguments followed by both identities.
    pub(crate) fn with_identities(&self, arguments: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        for name in ["id/database", "id/keys"] {
            all.extend(["--identity".to_owned(), self.text(name)]);
        }
        all
    }

    /// Restores a backup into a new directory of that name.
    pub(crate) fn restore_to(&self, label: &str, name: &str) -> Outcome {
        let out = self.text(name);
        self.run(&self.with_identities(&["restore", label, "--to-dir", &out, "--apply"]))
    }

    /// What the CA holds now.
    pub(crate) fn contents(&self) -> Contents {
        let mut found = Contents::new();
        collect(&self.ca(), Path::new(""), &mut found);
        found
    }

    /// What was restored below a directory, by its path in the CA; files that wait are no part of it.
    pub(crate) fn restored(&self, name: &str) -> Contents {
        let mut found = Contents::new();
        let below = self.ca();
        let below = below.strip_prefix("/").expect("absolute");
        for asset in std::fs::read_dir(self.path(name)).into_iter().flatten() {
            let place = asset.expect("reads").path().join(below);
            if place.is_dir() {
                collect(&place, Path::new(""), &mut found);
            }
        }
        found
    }
}

/// Plants a secret for the search over everything; a short one would be found there by chance.
fn plant(secret: &str) {
    if secret.len() >= canary::LENGTH_MIN {
        canary::plant(secret);
    }
}

/// Content by path; of a database its rows.
pub(crate) type Contents = BTreeMap<PathBuf, Vec<u8>>;

fn collect(root: &Path, below: &Path, found: &mut Contents) {
    for entry in std::fs::read_dir(root.join(below)).expect("reads") {
        let entry = entry.expect("reads");
        let path = below.join(entry.file_name());
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            collect(root, &path, found);
        } else if kind.is_file()
            && !name.starts_with(".strongroom-")
            && !["-wal", "-shm", "-journal"]
                .iter()
                .any(|end| name.ends_with(end))
        {
            let content = if name.ends_with(".sqlite3") {
                rows(&entry.path())
            } else {
                std::fs::read(entry.path()).expect("reads")
            };
            found.insert(path, content);
        }
    }
}

/// All rows of a database.
pub(crate) fn rows(path: &Path) -> Vec<u8> {
    let connection = Connection::open(path).expect("opens");
    let mut statement = connection
        .prepare("select serial, der from certificates order by serial")
        .expect("prepares");
    let mut text = Vec::new();
    let mut rows = statement.query(()).expect("queries");
    while let Some(row) = rows.next().expect("a row") {
        let serial: u32 = row.get(0).expect("a serial");
        let der: Vec<u8> = row.get(1).expect("bytes");
        text.extend(serial.to_le_bytes());
        text.extend(der);
    }
    text
}

/// Writes a file and its directories.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
    std::fs::write(path, bytes).expect("writes");
}

/// Runs a program that must succeed.
#[track_caller]
pub(crate) fn must(program: &str, arguments: &[impl AsRef<OsStr>]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Makes `to` an exact copy of the directory `from`.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    if to.exists() {
        must("rm", &[OsStr::new("-rf"), to.as_os_str()]);
    }
    must("cp", &[OsStr::new("-a"), from.as_os_str(), to.as_os_str()]);
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Numbers without secrets in them: xorshift64*.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}
