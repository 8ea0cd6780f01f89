//! Sizes, times and tables as people read them.

use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A size in decimal units.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count;
    let mut unit = 0;
    while value >= 1_000_000 && unit + 1 < UNITS.len() {
        value /= 1000;
        unit += 1;
    }
    let (whole, rest) = (value / 1000, value % 1000);
    if whole >= 100 {
        format!("{whole} {}", UNITS[unit])
    } else {
        format!("{whole}.{} {}", rest / 100, UNITS[unit])
    }
}

/// Seconds as people say them.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let minutes = (seconds / 60.0).floor();
    format!("{minutes:.0} min {:.0} s", seconds - minutes * 60.0)
}

/// Bytes in seconds as a rate.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people; the value is positive and far below 2^52"
)]
pub(crate) fn rate(count: u64, seconds: f64) -> String {
    format!("{}/s", bytes((count as f64 / seconds.max(0.001)) as u64))
}

/// A time in the operator's zone.
pub(crate) fn when(time: jiff::Timestamp) -> String {
    let zone = jiff::tz::TimeZone::system();
    time.to_zoned(zone)
        .strftime("%Y-%m-%d %H:%M:%S %Z")
        .to_string()
}

/// A path on one line: line breaks and other control characters are escaped.
pub(crate) fn shown_path(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("{path:?}"),
    }
}

/// A table without frames; columns whose heading begins with `>` are aligned to the right.
pub(crate) fn table(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(
        headings
            .iter()
            .map(|heading| heading.trim_start_matches('>')),
    );
    table.add_rows(rows);
    for (column, heading) in table.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if heading.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    text.lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_234_567, "1.2 MB"),
            (497_000_000, "497 MB"),
            (50_000_000_000, "50.0 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn odd_paths_stay_on_one_line() {
        assert_eq!(shown_path(Path::new("/a\nb")), "\"/a\\nb\"");
        assert_eq!(shown_path(Path::new("/a b")), "/a b");
    }
}
