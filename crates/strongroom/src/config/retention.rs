//! The `retention` tables of repositories and assets: how long backups are kept.

use jiff::tz::TimeZone;
use strongroom_core::plan::expire::Retention;
use strongroom_core::source::Class;

use super::section::Section;
use super::units::days;

/// The highest number that a rule counts to.
const COUNT_MAX: i64 = 100_000;
/// The longest span, in days: a century.
const DAYS_MAX: u32 = 36_525;

const EMPTY_HINT: &str =
    "Say what is kept, for instance keep_daily = 7 and keep_weekly = 4, or keep = \"forever\".";

/// Reads the `retention` of a repository, or of an asset of some class.
pub(super) fn read(section: &Section<'_, '_>, class: Option<Class>) -> Option<Retention> {
    let (span, table) = section.table("retention")?;
    let own = section.inner("retention", span.clone(), table);
    let mut retention = Retention {
        last: count(&own, "keep_last"),
        hourly: count(&own, "keep_hourly"),
        daily: count(&own, "keep_daily"),
        weekly: count(&own, "keep_weekly"),
        monthly: count(&own, "keep_monthly"),
        yearly: count(&own, "keep_yearly"),
        within_days: days(&own, "keep_within", DAYS_MAX).unwrap_or(0),
        zone: time_zone(&own),
        ..Retention::default()
    };
    if let Some(keep) = own.string("keep") {
        retention.forever = true;
        if keep.get_ref() != "forever" {
            own.report(
                &keep.span(),
                format!("\"keep\" is {:?}", keep.get_ref()),
                "It can only be \"forever\"; numbers are given by keep_daily and its like.",
            );
        }
    }
    if class == Some(Class::Certificate) {
        retention.after_expiry_days = days(&own, "keep_until_expiry_plus", DAYS_MAX);
    } else if let Some(value) = own.value("keep_until_expiry_plus") {
        own.report(
            &value.span(),
            "\"keep_until_expiry_plus\" is for assets of class \"certificate\"",
            "Write it into [asset.NAME.retention] of such an asset.",
        );
    }
    let keeps = Retention {
        forever: false,
        zone: None,
        ..retention.clone()
    };
    let is_empty = keeps == Retention::default();
    // A key that is there and faulty was reported already.
    let has_rule = table.keys().any(|key| key.get_ref().starts_with("keep"));
    if is_empty && !retention.forever && !has_rule {
        own.report(&span, "nothing is kept", EMPTY_HINT);
    }
    if retention.forever && !is_empty {
        own.report(
            &span,
            "keep = \"forever\" and a number beside it",
            "Take one of them out: \"forever\" keeps everything.",
        );
    }
    own.finish();
    Some(retention)
}

/// A time zone of the IANA database, under `time_zone`.
pub(super) fn time_zone(section: &Section<'_, '_>) -> Option<TimeZone> {
    let name = section.string("time_zone")?;
    let zone = TimeZone::get(name.get_ref());
    if zone.is_err() {
        section.report(
            &name.span(),
            format!("there is no time zone {:?}", name.get_ref()),
            "Write a name of the IANA database, for instance \"Europe/Berlin\" or \"UTC\".",
        );
    }
    zone.ok()
}

fn count(section: &Section<'_, '_>, key: &'static str) -> u32 {
    let Some(value) = section.integer(key) else {
        return 0;
    };
    let number = *value.get_ref();
    if !(1..=COUNT_MAX).contains(&number) {
        section.report(
            &value.span(),
            format!("\"{key}\" is {number}"),
            format!("It is 1 to {COUNT_MAX}; without a rule, leave the key out."),
        );
    }
    u32::try_from(number).unwrap_or(0)
}
