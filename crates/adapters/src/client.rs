//! Starts the client programs of database servers: here, or where the server runs.
//!
//! A password is read from its file and handed over as the first line of the program's standard input, which a shell puts into the
//! variable that the program reads: it stands in no argument, no file and no environment but the program's own. Nothing
//! here knows what the programs do.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use zeroize::Zeroizing;

/// How much of what a program says about its failure is kept, in bytes.
const SAID_MAX: usize = 16 * 1024;

/// Where client programs run, and what they log in with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The words before the program: `docker compose exec -T postgres`, `ssh db.example`; none to run it here.
    pub via: Vec<String>,
    /// Where the programs lie, if not in the PATH.
    pub programs: Option<PathBuf>,
    /// The file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// The variable that the programs read the password from.
    pub password_variable: &'static str,
}

/// Why a client program was of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The password file cannot be used.
    #[error("the password file {path:?} {why}")]
    Password {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The program could not be started.
    #[error("cannot start {program:?}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its input or output broke.
    #[error("cannot {operation} {program:?}")]
    Pipe {
        /// What was being done.
        operation: &'static str,
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed, and said why.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said on standard error, in one line.
        said: String,
    },
}

impl Client {
    /// Starts `program` with `arguments`; its standard input and output are pipes.
    pub fn start<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: &[A],
    ) -> Result<Running, ClientError> {
        let password = self.password()?;
        let mut words: Vec<String> = Vec::new();
        if password.is_some() {
            let variable = self.password_variable;
            // `read` takes one byte at a time, so that what follows the line is left to the program.
            let script = format!("IFS= read -r {variable} && export {variable} && exec \"$@\"");
            words.extend(["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]);
        }
        words.push(match &self.programs {
            Some(directory) => directory.join(program).to_string_lossy().into_owned(),
            None => program.to_owned(),
        });
        words.extend(
            arguments
                .iter()
                .map(|argument| argument.as_ref().to_string_lossy().into_owned()),
        );
        if self.is_ssh() {
            // ssh joins its words, and a shell over there takes them apart again.
            words = words.iter().map(|word| quoted(word)).collect();
        }
        let mut all = self.via.iter().chain(&words);
        let first = all.next().expect("there is a program");
        let mut child = command(first)
            .args(all)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| ClientError::Start {
                program: first.clone(),
                source,
            })?;
        let stderr = child.stderr.take().expect("piped above");
        let mut running = Running {
            program: program.to_owned(),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            said: Some(std::thread::spawn(move || last_words(stderr))),
            child,
            secret: password.clone(),
        };
        if let Some(password) = password {
            let stdin = running.stdin.as_mut().expect("piped above");
            let written = stdin
                .write_all(password.as_bytes())
                .and_then(|()| stdin.write_all(b"\n"));
            if let Err(source) = written {
                return Err(running.broken("log in with", source));
            }
        }
        Ok(running)
    }

    /// Starts a program, closes its input and returns its whole output.
    pub fn output<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: &[A],
    ) -> Result<Vec<u8>, ClientError> {
        let mut running = self.start(program, arguments)?;
        drop(running.stdin());
        let mut output = Vec::new();
        if let Err(source) = running.stdout().read_to_end(&mut output) {
            return Err(running.broken("read from", source));
        }
        running.finish()?;
        Ok(output)
    }

    /// Whether the programs run on this machine, and can be given files.
    pub fn is_local(&self) -> bool {
        self.via.is_empty()
    }

    fn is_ssh(&self) -> bool {
        let name = self.via.first().map(|word| Path::new(word).file_name());
        name == Some(Some(OsStr::new("ssh")))
    }

    fn password(&self) -> Result<Option<Zeroizing<String>>, ClientError> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let wrong = |why: String| ClientError::Password {
            path: path.clone(),
            why,
        };
        let metadata = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(wrong("can be read by others; chmod 600".to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let text = Zeroizing::new(text);
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(wrong("has no first line".to_owned()));
        }
        Ok(Some(Zeroizing::new(line.to_owned())))
    }
}

/// A client program at work; killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    program: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    said: Option<JoinHandle<Vec<u8>>>,
    /// Taken out of what is reported, should a program ever say it.
    secret: Option<Zeroizing<String>>,
}

impl Running {
    /// Its standard input; dropping it tells the program that there is no more. Can be taken once.
    pub fn stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("standard input is taken once")
    }

    /// Its standard output. Can be taken once.
    pub fn stdout(&mut self) -> ChildStdout {
        self.stdout.take().expect("standard output is taken once")
    }

    /// The number of the process on this machine.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; an error unless it ends well.
    pub fn finish(mut self) -> Result<(), ClientError> {
        self.stdin = None;
        self.stdout = None;
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(source) => return Err(self.broken("wait for", source)),
        };
        if status.success() {
            return Ok(());
        }
        Err(ClientError::Failed {
            program: self.program.clone(),
            status,
            said: self.said(),
        })
    }

    /// What a broken pipe means: mostly that the program has failed, and why.
    pub fn broken(mut self, operation: &'static str, source: io::Error) -> ClientError {
        self.stdin = None;
        self.stdout = None;
        match self.child.wait() {
            Ok(status) if !status.success() => ClientError::Failed {
                program: self.program.clone(),
                status,
                said: self.said(),
            },
            _ => ClientError::Pipe {
                operation,
                program: self.program.clone(),
                source,
            },
        }
    }

    fn said(&mut self) -> String {
        let said = self.said.take().map(JoinHandle::join);
        let said = said.and_then(Result::ok).unwrap_or_default();
        let text = String::from_utf8_lossy(&said);
        let mut line = text.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        if let Some(secret) = &self.secret {
            line = line.replace(secret.as_str(), "***");
        }
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.said.is_some() {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The first and only place that starts client programs.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the module of the adapters that starts programs"
)]
fn command(program: &str) -> Command {
    Command::new(program)
}

/// Reads to the end, and keeps the end.
fn last_words(mut from: impl io::Read) -> Vec<u8> {
    let mut said = Vec::new();
    let mut block = [0; 4096];
    while let Ok(length) = from.read(&mut block) {
        if length == 0 {
            break;
        }
        said.extend_from_slice(&block[..length]);
        if said.len() > 2 * SAID_MAX {
            said.drain(..said.len() - SAID_MAX);
        }
    }
    said
}

/// A word as a POSIX shell wants it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client {
            password_variable: "SECRET",
            ..Client::default()
        }
    }

    fn with_password(directory: &Path, text: &str) -> Client {
        let path = directory.join("password");
        let mut file = strongroom_core::private_file::create_new(&path).expect("creates");
        file.write_all(text.as_bytes()).expect("writes");
        Client {
            password_file: Some(path),
            ..client()
        }
    }

    #[test]
    fn a_password_arrives_and_the_input_after_it_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let client = with_password(directory.path(), "it's $HOME \\n\nsecond line\n");
        let script = "printf '%s|' \"$SECRET\"; cat; printf '|%s' \"$*\"";
        let mut running = client
            .start("sh", &["-c", script, "sh", "a b", "*"])
            .expect("starts");
        let mut stdin = running.stdin();
        stdin.write_all(b"one\ntwo").expect("writes");
        drop(stdin);
        let mut output = String::new();
        running.stdout().read_to_string(&mut output).expect("reads");
        running.finish().expect("ends well");
        assert_eq!(output, "it's $HOME \\n|one\ntwo|a b *");
    }

    #[test]
    fn a_failure_is_told_without_the_password() {
        let directory = tempfile::tempdir().expect("a directory");
        let client = with_password(directory.path(), "hidden-word\n");
        let script = "echo \"no: $SECRET\" >&2; exit 3";
        let error = client.output("sh", &["-c", script]).expect_err("fails");
        assert_eq!(error.to_string(), "sh failed (exit status: 3): no: ***");
        let error = client.output("no-such-program", &["x"]).expect_err("fails");
        assert!(matches!(error, ClientError::Failed { .. }), "{error}");
        let error = self::client().output("no-such-program", &["x"]);
        assert!(matches!(error, Err(ClientError::Start { .. })));
    }

    #[test]
    fn words_survive_the_shell_of_the_other_side() {
        let directory = tempfile::tempdir().expect("a directory");
        let ssh = directory.path().join("ssh");
        let mut file = strongroom_core::private_file::create_new(&ssh).expect("creates");
        // As ssh does: joined by blanks, taken apart by a shell.
        file.write_all(b"#!/bin/sh\nshift\nexec sh -c \"$*\"\n")
            .expect("writes");
        drop(file);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&ssh, mode).expect("sets");
        let client = Client {
            via: vec![ssh.to_string_lossy().into_owned(), "host".to_owned()],
            ..with_password(directory.path(), "p w\n")
        };
        let words = [
            "-c",
            "printf '%s|' \"$SECRET\" \"$@\"",
            "sh",
            "a b",
            "it's",
            "$x",
        ];
        let output = client.output("sh", &words).expect("ends well");
        assert_eq!(String::from_utf8_lossy(&output), "p w|a b|it's|$x|");
    }

    #[test]
    fn a_password_file_for_all_eyes_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let client = with_password(directory.path(), "x\n");
        let path = client.password_file.clone().expect("is set");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&path, mode).expect("sets");
        let error = client.output("true", &["x"]).expect_err("is refused");
        assert!(error.to_string().contains("others"), "{error}");
    }
}
