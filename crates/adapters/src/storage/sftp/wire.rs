//! Packets of SFTP version 3 (draft-ietf-secsh-filexfer-02), the client's part: bytes in, bytes out.
//!
//! Every length is checked against what is there. Handles and names are bytes, as the draft has them.

/// The longest packet that is read, in bytes; servers send at most 256 KiB and a head.
const PACKET_MAX: usize = 300 << 10;

/// The version that is spoken; what OpenSSH speaks.
pub(super) const VERSION: u32 = 3;

/// Kinds of requests.
pub(super) mod request {
    pub(in super::super) const INIT: u8 = 1;
    pub(in super::super) const OPEN: u8 = 3;
    pub(in super::super) const CLOSE: u8 = 4;
    pub(in super::super) const READ: u8 = 5;
    pub(in super::super) const WRITE: u8 = 6;
    pub(in super::super) const LSTAT: u8 = 7;
    pub(in super::super) const OPENDIR: u8 = 11;
    pub(in super::super) const READDIR: u8 = 12;
    pub(in super::super) const REMOVE: u8 = 13;
    pub(in super::super) const MKDIR: u8 = 14;
    pub(in super::super) const RENAME: u8 = 18;
    pub(in super::super) const EXTENDED: u8 = 200;
}

/// Flags of `OPEN`.
pub(super) mod open {
    pub(in super::super) const READ: u32 = 1;
    pub(in super::super) const WRITE: u32 = 2;
    pub(in super::super) const CREATE: u32 = 8;
    pub(in super::super) const EXCLUSIVE: u32 = 32;
}

/// Codes of a status.
pub(super) mod status {
    pub(in super::super) const OK: u32 = 0;
    pub(in super::super) const EOF: u32 = 1;
    pub(in super::super) const NO_SUCH_FILE: u32 = 2;
    pub(in super::super) const PERMISSION_DENIED: u32 = 3;
    pub(in super::super) const NO_CONNECTION: u32 = 6;
    pub(in super::super) const CONNECTION_LOST: u32 = 7;
    pub(in super::super) const UNSUPPORTED: u32 = 8;
}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Version(Vec<String>),
    Status(u32, String),
    Handle(Vec<u8>),
    Data(Vec<u8>),
    Names(Vec<(Vec<u8>, Attributes)>),
    Attributes(Attributes),
    Extended(Vec<u8>),
}

/// What is known of a file; what the server left out is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size_bytes: Option<u64>,
    pub(super) mode: Option<u32>,
    /// Seconds since 1970.
    pub(super) modified: Option<u32>,
}

impl Attributes {
    const KIND: u32 = 0o170_000;

    pub(super) fn is_file(&self) -> bool {
        self.mode.is_some_and(|mode| mode & Self::KIND == 0o100_000)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.mode.is_some_and(|mode| mode & Self::KIND == 0o040_000)
    }
}

/// What came is no SFTP.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the other side does not speak SFTP")]
pub(super) struct Malformed;

/// A packet that is being put together.
pub(super) struct Packet(Vec<u8>);

impl Packet {
    pub(super) fn new(kind: u8, number: u32) -> Self {
        let mut bytes = vec![0; 4];
        bytes.push(kind);
        bytes.extend(number.to_be_bytes());
        Self(bytes)
    }

    pub(super) fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(super) fn long(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(super) fn string(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let length = u32::try_from(bytes.len()).expect("strings of requests are short");
        self.0.extend(length.to_be_bytes());
        self.0.extend(bytes);
        self
    }

    /// Attributes that say the mode alone.
    pub(super) fn mode(self, mode: u32) -> Self {
        self.number(HAS_MODE).number(mode)
    }

    /// The packet with its length in front.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).expect("packets are short");
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

const HAS_SIZE: u32 = 1;
const HAS_OWNER: u32 = 2;
const HAS_MODE: u32 = 4;
const HAS_TIMES: u32 = 8;
const HAS_MORE: u32 = 1 << 31;

/// The first whole packet of what was read: its length with the head, its request, and what it says.
pub(super) fn first_packet(bytes: &[u8]) -> Result<Option<(usize, u32, Answer)>, Malformed> {
    let mut reader = Reader(bytes);
    let Ok(length) = reader.number() else {
        return Ok(None);
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(5..=PACKET_MAX).contains(&length) {
        return Err(Malformed);
    }
    if reader.0.len() < length {
        return Ok(None);
    }
    let mut reader = Reader(&reader.0[..length]);
    let kind = reader.take(1)?[0];
    let id = reader.number()?;
    Ok(Some((4 + length, id, reader.answer(kind, id)?)))
}

/// The numbers of an answer to `statvfs@openssh.com`.
pub(super) fn numbers(bytes: &[u8]) -> Result<Vec<u64>, Malformed> {
    let mut reader = Reader(bytes);
    let mut found = Vec::new();
    while !reader.0.is_empty() {
        found.push(reader.long()?);
    }
    Ok(found)
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn answer(&mut self, kind: u8, id: u32) -> Result<Answer, Malformed> {
        Ok(match kind {
            2 if id >= VERSION => {
                let mut extensions = Vec::new();
                while !self.0.is_empty() {
                    extensions.push(String::from_utf8_lossy(self.string()?).into_owned());
                    self.string()?;
                }
                Answer::Version(extensions)
            }
            101 => {
                let code = self.number()?;
                // Servers of before version 3 leave the message out.
                let message = self.string().unwrap_or_default();
                Answer::Status(code, String::from_utf8_lossy(message).into_owned())
            }
            102 => Answer::Handle(self.string()?.to_vec()),
            103 => Answer::Data(self.string()?.to_vec()),
            104 => {
                let count = self.number()?;
                let mut names = Vec::new();
                for _ in 0..count {
                    let name = self.string()?.to_vec();
                    self.string()?;
                    names.push((name, self.attributes()?));
                }
                Answer::Names(names)
            }
            105 => Answer::Attributes(self.attributes()?),
            201 => Answer::Extended(self.0.to_vec()),
            _ => return Err(Malformed),
        })
    }

    fn attributes(&mut self) -> Result<Attributes, Malformed> {
        let flags = self.number()?;
        let mut found = Attributes::default();
        if flags & HAS_SIZE != 0 {
            found.size_bytes = Some(self.long()?);
        }
        if flags & HAS_OWNER != 0 {
            self.long()?;
        }
        if flags & HAS_MODE != 0 {
            found.mode = Some(self.number()?);
        }
        if flags & HAS_TIMES != 0 {
            self.number()?;
            found.modified = Some(self.number()?);
        }
        if flags & HAS_MORE != 0 {
            for _ in 0..self.number()? {
                self.string()?;
                self.string()?;
            }
        }
        Ok(found)
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?.try_into().expect("four bytes");
        Ok(u32::from_be_bytes(bytes))
    }

    fn long(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?.try_into().expect("eight bytes");
        Ok(u64::from_be_bytes(bytes))
    }

    fn string(&mut self) -> Result<&'b [u8], Malformed> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let packet = Packet::new(102, 7).string([0, 0, 0, 0x80]).finish();
        for cut in 0..packet.len() {
            assert_eq!(first_packet(&packet[..cut]), Ok(None), "{cut} bytes");
        }
        let answer = Answer::Handle(vec![0, 0, 0, 0x80]);
        assert_eq!(first_packet(&packet), Ok(Some((packet.len(), 7, answer))));
    }

    #[test]
    fn what_is_no_sftp_is_refused() {
        assert_eq!(first_packet(b"Welcome to this host"), Err(Malformed));
        let lies = [
            Packet::new(102, 7).number(5).finish(),
            Packet::new(104, 7).number(u32::MAX).finish(),
            Packet::new(105, 7).number(HAS_SIZE).number(1).finish(),
            Packet::new(105, 7)
                .number(HAS_MORE)
                .number(u32::MAX)
                .finish(),
            Packet::new(2, 2).finish(),
            Packet::new(99, 7).finish(),
        ];
        for packet in lies {
            assert_eq!(first_packet(&packet), Err(Malformed), "{packet:?}");
        }
    }
}
