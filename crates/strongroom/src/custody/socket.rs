//! A waiting command takes shares from other processes over a Unix socket.
//!
//! A share is sent as two lines: its line form, and the custodian that its file names, or `-`. The answer is one line:
//! `ok` or `no`, and a sentence. Who may connect is decided by the permissions of the socket, and looked at again by the
//! credentials of the peer.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use strongroom_core::cancel::Cancel;
use strongroom_core::custody::{ShareError, ShareText, parse_share};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure, io};

/// How long one peer may take to send its share.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often an interruption is looked for, in nanoseconds.
const TURN_NANOSECONDS: i64 = 200_000_000;
/// The most that a peer may send.
const MESSAGE_MAX: u64 = 4096;

/// A socket that shares come in by; gone when it is dropped.
pub(super) struct QuorumSocket {
    listener: UnixListener,
    path: PathBuf,
    for_group: bool,
}

impl QuorumSocket {
    /// Makes the socket, 0600, or 0660 when the group may give shares. A dead one is replaced, nothing else is.
    pub(super) fn bind(path: &Path, for_group: bool) -> Result<Self, Failure> {
        let is_dead = std::fs::symlink_metadata(path)
            .is_ok_and(|metadata| metadata.file_type().is_socket())
            && UnixStream::connect(path).is_err();
        if is_dead {
            std::fs::remove_file(path).map_err(io("remove the dead socket", path))?;
        }
        let listener = UnixListener::bind(path).map_err(|error| {
            let failure = io("make the socket", path)(error);
            failure.hint("Name a path that does not exist, in a directory that you can write to.")
        })?;
        let socket = Self {
            listener,
            path: path.to_owned(),
            for_group,
        };
        let mode = if for_group { 0o660 } else { 0o600 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(io("set the permissions of", path))?;
        socket
            .listener
            .set_nonblocking(true)
            .map_err(io("open", path))?;
        Ok(socket)
    }

    /// Takes the next share and answers what `offer` says of it. What cannot be read is answered and told as well.
    pub(super) fn next(
        &self,
        cancel: &Cancel,
        offer: &mut dyn FnMut(ShareText, &str) -> Result<String, String>,
    ) -> Result<Result<String, String>, Failure> {
        let turn = Timespec {
            tv_sec: 0,
            tv_nsec: TURN_NANOSECONDS,
        };
        loop {
            cancel.check()?;
            let mut ready = [PollFd::new(&self.listener, PollFlags::IN)];
            match poll(&mut ready, Some(&turn)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(io("wait at", &self.path)(error.into())),
            }
            // Otherwise the peer went away again.
            if let Ok((stream, _)) = self.listener.accept() {
                return Ok(self.serve(&stream, offer));
            }
        }
    }

    fn serve(
        &self,
        mut stream: &UnixStream,
        offer: &mut dyn FnMut(ShareText, &str) -> Result<String, String>,
    ) -> Result<String, String> {
        let failed = |error: std::io::Error| format!("a peer sent no share: {error}");
        stream.set_nonblocking(false).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let peer = socket_peercred(stream).map_err(|error| failed(error.into()))?;
        let uid = peer.uid.as_raw();
        let answer = if !self.for_group && uid != geteuid().as_raw() && uid != 0 {
            Err(format!("uid {uid} may not give shares here"))
        } else {
            receive(stream)
                .map_err(failed)?
                .map_err(|error| format!("uid {uid} gave something else: {error}"))
                .and_then(|text| offer(text, &format!("socket, uid {uid}")))
        };
        let (word, sentence) = match &answer {
            Ok(sentence) => ("ok", sentence),
            Err(sentence) => ("no", sentence),
        };
        // A peer that does not wait for the answer has given its share all the same.
        let _ = stream.write_all(format!("{word} {sentence}\n").as_bytes());
        answer
    }
}

impl Drop for QuorumSocket {
    fn drop(&mut self) {
        // It is ours; who took it away already did no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn receive(stream: &UnixStream) -> std::io::Result<Result<ShareText, ShareError>> {
    let capacity = usize::try_from(MESSAGE_MAX).expect("4096");
    let mut message = Zeroizing::new(Vec::with_capacity(capacity));
    // Byte by byte, so that no other buffer holds the share: until the second line ends.
    let mut stream = stream.take(MESSAGE_MAX);
    let mut byte = [0];
    let mut lines = 0;
    while lines < 2 && stream.read(&mut byte)? == 1 {
        lines += usize::from(byte[0] == b'\n');
        message.push(byte[0]);
    }
    let Ok(text) = std::str::from_utf8(&message) else {
        return Ok(Err(ShareError::SomethingElse("binary")));
    };
    let mut lines = text.lines();
    let share = parse_share(lines.next().unwrap_or_default());
    let said = lines.next().filter(|name| *name != "-" && !name.is_empty());
    Ok(share.map(|text| ShareText {
        custodian: said.map(str::to_owned),
        ..text
    }))
}

/// Gives a share to the command that waits at this socket; its answer is a sentence.
///
/// It must run as root, as the caller, or as the account that the custodian names: a share is not for whoever listens.
pub(crate) fn give(
    path: &Path,
    listener: Option<u32>,
    text: &ShareText,
) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("cannot reach {}: {error}", path.display());
        Failure::new(Exit::Failed, "quorum-socket", message).hint(
            "Is the command still waiting? It says its socket, and who may connect: --quorum-group opens it to the group.",
        )
    };
    let mut stream = UnixStream::connect(path).map_err(failed)?;
    let peer = socket_peercred(&stream).map_err(|error| failed(error.into()))?;
    let uid = peer.uid.as_raw();
    if uid != 0 && uid != geteuid().as_raw() && Some(uid) != listener {
        let message = format!(
            "uid {uid} listens at {}, and was given nothing",
            path.display()
        );
        return Err(Failure::new(Exit::Refused, "stranger-listens", message).hint(
            "Ask who runs the restore. If that account is the right one, say so: --listener UID.",
        ));
    }
    let mut message = Zeroizing::new(String::with_capacity(512));
    message.push_str(&text.share.to_line());
    message.push('\n');
    message.push_str(text.custodian.as_deref().unwrap_or("-"));
    message.push('\n');
    stream.write_all(message.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MESSAGE_MAX))
        .read_line(&mut answer)
        .map_err(failed)?;
    match answer.trim_end().split_once(' ') {
        Some(("ok", sentence)) => Ok(sentence.to_owned()),
        Some(("no", sentence)) => Err(Failure::new(Exit::Refused, "share-refused", sentence)
            .hint("The command goes on waiting for other shares.")),
        _ => Err(Failure::new(
            Exit::Failed,
            "quorum-socket",
            format!("no answer from {}", path.display()),
        )),
    }
}
