//! Bytes to and from files over there: many short requests in flight, so that latency does not limit throughput.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::super::remote::RequestError;
use super::refused;
use super::session::{Failed, Session};
use super::wire::{open, request};

/// Bytes of one request; every server takes so many.
const PIECE: usize = 32 << 10;
/// Requests in flight: as many bytes as a channel of ssh takes before it waits.
const IN_FLIGHT: usize = 64;

/// What becomes an object.
pub(super) enum Content<'a> {
    Bytes(&'a [u8]),
    /// A file with its length in bytes.
    File(File, u64),
}

impl Content<'_> {
    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, size_bytes) => *size_bytes,
        }
    }

    /// At most [`PIECE`] bytes from `offset`.
    fn piece(&self, offset: u64) -> io::Result<Vec<u8>> {
        let rest = usize::try_from(self.size_bytes() - offset).unwrap_or(usize::MAX);
        match self {
            Self::Bytes(bytes) => {
                let from = bytes.len() - rest;
                Ok(bytes[from..from + rest.min(PIECE)].to_vec())
            }
            Self::File(file, _) => {
                let mut piece = vec![0; rest.min(PIECE)];
                file.read_exact_at(&mut piece, offset)?;
                Ok(piece)
            }
        }
    }
}

/// Sends all of it behind a handle: the writes whose answers are on their way, and the first failure that was answered.
pub(super) fn write(
    session: &mut Session,
    handle: &[u8],
    content: &Content<'_>,
) -> Result<(VecDeque<u32>, Result<(), Failed>), RequestError> {
    let mut waiting = VecDeque::new();
    let mut first = Ok(());
    let mut offset = 0;
    while offset < content.size_bytes() && first.is_ok() {
        if waiting.len() == IN_FLIGHT {
            let id = waiting.pop_front().expect("some wait");
            first = session.status(id)?;
        }
        let piece = match content.piece(offset) {
            Ok(piece) => piece,
            Err(error) => {
                settle(session, waiting)?;
                return Err(error.into());
            }
        };
        waiting.push_back(session.send(request::WRITE, |packet| {
            packet.string(handle).long(offset).string(&piece)
        }));
        offset += piece.len() as u64;
    }
    Ok((waiting, first))
}

/// Fetches answers that do not matter any more.
fn settle(
    session: &mut Session,
    waiting: impl IntoIterator<Item = u32>,
) -> Result<(), RequestError> {
    for id in waiting {
        session.answer(id)?;
    }
    Ok(())
}

/// At most `length` bytes of a file from `offset`; fewer where it ends.
pub(super) fn get(
    session: &mut Session,
    path: &str,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, RequestError> {
    let opening = Opening::send(session, path);
    let (handle, size_bytes) = opening.finish(session)??;
    let rest = usize::try_from(size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
    let result = read(session, &handle, offset, length.min(rest));
    session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
    result
}

/// The first `length` bytes of several files: opened together, and their first pieces read together. An error means that the
/// session broke; of the files before, `take` has heard what came of them.
pub(super) fn get_together(
    session: &mut Session,
    paths: &[String],
    length: usize,
    take: &mut dyn FnMut(Result<Vec<u8>, RequestError>),
) -> Result<(), RequestError> {
    let openings: Vec<Opening> = paths
        .iter()
        .map(|path| Opening::send(session, path))
        .collect();
    let mut opened = Vec::new();
    for opening in openings {
        let file = opening.finish(session)?.map(|(handle, size_bytes)| {
            let wanted = usize::try_from(size_bytes).unwrap_or(usize::MAX);
            let wanted = wanted.min(length);
            let first = wanted.min(PIECE);
            let asked = (first > 0).then(|| ask(session, &handle, 0, 0, first));
            (handle, wanted, asked)
        });
        opened.push(file);
    }
    for file in opened {
        let (handle, wanted, asked) = match file {
            Ok(file) => file,
            Err(error) => {
                take(Err(error));
                continue;
            }
        };
        let first = match asked {
            Some(id) => session.data(id)?,
            None => Ok(Vec::new()),
        };
        let whole = match first {
            Ok(first) if first.len() > wanted => Err(RequestError::transient("it is longer")),
            Ok(mut bytes) => {
                let rest = wanted - bytes.len();
                read(session, &handle, bytes.len() as u64, rest).map(|more| {
                    bytes.extend(more);
                    bytes
                })
            }
            Err(failed) => Err(refused(&failed, "it cannot be read")),
        };
        if session.is_broken() {
            return Err(RequestError::transient("the session broke"));
        }
        session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
        take(whole);
    }
    Ok(())
}

/// A file that is being opened, together with the question what is there: the length says how many requests are of use.
struct Opening {
    opening: u32,
    looking: u32,
}

impl Opening {
    fn send(session: &mut Session, path: &str) -> Self {
        Self {
            opening: session.send(request::OPEN, |packet| {
                packet.string(path).number(open::READ).number(0)
            }),
            looking: session.send(request::LSTAT, |packet| packet.string(path)),
        }
    }

    /// The handle and the size; the outer error means that the session broke.
    fn finish(
        self,
        session: &mut Session,
    ) -> Result<Result<(Vec<u8>, u64), RequestError>, RequestError> {
        let handle = session.handle(self.opening)?;
        let there = session.attributes(self.looking)?;
        Ok(match (handle, there) {
            (Ok(handle), Ok(there)) if there.is_file() => {
                Ok((handle, there.size_bytes.unwrap_or_default()))
            }
            (Ok(handle), there) => {
                session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
                // A directory or a link has no object's name, whatever it is called.
                Err(there.map_or_else(
                    |failed| refused(&failed, "cannot look at it"),
                    |_| RequestError::NotFound,
                ))
            }
            (Err(_), Ok(there)) if !there.is_file() => Err(RequestError::NotFound),
            (Err(failed), _) => Err(refused(&failed, "it cannot be opened")),
        })
    }
}

/// Reads `length` bytes behind a handle.
fn read(
    session: &mut Session,
    handle: &[u8],
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, RequestError> {
    let mut bytes = vec![0; length];
    let mut waiting = VecDeque::new();
    let mut asked = 0;
    let mut failure = None;
    loop {
        while failure.is_none() && waiting.len() < IN_FLIGHT && asked < length {
            let piece = PIECE.min(length - asked);
            waiting.push_back((ask(session, handle, offset, asked, piece), asked, piece));
            asked += piece;
        }
        let Some((id, at, piece)) = waiting.pop_front() else {
            break;
        };
        match session.data(id)? {
            _ if failure.is_some() => {}
            Ok(data) if data.is_empty() || data.len() > piece => {
                // The length was told before, and objects do not change.
                failure = Some(RequestError::transient("the file is shorter than it was"));
            }
            Ok(data) => {
                bytes[at..at + data.len()].copy_from_slice(&data);
                if data.len() < piece {
                    let (at, piece) = (at + data.len(), piece - data.len());
                    waiting.push_front((ask(session, handle, offset, at, piece), at, piece));
                }
            }
            Err(failed) => failure = Some(refused(&failed, "it cannot be read")),
        }
    }
    failure.map_or(Ok(bytes), Err)
}

fn ask(session: &mut Session, handle: &[u8], offset: u64, at: usize, piece: usize) -> u32 {
    let piece = u32::try_from(piece).expect("pieces are short");
    session.send(request::READ, |packet| {
        packet.string(handle).long(offset + at as u64).number(piece)
    })
}
