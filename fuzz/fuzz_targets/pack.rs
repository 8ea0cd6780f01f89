//! `PackReader` on raw bytes, and on the bytes as the sealed plaintext of a pack.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::pack::PackReader;
use strongroom_core::format::{frame, limits};
use strongroom_fuzz::{EPOCH_IDENTITY, seal_to_epoch};

/// A frame of ten bytes may state 4 MiB; more of them show nothing new.
const FRAMES: usize = 8;

fuzz_target!(|data: &[u8]| {
    if let Ok(pack) = PackReader::open(&EPOCH_IDENTITY, data) {
        let _ = pack.frame(0);
    }
    let pack = PackReader::open(&EPOCH_IDENTITY, &seal_to_epoch(data)).expect("a sealed pack");
    let end = u32::try_from(data.len()).expect("inputs are small");
    for outside in [end, end + 1, u32::MAX] {
        assert!(pack.frame(outside).is_err(), "no frame begins at {outside}");
    }
    let mut offset = 0;
    for _ in 0..FRAMES {
        let Ok(content) = pack.frame(offset) else {
            break;
        };
        assert!(content.len() <= limits::FRAME_CONTENT_MAX);
        let (again, taken) = frame::decode(&data[offset as usize..]).expect("the same frame");
        assert_eq!(again, content);
        offset += u32::try_from(taken).expect("inputs are small");
        assert!(offset <= end);
    }
    // Somewhere else than where a frame begins.
    if let [first, second, ..] = data {
        let _ = pack.frame(u32::from(u16::from_le_bytes([*first, *second])));
    }
});
