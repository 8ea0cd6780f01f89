//! The rules of retention: the last N, one for each of the last N hours, days, weeks, months, years, and a span.
//!
//! Rules by the calendar count hours and days that have backups, so a pause in the backups expires nothing, and
//! spans count from the newest backup, so a clock that jumps ahead does not either.

use std::collections::BTreeSet;
use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{Ledger, days_of};
use crate::format::envelope::Envelope;

/// How long backups are kept. Rules add up: what one of them keeps stays. No rule at all keeps nothing but what is
/// protected otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Everything.
    pub forever: bool,
    /// The newest N.
    pub last: u32,
    /// The last of each of N hours that have one.
    pub hourly: u32,
    /// The same for days.
    pub daily: u32,
    /// The same for weeks, from Monday (ISO 8601).
    pub weekly: u32,
    /// The same for months.
    pub monthly: u32,
    /// The same for years.
    pub yearly: u32,
    /// All that were taken at most so many days before the newest.
    pub within_days: u32,
    /// The newest with each set of certificates, until so many days after the last of them expires.
    pub after_expiry_days: Option<u32>,
    /// In which hours and days it counts, where that is not the deployment's.
    pub zone: Option<TimeZone>,
}

/// A span of the calendar that rules count.
#[derive(Clone, Copy)]
enum Span {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Span {
    /// A text that is the same for all times of one span, and that people know it by.
    fn of(self, time: &Zoned) -> String {
        match self {
            // An hour that is there twice, when summer ends, is two.
            Self::Hour => time.strftime("%F %H:00 %:z").to_string(),
            Self::Day => time.strftime("%F").to_string(),
            Self::Week => time.strftime("week %G-W%V").to_string(),
            Self::Month => time.strftime("%Y-%m").to_string(),
            Self::Year => time.strftime("%Y").to_string(),
        }
    }
}

/// Notes what the rules keep in a repository, asset by asset.
pub(super) fn apply(ledger: &mut Ledger<'_>, zone: &TimeZone, now: Timestamp) {
    for index in 0..ledger.backups.len() {
        if ledger.times[index].is_none() {
            let text = "taken while the clock was wrong: a later backup has an earlier time";
            ledger.keep(index, "clock", text);
        }
    }
    for name in ledger.asset_names() {
        let own = ledger.seen.assets.get(name);
        let Some(retention) = own.or(ledger.seen.retention.as_ref()).cloned() else {
            for index in ledger.holding(name) {
                ledger.keep(
                    index,
                    "no-retention",
                    format!("no retention is set for {name}"),
                );
            }
            continue;
        };
        let suffix = own.map_or(String::new(), |_| format!(" (asset {name})"));
        one_asset(ledger, name, &retention, (zone, now), &suffix);
    }
}

fn one_asset(
    ledger: &mut Ledger<'_>,
    name: &str,
    retention: &Retention,
    (zone, now): (&TimeZone, Timestamp),
    suffix: &str,
) {
    let zone = retention.zone.as_ref().unwrap_or(zone);
    let newest_first = ledger.holding(name);
    if retention.forever {
        for index in newest_first {
            ledger.keep(index, "keep", format!("keep = \"forever\"{suffix}"));
        }
        return;
    }
    for index in newest_first.iter().take(retention.last as usize) {
        let text = format!("one of the last {}{suffix}", retention.last);
        ledger.keep(*index, "keep_last", text);
    }
    let timed: Vec<(usize, Zoned)> = newest_first
        .iter()
        .filter_map(|index| Some((*index, ledger.times[*index]?.to_zoned(zone.clone()))))
        .collect();
    for (code, count, span) in [
        ("keep_hourly", retention.hourly, Span::Hour),
        ("keep_daily", retention.daily, Span::Day),
        ("keep_weekly", retention.weekly, Span::Week),
        ("keep_monthly", retention.monthly, Span::Month),
        ("keep_yearly", retention.yearly, Span::Year),
    ] {
        let mut seen = BTreeSet::new();
        for (index, time) in &timed {
            if seen.len() == count as usize {
                break;
            }
            let span = span.of(time);
            if !seen.contains(&span) {
                ledger.keep(*index, code, format!("{code}: the last of {span}{suffix}"));
                seen.insert(span);
            }
        }
    }
    let Some(newest) = ledger.newest_time() else {
        return;
    };
    let today = newest.min(now);
    if retention.within_days > 0 {
        let begin = today.checked_sub(days_of(retention.within_days));
        let begin = begin.unwrap_or(Timestamp::MIN);
        for index in everything_with(ledger, name) {
            if ledger.times[index].is_some_and(|time| time >= begin) {
                let text = format!("keep_within: {} days{suffix}", retention.within_days);
                ledger.keep(index, "keep_within", text);
            }
        }
    }
    if let Some(days) = retention.after_expiry_days {
        after_expiry(ledger, name, (days, today), &newest_first);
    }
}

/// Backups that hold an asset, incomplete and damaged ones too.
fn everything_with(ledger: &Ledger<'_>, name: &str) -> Vec<usize> {
    let has = |envelope: &Envelope| envelope.assets.iter().any(|asset| asset.name == name);
    let indices = 0..ledger.backups.len();
    indices
        .filter(|index| has(ledger.backups[*index]))
        .collect()
}

fn after_expiry(
    ledger: &mut Ledger<'_>,
    name: &str,
    (days, today): (u32, Timestamp),
    newest_first: &[usize],
) {
    let mut sets = BTreeSet::new();
    for index in newest_first.iter().copied() {
        let mut assets = ledger.backups[index].assets.iter();
        let asset = assets.find(|asset| asset.name == name);
        let Some(known) = asset.and_then(|asset| asset.certificates.clone()) else {
            let text = format!("does not say when the certificates of {name} expire");
            ledger.keep(index, "keep_until_expiry_plus", text);
            continue;
        };
        let until = known.expire.checked_add(days_of(days));
        let until = until.unwrap_or(Timestamp::MAX);
        if sets.insert(known.set) && today < until {
            let text = format!(
                "keep_until_expiry_plus: the certificates of {name} until {}",
                until.strftime("%F")
            );
            ledger.keep(index, "keep_until_expiry_plus", text);
        }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.forever {
            return formatter.write_str("everything");
        }
        let counts = [
            (self.last, "last"),
            (self.hourly, "hourly"),
            (self.daily, "daily"),
            (self.weekly, "weekly"),
            (self.monthly, "monthly"),
            (self.yearly, "yearly"),
        ];
        let mut parts: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if self.within_days > 0 {
            parts.push(format!("all within {} days", self.within_days));
        }
        if let Some(days) = self.after_expiry_days {
            parts.push(format!("certificates until {days} days after they expire"));
        }
        formatter.write_str(&parts.join(", "))
    }
}
