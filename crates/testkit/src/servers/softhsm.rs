//! SoftHSM2 in a directory of its own: tokens made, filled and destroyed with its own tools and those of OpenSC.
//!
//! Its library reads `SOFTHSM2_CONF` from the environment of the process, so whatever uses the tokens runs in a process of its
//! own: the built program, or the test once more ([`SoftHsm::run_again`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The PIN of every token.
pub const PIN: &str = "4321-canary-pin";

/// The variable that names the configuration.
const CONFIGURATION: &str = "SOFTHSM2_CONF";

/// The variable that says that this process is the second run of a test.
const ROOM: &str = "STRONGROOM_SOFTHSM_ROOM";

/// A directory with tokens.
pub struct SoftHsm {
    root: PathBuf,
    _directory: Option<TempDir>,
}

impl SoftHsm {
    /// The library; `None` where it is not installed, or OpenSC is not.
    pub fn module() -> Option<PathBuf> {
        let places = [
            "/usr/lib/softhsm/libsofthsm2.so",
            "/usr/lib64/libsofthsm2.so",
            "/usr/lib64/pkcs11/libsofthsm2.so",
            "/usr/local/lib/softhsm/libsofthsm2.so",
        ];
        Command::new("pkcs11-tool").arg("--version").output().ok()?;
        places.map(PathBuf::from).into_iter().find(|at| at.exists())
    }

    /// An empty one.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("sr-softhsm-")
            .tempdir()
            .expect("a directory");
        let hsm = Self {
            root: directory.path().to_owned(),
            _directory: Some(directory),
        };
        fs::create_dir(hsm.tokens()).expect("a new directory");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            hsm.tokens().display()
        );
        fs::write(hsm.configuration(), text).expect("writes");
        // The same wrapping key for every token: it outlives them.
        fs::write(hsm.path("wrapping.key"), [0x5A; 32]).expect("writes");
        hsm
    }

    /// Runs the body in a second run of the test `name`, which has a directory with tokens in its environment. Does nothing but say
    /// so where SoftHSM2 is not installed.
    pub fn run_again(name: &str, body: impl FnOnce(&Self)) {
        if let Some(root) = std::env::var_os(ROOM) {
            return body(&Self {
                root: root.into(),
                _directory: None,
            });
        }
        if Self::module().is_none() {
            return crate::skip(name, "softhsm2 or opensc is not installed");
        }
        let hsm = Self::new();
        let program = std::env::current_exe().expect("the test itself");
        let output = hsm
            .command(program)
            .env(ROOM, &hsm.root)
            .args(["--exact", name, "--nocapture"])
            .output()
            .expect("starts");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
        assert!(output.status.success(), "{stdout}\n{stderr}");
        assert!(stdout.contains("1 passed"), "{name} is the name of a test");
        assert!(
            !stdout.contains(PIN) && !stderr.contains(PIN),
            "the PIN is printed"
        );
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// `softhsm2.conf`.
    pub fn configuration(&self) -> PathBuf {
        self.path("softhsm2.conf")
    }

    /// `directories.tokendir`.
    pub fn tokens(&self) -> PathBuf {
        self.path("tokens")
    }

    /// A file of mode 0600 with a PIN.
    pub fn pin_file(&self, name: &str, pin: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("{pin}\n")).expect("writes");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, mode).expect("sets");
        path
    }

    /// A program that sees these tokens.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env(CONFIGURATION, self.configuration());
        command
    }

    /// Makes a token; returns its serial number.
    pub fn init_token(&self, label: &str) -> String {
        let before = self.serials();
        must(self.command("softhsm2-util").args([
            "--init-token",
            "--free",
            "--label",
            label,
            "--so-pin",
            "87654321",
            "--pin",
            PIN,
        ]));
        let mut after = self.serials();
        after.retain(|serial| !before.contains(serial));
        after.pop().expect("the new token")
    }

    /// The serial numbers of all tokens.
    fn serials(&self) -> Vec<String> {
        let output = must(self.command("softhsm2-util").arg("--show-slots"));
        let text = String::from_utf8_lossy(&output.stdout);
        let serials = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Serial number:"));
        let serials = serials.map(|serial| serial.trim().to_owned());
        serials.filter(|serial| !serial.is_empty()).collect()
    }

    /// The directory of the token with this serial number.
    pub fn directory(&self, serial: &str) -> PathBuf {
        let entries = fs::read_dir(self.tokens()).expect("reads");
        let mut paths = entries.map(|entry| entry.expect("an entry").path());
        let found = paths.find(|path| {
            let name = path.to_string_lossy().replace('-', "");
            name.ends_with(serial)
        });
        found.expect("a token with this serial number")
    }

    /// Destroys a token, as a fire would.
    pub fn destroy(&self, serial: &str) {
        fs::remove_dir_all(self.directory(serial)).expect("removes");
    }

    /// Runs `pkcs11-tool` on a token, logged in; it must end well.
    pub fn tool(&self, token: &str, arguments: &[&str]) -> Output {
        must(self.tool_command(token).args(arguments))
    }

    /// The same, not run yet.
    pub fn tool_command(&self, token: &str) -> Command {
        let mut command = self.command("pkcs11-tool");
        command
            .arg("--module")
            .arg(Self::module().expect("is installed"));
        command.args(["--token-label", token, "--login", "--pin", PIN]);
        command
    }

    /// Puts the wrapping key into a token, as the ceremony does.
    pub fn wrapping_key(&self, token: &str, label: &str) {
        let file = self.path("wrapping.key");
        must(
            self.command("softhsm2-util")
                .arg("--import")
                .arg(file)
                .args([
                    "--aes", "--token", token, "--label", label, "--id", "7777", "--pin", PIN,
                ]),
        );
    }

    /// Puts one half of the RSA wrapping key into a token, as its custodians do: `pubkey` wraps, `privkey` unwraps.
    pub fn rsa_wrapping_key(&self, token: &str, label: &str, half: &str) {
        let file = |name: &str| self.path(name).to_str().expect("UTF-8").to_owned();
        let (pem, der) = (self.rsa_wrapping_key_file(), file("wrapping-rsa.der"));
        let pem = pem.to_str().expect("UTF-8");
        let mut convert = openssl(&["rsa", "-in", pem, "-outform", "DER", "-out", &der]);
        if half == "pubkey" {
            convert.arg("-pubout");
        }
        must(convert);
        self.tool(
            token,
            &[
                "--write-object",
                &der,
                "--type",
                half,
                "--id",
                "8888",
                "--label",
                label,
                "--usage-wrap",
            ],
        );
    }

    /// The RSA wrapping key, in PEM. The same for every token: it outlives them.
    pub fn rsa_wrapping_key_file(&self) -> PathBuf {
        let pem = self.path("wrapping-rsa.pem");
        if !pem.exists() {
            must(openssl(&["genrsa", "-out"]).arg(&pem).arg("2048"));
        }
        pem
    }

    /// Makes a key pair: `rsa:3072`, `EC:prime256v1`.
    pub fn key(&self, token: &str, (id, label): (&str, &str), kind: &str, is_extractable: bool) {
        let mut arguments = vec![
            "--keypairgen",
            "--key-type",
            kind,
            "--id",
            id,
            "--label",
            label,
            "--usage-sign",
        ];
        if is_extractable {
            arguments.push("--extractable");
        }
        self.tool(token, &arguments);
    }

    /// Issues a certificate for the public key with the identifier `of`, and puts it into the token under `id`.
    pub fn certificate(&self, token: &str, of: &str, (id, label): (&str, &str)) {
        let file = |name: &str| self.path(name).to_str().expect("UTF-8").to_owned();
        let (spki, pem, der) = (file("spki.der"), file("spki.pem"), file("certificate.der"));
        self.tool(
            token,
            &[
                "--read-object",
                "--type",
                "pubkey",
                "--id",
                of,
                "--output-file",
                &spki,
            ],
        );
        must(openssl(&[
            "pkey", "-pubin", "-inform", "DER", "-in", &spki, "-out", &pem,
        ]));
        let (root, key) = (file("root.pem"), file("root.key"));
        if !Path::new(&root).exists() {
            must(openssl(&[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                &key,
                "-out",
                &root,
                "-days",
                "30",
                "-subj",
                "/CN=Root of the tests",
            ]));
        }
        let subject = format!("/CN={label}");
        must(openssl(&[
            "x509",
            "-new",
            "-force_pubkey",
            &pem,
            "-CA",
            &root,
            "-CAkey",
            &key,
            "-subj",
            &subject,
            "-days",
            "30",
            "-outform",
            "DER",
            "-out",
            &der,
        ]));
        self.tool(
            token,
            &[
                "--write-object",
                &der,
                "--type",
                "cert",
                "--id",
                id,
                "--label",
                label,
            ],
        );
    }
}

impl Default for SoftHsm {
    fn default() -> Self {
        Self::new()
    }
}

fn openssl(arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments);
    command
}

impl SoftHsm {
    /// A CA with its keys: an RSA and an EC key with certificates, and the wrapping key `kek`. Returns the serial number.
    pub fn authority(&self, token: &str) -> String {
        let serial = self.init_token(token);
        self.wrapping_key(token, "kek");
        self.key(token, ("01", "root"), "rsa:3072", true);
        self.certificate(token, "01", ("01", "root"));
        self.key(token, ("02", "issuing ca"), "EC:prime256v1", true);
        self.certificate(token, "02", ("02", "issuing ca"));
        serial
    }
}

fn must(mut command: impl std::borrow::BorrowMut<Command>) -> Output {
    let command = command.borrow_mut();
    let output = command.output().expect("is installed");
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
