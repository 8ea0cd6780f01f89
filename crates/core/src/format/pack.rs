//! Packs: age files of concatenated zstd frames (docs/format.md, section 6).

use std::io::{Read, Write};

use super::seal::{EpochIdentity, EpochRecipient};
use super::{Digest, FormatError, frame, limits};

const WHAT: &str = "pack";

/// A sealed object: its stored bytes and their name.
pub struct SealedObject {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// What is stored.
    pub bytes: Vec<u8>,
}

impl SealedObject {
    /// Names sealed bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: Digest::of(&bytes),
            bytes,
        }
    }
}

/// Fills one pack.
pub struct PackBuilder {
    writer: age::stream::StreamWriter<Vec<u8>>,
    length: usize,
}

impl PackBuilder {
    /// Begins a pack, sealed to `recipient`.
    pub fn new(recipient: &EpochRecipient) -> Result<Self, FormatError> {
        // Room for the last frame and for age's 16 bytes a 64 KiB, so that it never moves.
        let room = limits::PACK_TARGET + limits::FRAME_CONTENT_TARGET + (64 << 10);
        Ok(Self {
            writer: recipient.seal(Vec::with_capacity(room))?,
            length: 0,
        })
    }

    /// Appends a compressed frame and returns where in the pack it begins.
    pub fn push(&mut self, compressed: &[u8]) -> Result<u32, FormatError> {
        let offset = u32::try_from(self.length).expect("a pack is closed long before 4 GiB");
        self.writer
            .write_all(compressed)
            .map_err(FormatError::io("seal a frame"))?;
        self.length += compressed.len();
        assert!(
            self.length <= limits::PACK_MAX,
            "a pack is closed before it is too long"
        );
        Ok(offset)
    }

    /// True once the pack is as long as packs should be.
    pub fn is_full(&self) -> bool {
        self.length >= limits::PACK_TARGET
    }

    /// Seals the end.
    pub fn finish(self) -> Result<SealedObject, FormatError> {
        let bytes = self
            .writer
            .finish()
            .map_err(FormatError::io("seal a pack"))?;
        Ok(SealedObject::new(bytes))
    }
}

/// Goes through the frames of a pack in the order of their offsets.
pub struct PackReader {
    plain: Vec<u8>,
}

impl PackReader {
    /// Decrypts the whole pack, at most 64 MiB.
    pub fn open(identity: &EpochIdentity, sealed: &[u8]) -> Result<Self, FormatError> {
        let mut plain = Vec::with_capacity(sealed.len().min(limits::PACK_MAX));
        identity
            .open_object(WHAT, sealed)?
            .take(limits::PACK_MAX as u64 + 1)
            .read_to_end(&mut plain)
            .map_err(|error| FormatError::damaged(WHAT, error.to_string()))?;
        if plain.len() > limits::PACK_MAX {
            return Err(FormatError::damaged(WHAT, "longer than 64 MiB"));
        }
        Ok(Self { plain })
    }

    /// The content of the frame that begins at `offset`.
    pub fn frame(&self, offset: u32) -> Result<Vec<u8>, FormatError> {
        let rest = self
            .plain
            .get(offset as usize..)
            .filter(|rest| !rest.is_empty());
        let rest =
            rest.ok_or_else(|| FormatError::damaged(WHAT, format!("no frame begins at {offset}")))?;
        Ok(frame::decode(rest)?.0)
    }
}

/// Seals one small stream, already whole in memory, as an artifact.
pub fn seal_artifact(
    recipient: &EpochRecipient,
    content: &[u8],
) -> Result<SealedObject, FormatError> {
    let mut writer = ArtifactWriter::new(recipient, Vec::new())?;
    writer
        .write_all(content)
        .map_err(FormatError::io("seal an artifact"))?;
    Ok(SealedObject::new(writer.finish()?))
}

/// Writes an artifact of any length: zstd, then age, into `output`.
pub struct ArtifactWriter<W: Write>(
    zstd::stream::write::Encoder<'static, age::stream::StreamWriter<W>>,
);

impl<W: Write> ArtifactWriter<W> {
    /// Begins an artifact, sealed to `recipient`.
    pub fn new(recipient: &EpochRecipient, output: W) -> Result<Self, FormatError> {
        let sealed = recipient.seal(output)?;
        zstd::stream::write::Encoder::new(sealed, frame::LEVEL)
            .map(Self)
            .map_err(FormatError::io("set up zstd"))
    }

    /// Ends both layers and hands the output back.
    pub fn finish(self) -> Result<W, FormatError> {
        self.0
            .finish()
            .and_then(age::stream::StreamWriter::finish)
            .map_err(FormatError::io("seal an artifact"))
    }
}

impl<W: Write> Write for ArtifactWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Opens an artifact for reading its content.
pub fn open_artifact<R: Read>(
    identity: &EpochIdentity,
    sealed: R,
) -> Result<impl Read + use<R>, FormatError> {
    frame::reader(identity.open_object("artifact", sealed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_from_a_pack() {
        let identity = EpochIdentity::generate();
        let mut builder = PackBuilder::new(&identity.recipient()).expect("age");
        let mut encoder = frame::FrameEncoder::new().expect("zstd");
        let first = builder
            .push(&encoder.encode(b"one").expect("zstd"))
            .expect("age");
        let second = builder
            .push(&encoder.encode(b"two").expect("zstd"))
            .expect("age");
        let sealed = builder.finish().expect("age");
        assert_eq!(Digest::of(&sealed.bytes), sealed.digest);
        let pack = PackReader::open(&identity, &sealed.bytes).expect("own pack");
        assert_eq!(pack.frame(second).expect("own frame"), b"two");
        assert_eq!(pack.frame(first).expect("own frame"), b"one");
        pack.frame(second + 1).expect_err("no frame there");
        pack.frame(1 << 30).expect_err("past the end");
        PackReader::open(&EpochIdentity::generate(), &sealed.bytes)
            .err()
            .expect("another epoch");
        let cut = &sealed.bytes[..sealed.bytes.len() - 1];
        PackReader::open(&identity, cut).err().expect("a cut pack");
    }

    #[test]
    fn an_artifact_comes_back() {
        let identity = EpochIdentity::generate();
        for content in [
            b"".as_slice(),
            b"-----BEGIN PRIVATE KEY-----",
            &vec![7; 300_000],
        ] {
            let sealed = seal_artifact(&identity.recipient(), content).expect("seals");
            let mut back = Vec::new();
            let reader = open_artifact(&identity, sealed.bytes.as_slice());
            reader
                .expect("opens")
                .read_to_end(&mut back)
                .expect("reads");
            assert_eq!(back, content);
        }
    }
}
