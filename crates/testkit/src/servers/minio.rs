//! `MinIO`: an S3 server with versions, object lock, users and policies.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::{free_port, go_build};
use crate::skip;

/// An access key with its secret.
#[derive(Clone, Debug)]
pub struct Account {
    /// The public half.
    pub access_key: String,
    /// The secret half; good on a test server only.
    pub secret_key: String,
}

impl Account {
    /// An account by its name.
    pub fn new(name: &str) -> Self {
        Self {
            access_key: name.to_owned(),
            secret_key: format!("{name}-secret-key"),
        }
    }

    /// Writes it as an AWS credentials file, 0600.
    pub fn write(&self, directory: &Path) -> PathBuf {
        let path = directory.join(format!("{}.credentials", self.access_key));
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .expect("a credentials file");
        let (access_key, secret_key) = (&self.access_key, &self.secret_key);
        write!(
            file,
            "[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
        )
        .expect("a credentials file");
        path
    }
}

/// How a bucket is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keeps nothing of what is deleted or overwritten.
    Plain,
    /// Keeps versions.
    Versioned,
    /// Keeps versions, and can lock them.
    Locking,
}

/// What a server is started with.
#[derive(Clone, Debug, Default)]
pub struct Options<'o> {
    /// The region that it insists on.
    pub region: Option<&'o str>,
    /// A directory with `public.crt` and `private.key`; without them there is no TLS.
    pub certificates: Option<&'o Path>,
}

/// The one key that its key management knows; encryption with it is there for those who ask for it.
pub const KMS_KEY: &str = "strongroom-tests";

/// A running server; it ends with this, or with the test program.
pub struct Minio {
    child: Child,
    /// It ends when this is closed.
    stdin: Option<ChildStdin>,
    program: PathBuf,
    address: String,
    region: String,
    has_tls: bool,
}

impl Minio {
    /// Starts one. `None`, and said so for `test`, where Go is not installed.
    pub fn start(test: &str, options: &Options<'_>) -> Option<Self> {
        static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let built = PROGRAM.get_or_init(|| go_build("minio"));
        let program = match built {
            Ok(program) => program.clone(),
            Err(why) => {
                skip(test, why);
                return None;
            }
        };
        let address = format!("127.0.0.1:{}", free_port());
        let root = Self::root();
        let region = options.region.unwrap_or("us-east-1").to_owned();
        let mut child = Command::new(&program)
            .args(["serve", &address])
            .args(options.certificates)
            .env("MINIO_ROOT_USER", &root.access_key)
            .env("MINIO_ROOT_PASSWORD", &root.secret_key)
            .env("MINIO_SITE_REGION", &region)
            .env(
                "MINIO_KMS_SECRET_KEY",
                // 32 bytes for tests.
                format!("{KMS_KEY}:c3Ryb25ncm9vbS10ZXN0cy1rbXMta2V5LTMyYnl0ZXM="),
            )
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server can be started");
        let stdin = child.stdin.take();
        let server = Self {
            child,
            stdin,
            program,
            address,
            region,
            has_tls: options.certificates.is_some(),
        };
        server.prepare(&json!({}));
        Some(server)
    }

    /// The account that may do everything.
    pub fn root() -> Account {
        Account::new("strongroom-root")
    }

    /// Where it listens, as a URL.
    pub fn endpoint(&self) -> String {
        let scheme = if self.has_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str, kind: Kind) {
        self.prepare(&json!({ "buckets": [{
            "name": name,
            "versioned": kind != Kind::Plain,
            "lock": kind == Kind::Locking,
        }] }));
    }

    /// Makes a user that may do what a policy document says; `BUCKET` in it stands for `bucket`.
    pub fn make_user(&self, name: &str, policy: &str, bucket: &str) -> Account {
        let account = Account::new(name);
        let policy: Value = serde_json::from_str(&policy.replace("BUCKET", bucket))
            .expect("a policy document is JSON");
        self.prepare(&json!({ "users": [{
            "access_key": account.access_key,
            "secret_key": account.secret_key,
            "policy": policy,
        }] }));
        account
    }

    /// Has the server's own program make things, and waits until it answers.
    fn prepare(&self, what: &Value) {
        let root = Self::root();
        let mut what = what.clone();
        what["address"] = json!(self.address);
        what["tls"] = json!(self.has_tls);
        what["region"] = json!(self.region);
        what["access_key"] = json!(root.access_key);
        what["secret_key"] = json!(root.secret_key);
        let mut child = Command::new(&self.program)
            .arg("prepare")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("its program runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin
            .write_all(what.to_string().as_bytes())
            .expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the S3 server: {said}");
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}
