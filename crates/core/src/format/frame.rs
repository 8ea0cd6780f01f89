//! zstd frames: compressed alone, with their content size in the header, and read back within bounds.

use std::io::Read;

use super::{FormatError, limits};

/// The zstd level of all that a writer stores; docs/adr/0003 has the measurements.
pub const LEVEL: i32 = 1;

/// Compresses frames one by one, reusing its working memory.
pub struct FrameEncoder(zstd::bulk::Compressor<'static>);

impl FrameEncoder {
    /// Sets up a compressor at [`LEVEL`].
    pub fn new() -> Result<Self, FormatError> {
        let failed = FormatError::io("set up zstd");
        zstd::bulk::Compressor::new(LEVEL).map(Self).map_err(failed)
    }

    /// Compresses at most [`limits::FRAME_CONTENT_MAX`] bytes into one frame.
    pub fn encode(&mut self, content: &[u8]) -> Result<Vec<u8>, FormatError> {
        assert!(
            content.len() <= limits::FRAME_CONTENT_MAX,
            "frames are cut before they are full"
        );
        self.0
            .compress(content)
            .map_err(FormatError::io("compress a frame"))
    }
}

/// Decodes the frame at the start of `bytes`: its content, and how many bytes it took.
pub fn decode(bytes: &[u8]) -> Result<(Vec<u8>, usize), FormatError> {
    const WHAT: &str = "zstd frame";
    let size = zstd::zstd_safe::get_frame_content_size(bytes)
        .ok()
        .flatten()
        .ok_or_else(|| FormatError::damaged(WHAT, "it does not state its content size"))?;
    if size > limits::FRAME_CONTENT_MAX as u64 {
        return Err(FormatError::damaged(
            WHAT,
            "it states more than 4 MiB of content",
        ));
    }
    let length = zstd::zstd_safe::find_frame_compressed_size(bytes)
        .map_err(|_| FormatError::damaged(WHAT, "it is cut short or garbled"))?;
    let size = usize::try_from(size).expect("bounded above");
    let content = zstd::bulk::decompress(&bytes[..length], size)
        .map_err(|error| FormatError::damaged(WHAT, error.to_string()))?;
    if content.len() == size {
        Ok((content, length))
    } else {
        Err(FormatError::damaged(
            WHAT,
            "its content is shorter than it states",
        ))
    }
}

/// Reads the content of an artifact: all frames, whatever their size, within a bounded window.
pub fn reader<R: Read>(compressed: R) -> Result<impl Read + use<R>, FormatError> {
    let mut decoder =
        zstd::stream::read::Decoder::new(compressed).map_err(FormatError::io("set up zstd"))?;
    decoder
        .window_log_max(27)
        .map_err(FormatError::io("set up zstd"))?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_decode_one_at_a_time() {
        let mut encoder = FrameEncoder::new().expect("zstd");
        let mut bytes = encoder.encode(b"first").expect("compresses");
        let length = bytes.len();
        bytes.extend(
            encoder
                .encode(&vec![0; limits::FRAME_CONTENT_MAX])
                .expect("compresses"),
        );
        let (content, taken) = decode(&bytes).expect("own frame");
        assert_eq!((content.as_slice(), taken), (b"first".as_slice(), length));
        assert_eq!(
            decode(&bytes[length..]).expect("own frame").0.len(),
            limits::FRAME_CONTENT_MAX
        );
        decode(&bytes[..length - 1]).expect_err("a cut frame");
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let bomb = zstd::bulk::compress(&vec![0; limits::FRAME_CONTENT_MAX + 1], 1).expect("zstd");
        decode(&bomb).expect_err("too much content");
    }

    /// One raw block of 5 bytes in the format of zstd 0.7, which RFC 8878 does not know.
    const LEGACY: &[u8] = b"\x27\xb5\x2f\xfd\x20\x05\x40\x00\x05hello\xc0\x00\x00";

    #[test]
    fn frames_from_before_the_standard_are_refused() {
        decode(LEGACY).expect_err("a legacy frame");
        let mut content = Vec::new();
        reader(LEGACY)
            .expect("zstd")
            .read_to_end(&mut content)
            .expect_err("a legacy stream");
    }
}
