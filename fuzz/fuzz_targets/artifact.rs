//! `open_artifact` on raw bytes, and on the bytes as the sealed zstd stream of an artifact.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use strongroom_core::format::pack::open_artifact;
use strongroom_fuzz::{EPOCH_IDENTITY, seal_to_epoch};

/// Artifacts have any length, their reader decides when it has seen enough.
const CONTENT_MAX: u64 = 4 << 20;

fn read(sealed: &[u8]) {
    let Ok(content) = open_artifact(&EPOCH_IDENTITY, sealed) else {
        return;
    };
    let _ = std::io::copy(&mut content.take(CONTENT_MAX), &mut std::io::sink());
}

fuzz_target!(|data: &[u8]| {
    read(data);
    read(&seal_to_epoch(data));
});
