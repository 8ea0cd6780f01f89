//! The OpenSSH client as a child: how it is started, and what its last words mean.
//!
//! It alone knows keys, agents, jump hosts and `~/.ssh/config`. The host key is always checked: nothing here can
//! make it accept one that is not known.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use zeroize::Zeroizing;

use super::super::remote::RequestError;
use super::HOST_KEY_PREFIX;

/// How much of what ssh says is kept, in bytes.
const SAID_MAX: usize = 4096;
/// The longest private key that is looked at, in bytes.
const KEY_MAX: u64 = 64 << 10;
/// What a private key of OpenSSH begins with, in base64: `openssh-key-v1` and NUL.
const OPENSSH_KEY: &str = "b3BlbnNzaC1rZXktdjEA";
/// The same with the cipher `none` behind it.
const OPENSSH_OPEN_KEY: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUA";

/// A running ssh; killed when it is dropped.
pub(super) struct Ssh {
    pub(super) child: Child,
    said: Option<JoinHandle<Vec<u8>>>,
}

impl Ssh {
    /// Starts ssh with these arguments; its standard input and output are pipes.
    pub(super) fn start(arguments: &[String]) -> Result<Self, RequestError> {
        let mut child = command(arguments).spawn().map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                RequestError::Refused {
                    why: "there is no program \"ssh\" in the PATH".into(),
                    hint: "Install the OpenSSH client (Debian: openssh-client).",
                }
            } else {
                RequestError::Local(error)
            }
        })?;
        let stderr = child.stderr.take().expect("piped");
        Ok(Self {
            child,
            said: Some(std::thread::spawn(move || last_words(stderr))),
        })
    }

    /// Why it ended, or broke: ends it, and reads what it said.
    pub(super) fn failure(&mut self, broken: &str) -> RequestError {
        self.end();
        let said = self.said.take().map(JoinHandle::join);
        let said = said.and_then(Result::ok).unwrap_or_default();
        failure_of(&String::from_utf8_lossy(&said), broken)
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.end();
    }
}

/// The only place that starts ssh for a storage.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the module that starts ssh for storages"
)]
fn command(arguments: &[String]) -> Command {
    let mut command = Command::new("ssh");
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // An interruption at the terminal is for Strongroom, which ends ssh when it is done with it.
        .process_group(0);
    command
}

/// Reads to the end, and keeps the end.
fn last_words(mut from: impl Read) -> Vec<u8> {
    let mut said = Vec::new();
    let mut block = [0; 1024];
    while let Ok(length @ 1..) = from.read(&mut block) {
        said.extend_from_slice(&block[..length]);
        if said.len() > SAID_MAX {
            said.drain(..said.len() - SAID_MAX);
        }
    }
    said
}

/// What it means when the server lets nobody in.
const UNKNOWN_KEYS: &str = "the server knows none of the keys";

/// What ssh says, and what it means.
const MEANINGS: &[(&str, &str, &str)] = &[
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the server shows another host key than the pinned one",
        "Either the server was set up anew or somebody is in between. Ask its administrator for the new key by another way, compare, and only then change known_hosts or host_key. Nothing was sent.",
    ),
    (
        "Host key verification failed",
        "the server's host key is not known",
        "Get the key from its administrator, or with ssh-keyscan and compare its fingerprint (ssh-keygen -lf), and write it into the file of known_hosts or into host_key. It is never accepted unseen.",
    ),
    (
        "UNPROTECTED PRIVATE KEY FILE",
        "the private key can be read by others",
        "chmod 600 the file that credentials_file names.",
    ),
    (
        "Load key",
        "the private key cannot be read",
        "credentials_file must name a private key that the account of the backup reads and that has no passphrase; or leave it out and use an agent.",
    ),
    (
        "no such identity",
        "the private key is not there",
        "credentials_file must name a private key that the account of the backup reads.",
    ),
    (
        "Too many authentication failures",
        "the server ended the login after too many keys",
        "Name the one key that the server knows in credentials_file.",
    ),
    (
        "Permission denied (",
        UNKNOWN_KEYS,
        "Add the public key to authorized_keys of the account over there, and check user and credentials_file.",
    ),
    (
        "subsystem request failed",
        "the server has no SFTP subsystem",
        "sshd_config over there needs: Subsystem sftp internal-sftp",
    ),
    (
        "Bad configuration option",
        "the configuration of ssh on this host has a fault",
        "Correct ~/.ssh/config or /etc/ssh/ssh_config.",
    ),
    (
        "Bad owner or permissions",
        "ssh does not trust the configuration of ssh on this host",
        "Give ~/.ssh/config to its owner alone: chmod 600.",
    ),
];

/// What ends and may be better the next time, in words.
const SILENCES: &[(&str, &str)] = &[
    (
        "Connection refused",
        "nothing listens there: is sshd running, and is the port right?",
    ),
    (
        "timed out",
        "the server did not answer in time: is it up, and does a firewall let this host through?",
    ),
    (
        "Could not resolve hostname",
        "the name of the server cannot be resolved: is it right, and does DNS work?",
    ),
    (
        "No route to host",
        "there is no way to the server: is the network up?",
    ),
];

fn failure_of(said: &str, broken: &str) -> RequestError {
    let words = one_line(said);
    for (mark, why, hint) in MEANINGS {
        if said.contains(mark) {
            let why = format!("{why} (ssh says: {words})");
            return RequestError::Refused { why, hint };
        }
    }
    for (mark, why) in SILENCES {
        if said.contains(mark) {
            return RequestError::transient(format!("{why} (ssh says: {words})"));
        }
    }
    if words.is_empty() {
        return RequestError::transient(broken);
    }
    RequestError::transient(format!("{broken} (ssh says: {words})"))
}

/// A login that failed with this key: ssh asks nobody for a passphrase and says nothing of it.
pub(super) fn about_key(error: RequestError, file: &Path) -> RequestError {
    match error {
        RequestError::Refused { why, .. } if why.starts_with(UNKNOWN_KEYS) && is_closed(file) => {
            RequestError::Refused {
                why: format!(
                    "the private key {} has a passphrase, and nobody is there to type it",
                    file.display()
                ),
                hint: "Take the passphrase off a key that is for backups alone (ssh-keygen -p -f FILE), or give the key to an agent that the account of the backup reaches (ssh-add).",
            }
        }
        error => error,
    }
}

/// Whether a private key is encrypted, in the formats that ssh reads.
fn is_closed(file: &Path) -> bool {
    let mut text = String::new();
    let file = std::fs::File::open(file);
    let read = file.and_then(|file| file.take(KEY_MAX).read_to_string(&mut text));
    let text = Zeroizing::new(text);
    if read.is_err() {
        return false;
    }
    let is_old = text.contains("Proc-Type: 4,ENCRYPTED");
    let body: String = text.lines().skip(1).take(1).collect();
    let is_openssh = body.starts_with(OPENSSH_KEY) && !body.starts_with(OPENSSH_OPEN_KEY);
    is_old || is_openssh || text.contains("BEGIN ENCRYPTED PRIVATE KEY")
}

/// The lines that say something, without control characters. What ssh advises about the file of a pinned key is left
/// out: that file is gone with this run, and nobody should follow the advice.
fn one_line(said: &str) -> String {
    let is_advice = |line: &str| {
        line == "remove with:"
            || line.starts_with("ssh-keygen -f")
            || line.contains(HOST_KEY_PREFIX)
    };
    let lines = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('@') && !is_advice(line));
    let text = lines.collect::<Vec<_>>().join("; ");
    text.chars()
        .filter(|character| !character.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_have_a_meaning() {
        let refused = |said| match failure_of(said, "it ended") {
            RequestError::Refused { why, .. } => why,
            other => panic!("not refused: {other:?}"),
        };
        let changed = "@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\r\n";
        assert_eq!(
            refused(changed),
            "the server shows another host key than the pinned one (ssh says: Host key verification failed.)"
        );
        assert!(
            refused("u@h: Permission denied (publickey).").starts_with("the server knows none")
        );
        let advice = "REMOTE HOST IDENTIFICATION HAS CHANGED\nOffending ED25519 key in /tmp/strongroom-host-key-x:1\n  remove with:\n  ssh-keygen -f \"/tmp/strongroom-host-key-x\" -R \"h\"\nHost key verification failed.";
        let told = refused(advice);
        assert!(
            !told.contains("ssh-keygen") && !told.contains("/tmp"),
            "{told}"
        );
        for said in [
            "",
            "ssh: connect to host h port 1: Connection refused",
            "\u{7}odd",
        ] {
            let error = failure_of(said, "it ended");
            assert!(matches!(error, RequestError::Transient(_)), "{error:?}");
            assert!(!error.to_string().contains('\u{7}'));
        }
    }
}
