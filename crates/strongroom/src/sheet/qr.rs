//! QR codes as rectangles.

use qrcode::{Color, EcLevel, QrCode};

/// The light frame around a code, in modules (ISO/IEC 18004).
pub(super) const QUIET: usize = 4;

/// A code: its width in modules, and its dark runs as column, row and length.
pub(super) struct Modules {
    pub(super) width: usize,
    pub(super) runs: Vec<(usize, usize, usize)>,
}

/// Encodes a text; none when it is too long for any code.
pub(super) fn encode(text: &str) -> Option<Modules> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let width = code.width();
    let colors = code.into_colors();
    let mut runs = Vec::new();
    for (row, modules) in colors.chunks(width).enumerate() {
        let mut column = 0;
        for run in modules.chunk_by(|left, right| left == right) {
            if run[0] == Color::Dark {
                runs.push((column, row, run.len()));
            }
            column += run.len();
        }
    }
    Some(Modules { width, runs })
}
