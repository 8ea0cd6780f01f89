//! The bounds of docs/format.md, section 8.

/// The most content that one zstd frame of a pack may hold, in bytes.
pub const FRAME_CONTENT_MAX: usize = 4 << 20;
/// How much content a writer puts into a frame before it begins the next, in bytes.
pub const FRAME_CONTENT_TARGET: usize = 1 << 20;
/// The longest plaintext of a pack, in bytes.
pub const PACK_MAX: usize = 64 << 20;
/// How long a writer lets a pack grow, in bytes of plaintext.
pub const PACK_TARGET: usize = 8 << 20;
/// The longest line of a manifest, in bytes.
pub const MANIFEST_LINE_MAX: usize = 1 << 20;
/// The longest signed document, in bytes.
pub const DOCUMENT_MAX: usize = 64 << 20;
/// The longest sealed epoch identity, in bytes.
pub const EPOCH_MAX: usize = 64 << 10;
/// The largest size or length, in bytes.
pub const SIZE_MAX: u64 = i64::MAX as u64;
/// The most packs that one manifest may number.
pub const PACKS_MAX: usize = i32::MAX as usize;
