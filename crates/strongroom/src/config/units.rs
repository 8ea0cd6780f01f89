//! Numbers with units: days, and bytes a second.

use super::section::Section;

/// A number of days from 1 to `days_max`, written `"30d"`.
pub(super) fn days(section: &Section<'_, '_>, key: &'static str, days_max: u32) -> Option<u32> {
    let text = section.string(key)?;
    let days = text.get_ref().strip_suffix('d');
    let days = days.and_then(|days| days.trim().parse::<u32>().ok());
    let days = days.filter(|days| (1..=days_max).contains(days));
    if days.is_none() {
        section.report(
            &text.span(),
            format!("\"{key}\" is {:?}", text.get_ref()),
            "Write a number of days, for instance \"30d\".",
        );
    }
    days
}

/// A number of bytes a second, written `"20 MB"`.
pub(super) fn bytes(section: &Section<'_, '_>, key: &'static str) -> Option<u64> {
    let text = section.string(key)?;
    let bytes = parse_bytes(text.get_ref());
    if bytes.is_none() {
        section.report(
            &text.span(),
            format!("\"{key}\" is {:?}", text.get_ref()),
            "Write bytes a second with a unit: kB, MB, GB, KiB, MiB or GiB, for instance \"20 MB\".",
        );
    }
    bytes
}

fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().trim_end_matches("/s").trim_end();
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(factor)?;
    (bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit() {
        assert_eq!(parse_bytes("20 MB"), Some(20_000_000));
        assert_eq!(parse_bytes("512KiB/s"), Some(512 << 10));
        for wrong in ["", "20", "MB", "-1 MB", "1.5 MB", "0 kB", "20 Mb"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }
}
