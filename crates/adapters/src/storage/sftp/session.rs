//! One SFTP session over one ssh: many requests in flight, answers by their number.
//!
//! Both pipes are non-blocking and served together, so that neither side can wait for the other for ever, and a
//! silent server is given up after a time. A session that failed once is of no further use.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use strongroom_core::cancel::Cancel;

use super::super::remote::RequestError;
use super::ssh::Ssh;
use super::wire::{self, Answer, Attributes, Packet, request, status};

/// How often a waiting session looks whether the operator interrupts.
const TICK: Duration = Duration::from_millis(100);
/// The request that makes a file or a directory durable (OpenSSH, PROTOCOL, 4.5).
pub(super) const FSYNC: &str = "fsync@openssh.com";
/// How much is read at once, in bytes.
const BLOCK: usize = 64 << 10;

/// A session; ssh ends with it.
pub(super) struct Session {
    stdin: ChildStdin,
    stdout: ChildStdout,
    ssh: Ssh,
    /// What is not sent yet, from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
    incoming: Vec<u8>,
    answers: HashMap<u32, Answer>,
    /// Requests whose answers nobody waits for.
    unwanted: Vec<u32>,
    next: u32,
    extensions: Vec<String>,
    silence: Duration,
    cancel: Cancel,
    is_broken: bool,
    /// The most requests that were in flight at once.
    in_flight: InFlight,
}

#[derive(Clone, Copy, Default)]
struct InFlight {
    now: usize,
    most: usize,
}

/// A status that is not OK.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) code: u32,
    pub(super) message: String,
}

/// What a request came to: answered well, answered with a failure, or the session broke.
pub(super) type Outcome<T> = Result<Result<T, Failed>, RequestError>;

impl Session {
    /// Starts ssh and greets the server; gives up when nothing at all comes for `silence`.
    pub(super) fn start(
        arguments: &[String],
        silence: Duration,
        cancel: &Cancel,
    ) -> Result<Self, RequestError> {
        let mut ssh = Ssh::start(arguments)?;
        let stdin = ssh.child.stdin.take().expect("piped");
        let stdout = ssh.child.stdout.take().expect("piped");
        do_not_block(&stdin)?;
        do_not_block(&stdout)?;
        let mut session = Self {
            stdin,
            stdout,
            ssh,
            outgoing: Packet::new(request::INIT, wire::VERSION).finish(),
            sent: 0,
            incoming: Vec::new(),
            answers: HashMap::new(),
            unwanted: Vec::new(),
            next: 16,
            extensions: Vec::new(),
            silence,
            cancel: cancel.clone(),
            is_broken: false,
            in_flight: InFlight::default(),
        };
        // The answer to the greeting carries the version where others carry their request.
        match session.answer(wire::VERSION)? {
            Answer::Version(extensions) => session.extensions = extensions,
            other => return Err(session.unexpected(&other)),
        }
        Ok(session)
    }

    /// Whether the server has an extension, `fsync@openssh.com` for instance.
    pub(super) fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|one| one == extension)
    }

    /// Whether it failed, and must not be used again.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// The most requests that were in flight at once so far.
    pub(super) fn most_in_flight(&self) -> usize {
        self.in_flight.most
    }

    /// Puts a request into the queue; its number leads to the answer.
    pub(super) fn send(&mut self, kind: u8, fill: impl FnOnce(Packet) -> Packet) -> u32 {
        let id = self.next;
        self.next = self.next.wrapping_add(1).max(16);
        self.outgoing.extend(fill(Packet::new(kind, id)).finish());
        self.in_flight.now += 1;
        self.in_flight.most = self.in_flight.most.max(self.in_flight.now);
        id
    }

    /// Puts a request into the queue whose answer does not matter.
    pub(super) fn send_and_forget(&mut self, kind: u8, fill: impl FnOnce(Packet) -> Packet) {
        let id = self.send(kind, fill);
        self.unwanted.push(id);
    }

    /// Waits for an answer; meanwhile what is queued goes out.
    pub(super) fn answer(&mut self, id: u32) -> Result<Answer, RequestError> {
        let mut heard = Instant::now();
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return Ok(answer);
            }
            match self.exchange() {
                Ok(true) => heard = Instant::now(),
                Ok(false) if self.cancel.check().is_err() => {
                    return Err(self.fail("it was interrupted"));
                }
                Ok(false) if heard.elapsed() > self.silence => {
                    let why = format!("no answer for {} seconds", self.silence.as_secs());
                    return Err(self.fail(&why));
                }
                Ok(false) => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    /// A status, as it is or as the failure that it tells.
    pub(super) fn status(&mut self, id: u32) -> Outcome<()> {
        match self.answer(id)? {
            Answer::Status(status::OK, _) => Ok(Ok(())),
            Answer::Status(code, message) => Ok(Err(Failed { code, message })),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(super) fn handle(&mut self, id: u32) -> Outcome<Vec<u8>> {
        match self.answer(id)? {
            Answer::Handle(handle) => Ok(Ok(handle)),
            Answer::Status(code, message) => Ok(Err(Failed { code, message })),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(super) fn attributes(&mut self, id: u32) -> Outcome<Attributes> {
        match self.answer(id)? {
            Answer::Attributes(attributes) => Ok(Ok(attributes)),
            Answer::Status(code, message) => Ok(Err(Failed { code, message })),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Data; empty at the end of the file.
    pub(super) fn data(&mut self, id: u32) -> Outcome<Vec<u8>> {
        match self.answer(id)? {
            Answer::Data(data) => Ok(Ok(data)),
            Answer::Status(status::EOF, _) => Ok(Ok(Vec::new())),
            Answer::Status(code, message) => Ok(Err(Failed { code, message })),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Names; empty at the end of the directory.
    pub(super) fn names(&mut self, id: u32) -> Outcome<Vec<(Vec<u8>, Attributes)>> {
        match self.answer(id)? {
            Answer::Names(names) => Ok(Ok(names)),
            Answer::Status(status::EOF, _) => Ok(Ok(Vec::new())),
            Answer::Status(code, message) => Ok(Err(Failed { code, message })),
            other => Err(self.unexpected(&other)),
        }
    }

    /// An answer of another kind than the request's.
    pub(super) fn unexpected(&mut self, answer: &Answer) -> RequestError {
        tracing::debug!(?answer, "an answer of another kind");
        self.fail("the server's answers make no sense")
    }

    fn fail(&mut self, why: &str) -> RequestError {
        self.is_broken = true;
        self.ssh.failure(why)
    }

    fn broken(&mut self, error: &io::Error) -> RequestError {
        let inner = error.get_ref();
        if inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<wire::Malformed>) {
            self.fail("");
            return RequestError::Refused {
                why: "the other side does not speak SFTP".into(),
                hint: "Does the shell of the account over there print something at login? Use internal-sftp as subsystem, or take the text out.",
            };
        }
        self.fail("the connection broke")
    }

    /// Writes and reads what can be; false when nothing could for a moment.
    fn exchange(&mut self) -> io::Result<bool> {
        let mut waited = [
            PollFd::new(&self.stdout, PollFlags::IN),
            PollFd::new(&self.stdin, PollFlags::OUT),
        ];
        let has_more = self.sent < self.outgoing.len();
        let waited = if has_more {
            &mut waited[..]
        } else {
            &mut waited[..1]
        };
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: TICK.subsec_nanos().into(),
        };
        match poll(waited, Some(&tick)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: usize| waited.get(at).is_some_and(|one| !one.revents().is_empty());
        let (can_read, can_write) = (is_ready(0), is_ready(1));
        if can_read {
            self.read()?;
        }
        if can_write {
            self.write()?;
        }
        Ok(true)
    }

    fn write(&mut self) -> io::Result<()> {
        match self.stdin.write(&self.outgoing[self.sent..]) {
            Ok(written) => self.sent += written,
            Err(error) if is_no_matter(&error) => {}
            Err(error) => return Err(error),
        }
        if self.sent == self.outgoing.len() {
            self.outgoing.clear();
            self.sent = 0;
        } else if self.sent > 16 * BLOCK {
            self.outgoing.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let before = self.incoming.len();
        self.incoming.resize(before + BLOCK, 0);
        let read = self.stdout.read(&mut self.incoming[before..]);
        self.incoming
            .truncate(before + read.as_ref().map_or(0, |length| *length));
        match read {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if is_no_matter(&error) => {}
            Err(error) => return Err(error),
        }
        let mut used = 0;
        while let Some((length, id, answer)) =
            wire::first_packet(&self.incoming[used..]).map_err(io::Error::other)?
        {
            used += length;
            self.in_flight.now = self.in_flight.now.saturating_sub(1);
            match self.unwanted.iter().position(|one| *one == id) {
                Some(at) => drop(self.unwanted.swap_remove(at)),
                None => drop(self.answers.insert(id, answer)),
            }
        }
        self.incoming.drain(..used);
        Ok(())
    }
}

fn do_not_block(pipe: &impl AsFd) -> Result<(), RequestError> {
    let set = fcntl_getfl(pipe).and_then(|flags| fcntl_setfl(pipe, flags | OFlags::NONBLOCK));
    set.map_err(|error| RequestError::Local(error.into()))
}

fn is_no_matter(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
