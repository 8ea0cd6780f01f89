//! `frame::decode` on raw bytes, frame after frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::{frame, limits};

/// A frame of ten bytes may state 4 MiB; more of them show nothing new.
const FRAMES: usize = 32;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    for _ in 0..FRAMES {
        let Ok((content, taken)) = frame::decode(rest) else {
            return;
        };
        assert!(content.len() <= limits::FRAME_CONTENT_MAX);
        assert!(0 < taken && taken <= rest.len());
        // A frame or a skippable frame of RFC 8878, nothing older.
        assert!(matches!(
            rest,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]
        ));
        rest = &rest[taken..];
    }
});
