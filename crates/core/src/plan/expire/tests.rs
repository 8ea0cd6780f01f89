//! The rules by example and by property: what stays, what goes, and when nothing may go.

mod copies;

use std::collections::BTreeSet;

use jiff::ToSpan as _;
use proptest::prelude::*;

use super::*;
use crate::format::RepositoryId;
use crate::format::envelope::{EnvelopeCertificates, EnvelopeEpoch, Scope};

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn writer() -> WriterId {
    WriterId::from_bytes([1; 8])
}

fn asset(name: &str, class: Class) -> EnvelopeAsset {
    EnvelopeAsset {
        name: name.into(),
        class,
        source: "files".into(),
        status: Status::Complete,
        size_bytes: 1,
        certificates: None,
    }
}

fn backup(run: u64, started: Timestamp) -> BackupSeen {
    let manifest = Digest::of(&run.to_be_bytes());
    let shared = Digest::of(b"shared");
    let mut objects = vec![(manifest, 10), (shared, 1000)];
    objects.sort_unstable();
    let text = format!("20261120-153000Z-{run:04}");
    BackupSeen {
        envelope: Envelope {
            format: 1,
            repository: RepositoryId::from_bytes([1; 16]),
            deployment: "d".into(),
            writer: writer(),
            sequence: run,
            previous: None,
            run,
            label: text.parse().expect("a label"),
            started,
            finished: started,
            tool: "t".into(),
            scope: Scope::All,
            status: Status::Complete,
            repositories: vec!["one".into()],
            assets: vec![asset("db", Class::Database)],
            epoch: EnvelopeEpoch {
                id: EpochId::from_bytes([1; 8]),
                object: Digest::of(b"epoch"),
            },
            manifest,
            objects,
            lock_until: None,
        },
        digest: Digest::of(&run.to_le_bytes()),
        stored: None,
    }
}

/// A repository with a backup at each time, the newest of them verified.
fn seen(times: impl IntoIterator<Item = Timestamp>, retention: Retention) -> RepositorySeen {
    let backups: Vec<BackupSeen> = (1..).zip(times).map(|(run, at)| backup(run, at)).collect();
    let newest = backups.last().map(|one| (one.envelope.label.clone(), 1));
    RepositorySeen {
        retention: Some(retention),
        verified: newest.into_iter().collect(),
        backups,
        ..RepositorySeen::default()
    }
}

fn input(seen: RepositorySeen, now: Timestamp) -> ExpireInput {
    ExpireInput {
        now,
        time_zone: TimeZone::UTC,
        clock_is_right: false,
        accept_missing: false,
        chosen: BTreeSet::new(),
        repositories: [("one".to_owned(), seen)].into(),
    }
}

fn hourly(begin: &str, count: i64) -> Vec<Timestamp> {
    let begin = time(begin);
    (0..count).map(|hour| begin + hour.hours()).collect()
}

/// The runs that stay, oldest first.
fn kept(plan: &ExpirePlan) -> Vec<u64> {
    kept_in(plan, "one")
}

fn kept_in(plan: &ExpirePlan, repository: &str) -> Vec<u64> {
    let kept = plan.repositories[repository].kept.iter();
    let mut runs: Vec<u64> = kept.map(|one| run_of(&one.label)).collect();
    runs.reverse();
    runs
}

fn run_of(label: &Label) -> u64 {
    label.as_str()[17..].parse().expect("the run")
}

fn codes(plan: &ExpirePlan, run: u64) -> Vec<&'static str> {
    let mut kept = plan.repositories["one"].kept.iter();
    let found = kept.find(|one| run_of(&one.label) == run);
    let reasons = found.expect("stays").reasons.iter();
    reasons.map(|reason| reason.code).collect()
}

fn refused(plan: &ExpirePlan) -> Vec<&'static str> {
    plan.refusals.iter().map(|one| one.code).collect()
}

fn daily(count: u32) -> Retention {
    Retention {
        daily: count,
        ..Retention::default()
    }
}

#[test]
fn rules_count_spans_that_have_backups() {
    let times = hourly("2026-11-01T00:30:00Z", 24 * 20);
    let now = time("2026-11-20T23:45:00Z");
    let plan = plan_expire(&input(seen(times.clone(), daily(3)), now));
    assert_eq!(refused(&plan), [""; 0]);
    assert_eq!(kept(&plan), [18 * 24, 19 * 24, 20 * 24]);
    // A pause of weeks expires nothing.
    let later = time("2026-12-20T00:00:00Z");
    assert_eq!(
        kept(&plan_expire(&input(seen(times.clone(), daily(3)), later))),
        kept(&plan)
    );

    let all = Retention {
        last: 2,
        hourly: 4,
        daily: 2,
        weekly: 2,
        monthly: 2,
        yearly: 2,
        ..Retention::default()
    };
    let plan = plan_expire(&input(seen(times, all), now));
    // Week 46 ends with 15 November; month and year have one each.
    assert_eq!(kept(&plan), [15 * 24, 19 * 24, 477, 478, 479, 480]);
    assert_eq!(codes(&plan, 15 * 24), ["keep_weekly"]);
}

#[test]
fn spans_count_from_the_newest_backup() {
    let times = hourly("2026-11-01T00:00:00Z", 24 * 4);
    let within = Retention {
        within_days: 1,
        ..Retention::default()
    };
    let plan = plan_expire(&input(seen(times, within), time("2026-12-05T00:00:00Z")));
    assert_eq!(kept(&plan).len(), 25);
}

#[test]
fn hours_and_days_are_those_of_the_zone() {
    // Summer ends: 02:30 is there twice, at 00:30 and 01:30 UTC.
    let times = hourly("2026-10-24T22:30:00Z", 5);
    let now = time("2026-10-25T03:00:00Z");
    let hours = Retention {
        hourly: 4,
        zone: Some(TimeZone::get("Europe/Berlin").expect("is built in")),
        ..Retention::default()
    };
    let plan = plan_expire(&input(seen(times, hours), now));
    assert_eq!(kept(&plan), [2, 3, 4, 5]);
    // Midnight in Berlin is at 22:00 UTC in summer, at 23:00 in winter.
    for (begin, first_day) in [("2026-07-01T20:30:00Z", 2), ("2026-11-01T20:30:00Z", 3)] {
        let times = hourly(begin, 5);
        let now = times[4];
        let mut input = input(seen(times, daily(2)), now);
        input.time_zone = TimeZone::get("Europe/Berlin").expect("is built in");
        assert_eq!(kept(&plan_expire(&input)), [first_day, 5], "{begin}");
    }
    // Summer begins: there is no hour from 02:00, and nothing is counted twice.
    let times = hourly("2026-03-28T23:30:00Z", 4);
    let now = times[3];
    let mut spring = input(
        seen(
            times,
            Retention {
                hourly: 3,
                ..Retention::default()
            },
        ),
        now,
    );
    spring.time_zone = TimeZone::get("Europe/Berlin").expect("is built in");
    assert_eq!(kept(&plan_expire(&spring)), [2, 3, 4]);
}

#[test]
fn a_clock_that_jumped_keeps_what_it_touched() {
    // One backup from the future in the middle, and a clock that fell back once.
    let mut times = hourly("2026-11-01T00:00:00Z", 48);
    times[20] = time("2038-01-01T00:00:00Z");
    let now = times[47];
    let plan = plan_expire(&input(seen(times.clone(), daily(1)), now));
    assert_eq!(refused(&plan), [""; 0]);
    assert_eq!(kept(&plan), [21, 48]);
    assert_eq!(codes(&plan, 21), ["clock"]);
    let mut sure = input(seen(times, daily(1)), now);
    sure.clock_is_right = true;
    assert_eq!(kept(&plan_expire(&sure)), [48]);

    // The newest ones lie in 1970: none of those before looks old for it.
    let mut times = hourly("2026-11-01T00:00:00Z", 48);
    times.extend(hourly("1970-01-01T00:00:00Z", 3));
    let plan = plan_expire(&input(seen(times, daily(1)), time("1970-01-01T03:00:00Z")));
    assert_eq!(kept(&plan).len(), 49);
}

#[test]
fn a_wrong_clock_expires_nothing() {
    let times = hourly("2026-11-01T00:00:00Z", 48);
    let plan = |now: &str, sure: bool| {
        let mut input = input(seen(times.clone(), daily(1)), time(now));
        input.clock_is_right = sure;
        refused(&plan_expire(&input))
    };
    assert_eq!(plan("2026-11-02T23:00:00Z", false), [""; 0]);
    assert_eq!(plan("2026-11-02T22:30:00Z", false), [""; 0]);
    assert_eq!(plan("2026-11-02T20:00:00Z", false), ["clock"]);
    assert_eq!(plan("2026-12-15T00:00:00Z", false), [""; 0]);
    assert_eq!(plan("2027-01-01T00:00:00Z", false), ["clock"]);
    assert_eq!(plan("2027-01-01T00:00:00Z", true), [""; 0]);
    // Who backs up twice a year is silent for longer.
    let rare = [time("2026-01-01T00:00:00Z"), time("2026-06-01T00:00:00Z")];
    let rare = input(seen(rare, daily(1)), time("2027-01-01T00:00:00Z"));
    assert_eq!(refused(&plan_expire(&rare)), [""; 0]);
}

#[test]
fn nothing_goes_while_the_newest_is_in_doubt() {
    let times = hourly("2026-11-01T00:00:00Z", 4);
    let now = times[3];
    let good = || seen(times.clone(), daily(1));
    let newest = good().backups[3].envelope.label.clone();
    let refused = |seen| refused(&plan_expire(&input(seen, now)));
    assert_eq!(refused(good()), [""; 0]);
    let mut unverified = good();
    unverified.verified.clear();
    assert_eq!(refused(unverified), ["newest-unverified"]);
    let mut damaged = good();
    damaged.verified.insert(newest, 0);
    assert_eq!(refused(damaged), ["newest-damaged"]);
    let mut incomplete = good();
    incomplete.backups[3].envelope.status = Status::Incomplete;
    assert_eq!(refused(incomplete), ["newest-incomplete"]);
    let mut elsewhere = good();
    elsewhere.backups[3]
        .envelope
        .repositories
        .push("two".into());
    assert_eq!(refused(elsewhere), ["newest-incomplete"]);
    let mut gap = good();
    gap.backups.remove(1);
    gap.problems.push("envelope 2 is missing".into());
    gap.missing = ExpiredRanges::of([(writer(), 2)]);
    assert_eq!(refused(gap.clone()), ["history"]);
    let mut accepted = input(gap.clone(), now);
    accepted.accept_missing = true;
    let plan = plan_expire(&accepted);
    assert_eq!(self::refused(&plan), [""; 0]);
    let recorded: Vec<_> = plan.repositories["one"].expired.iter().collect();
    assert_eq!(recorded, [(writer(), 1, 3)]);
    // Another problem is not accepted along with it.
    gap.problems.push("envelope 3 is damaged".into());
    gap.other_problems = 1;
    let mut more = input(gap, now);
    more.accept_missing = true;
    assert_eq!(self::refused(&plan_expire(&more)), ["history"]);
}

#[test]
fn levels_holds_and_locks_keep() {
    let times = hourly("2026-11-01T00:00:00Z", 10);
    let now = times[9];
    let mut seen = seen(times, daily(1));
    let label = |seen: &RepositorySeen, run: usize| seen.backups[run - 1].envelope.label.clone();
    for (run, level) in [(2, 4), (3, 4), (4, 3), (6, 1), (8, 0)] {
        seen.verified.insert(label(&seen, run), level);
    }
    seen.holds.push((label(&seen, 5), "case 7".into()));
    seen.backups[6].envelope.lock_until = Some(time("2026-12-01T00:00:00Z"));
    let plan = plan_expire(&input(seen.clone(), now));
    assert_eq!(kept(&plan), [3, 4, 5, 7, 10]);
    assert_eq!(codes(&plan, 3), ["verified"]);
    assert_eq!(codes(&plan, 5), ["hold"]);
    assert_eq!(codes(&plan, 7), ["immutable"]);
    seen.protected_days = Some(30);
    assert_eq!(kept(&plan_expire(&input(seen, now))).len(), 10);
}

#[test]
fn a_damaged_backup_does_not_stand_for_its_day() {
    let times = hourly("2026-11-01T00:00:00Z", 48);
    let now = times[47];
    let mut seen = seen(times, daily(2));
    let last_of_first_day = seen.backups[23].envelope.label.clone();
    seen.verified.insert(last_of_first_day, 0);
    assert_eq!(kept(&plan_expire(&input(seen, now))), [23, 48]);
}

#[test]
fn assets_have_rules_of_their_own() {
    let times = hourly("2026-11-01T00:00:00Z", 10);
    let now = times[9];
    let mut seen = seen(times, daily(1));
    for run in [2, 5] {
        let assets = &mut seen.backups[run - 1].envelope.assets;
        assets.push(asset("report", Class::Config));
    }
    // An asset's rule keeps the whole backup.
    seen.assets.insert("report".into(), daily(7));
    let plan = plan_expire(&input(seen.clone(), now));
    assert_eq!(kept(&plan), [5, 10]);
    seen.assets.insert(
        "report".into(),
        Retention {
            forever: true,
            ..Retention::default()
        },
    );
    assert_eq!(kept(&plan_expire(&input(seen.clone(), now))), [2, 5, 10]);
    seen.retention = None;
    assert_eq!(kept(&plan_expire(&input(seen, now))).len(), 10);
}

#[test]
fn certificates_stay_until_they_expire() {
    let times = hourly("2026-11-01T00:00:00Z", 6);
    let now = times[5];
    let mut seen = seen(times, daily(1));
    let sets = [
        (1, "a", "2026-06-01T00:00:00Z"),
        (2, "b", "2027-06-01T00:00:00Z"),
        (3, "b", "2027-06-01T00:00:00Z"),
        (4, "c", "2026-10-20T00:00:00Z"),
    ];
    for (run, set, expire) in sets {
        let mut certificates = asset("certs", Class::Certificate);
        certificates.certificates = Some(EnvelopeCertificates {
            expire: time(expire),
            set: set.into(),
        });
        seen.backups[run - 1].envelope.assets.push(certificates);
    }
    let rule = Retention {
        after_expiry_days: Some(30),
        ..Retention::default()
    };
    seen.assets.insert("certs".into(), rule);
    let plan = plan_expire(&input(seen.clone(), now));
    assert_eq!(kept(&plan), [3, 4, 6], "4 is within 30 days of its end");
    // An envelope that does not say stays.
    seen.backups[0].envelope.assets[1].certificates = None;
    assert_eq!(kept(&plan_expire(&input(seen, now))), [1, 3, 4, 6]);
}

#[test]
fn keys_stay_with_the_databases_that_need_them() {
    let times = hourly("2026-11-01T00:00:00Z", 72);
    let now = times[71];
    let both = vec!["keys".to_owned(), "one".to_owned()];
    let mut databases = seen(times.clone(), daily(3));
    let mut keys = seen(times, daily(1));
    for one in &mut databases.backups {
        one.envelope.repositories = both.clone();
    }
    for one in &mut keys.backups {
        one.envelope.repositories = both.clone();
        one.envelope.assets = vec![asset("ca-key", Class::Key)];
    }
    // The run of the second day has no key backup: the one before it does.
    keys.backups.remove(47);
    keys.expired = ExpiredRanges::of([(writer(), 48)]);
    let mut input = input(databases, now);
    input.repositories.insert("keys".into(), keys);
    let plan = plan_expire(&input);
    assert_eq!(kept(&plan), [24, 48, 72]);
    assert_eq!(kept_in(&plan, "keys"), [24, 47, 72]);
    let reasons = &plan.repositories["keys"].kept[1].reasons;
    assert_eq!(
        reasons[0].text,
        "has the ca-key for database backups in one"
    );
    // Also when only the keys' repository is asked for: then all databases are there to stay.
    input.chosen.insert("keys".into());
    assert_eq!(kept_in(&plan_expire(&input), "keys").len(), 71);
}

#[test]
fn redirected_files_stay_with_the_backups_that_need_them() {
    let times = hourly("2026-11-01T00:00:00Z", 6);
    let now = times[5];
    let last = |last| Retention {
        last,
        ..Retention::default()
    };
    let mut config = seen(times.clone(), last(3));
    let mut secrets = seen(times, last(1));
    for one in &mut config.backups {
        one.envelope.assets = vec![asset("config", Class::Config)];
    }
    for one in &mut secrets.backups {
        let part = asset("config-secrets", Class::Secret);
        one.envelope.assets = vec![part, asset("token", Class::Secret)];
    }
    // Nobody needs what stands alone, nor what only has the name.
    secrets.backups[1].envelope.assets.remove(0);
    config.holds = vec![(config.backups[1].envelope.label.clone(), "case 7".into())];
    let mut both = input(config, now);
    both.repositories.insert("keys".into(), secrets);
    let plan = plan_expire(&both);
    assert_eq!(kept(&plan), [2, 4, 5, 6]);
    assert_eq!(kept_in(&plan, "keys"), [4, 5, 6]);
    let reasons = &plan.repositories["keys"].kept[1].reasons;
    assert_eq!(
        reasons[0].text,
        "has the files with secrets of config for the same backup in one"
    );
    // Where all is in one envelope, nothing else is needed.
    let mut all = both.clone();
    let one = all.repositories.get_mut("one").expect("is there");
    for backup in &mut one.backups {
        let part = asset("config-secrets", Class::Secret);
        backup.envelope.assets.push(part);
    }
    assert_eq!(kept_in(&plan_expire(&all), "keys"), [6]);
    // What is needed may have a database, whose keys are needed then.
    let keys = both.repositories.get_mut("keys").expect("is there");
    let databases = &mut keys.backups[3].envelope.assets;
    databases.push(asset("db", Class::Database));
    databases.retain(|asset| asset.name != "token");
    assert_eq!(kept_in(&plan_expire(&both), "keys"), [3, 4, 5, 6]);
}

#[test]
fn objects_of_the_current_epoch_stay() {
    let day = |day: i64| time("2026-11-01T00:00:00Z") + (24 * day).hours();
    let times: Vec<_> = (0..40).map(day).collect();
    let mut seen = seen(times, daily(2));
    let object = |name: &str, stored| ObjectSeen {
        digest: Digest::of(name.as_bytes()),
        size_bytes: 100,
        stored,
    };
    let epochs = [0, 14, 28].map(|begin| {
        let id = EpochId::from_bytes([u8::try_from(begin).expect("small"); 8]);
        (id, object(&format!("epoch {begin}"), Some(day(begin))))
    });
    for (index, one) in seen.backups.iter_mut().enumerate() {
        one.envelope.epoch.id = epochs[index / 14].0;
    }
    seen.epochs = epochs.to_vec();
    seen.created = Some(day(0));
    seen.objects = vec![
        object("needed", Some(day(30))),
        object("first epoch", Some(day(1))),
        object("second epoch", Some(day(20))),
        object("current epoch", Some(day(29))),
        object("just now", Some(day(39))),
        object("nobody knows", None),
        object("before all", Some(day(-9))),
    ];
    let needed = seen.objects[0].digest;
    seen.backups[39].envelope.objects.push((needed, 100));
    let plan = plan_expire(&input(seen.clone(), day(39)));
    let part = &plan.repositories["one"];
    let gone: Vec<Digest> = part.objects.iter().map(|(digest, _)| *digest).collect();
    assert_eq!(gone, [seen.objects[1].digest, seen.objects[2].digest]);
    assert_eq!(part.epochs.len(), 2);
    assert_eq!(part.freed_bytes, 400);
    let waiting = Waiting {
        epoch_bytes: 200,
        unknown_bytes: 200,
        ..Waiting::default()
    };
    assert_eq!(part.waiting, waiting);
    assert_eq!(part.costs.iter().filter(|cost| cost.is_open).count(), 1);
    assert_eq!(part.costs[0].kept, 0);
    assert_eq!(part.costs[0].needed_by, None);

    seen.protected_days = Some(30);
    let part = &plan_expire(&input(seen.clone(), day(39))).repositories["one"];
    assert_eq!(part.objects.len(), 1, "20 days old, and protected for 30");
    assert_eq!(part.waiting.protected_bytes, 100);
    seen.epochs[2].1.stored = None;
    let part = &plan_expire(&input(seen, day(39))).repositories["one"];
    assert_eq!(
        part.objects,
        [],
        "when the current epoch began is not known"
    );
}

#[test]
fn an_epoch_that_was_stored_again_is_no_younger_for_it() {
    // Its object was healed an hour ago: what a running backup may still use was stored 50 hours before that.
    let hour = |hour: i64| time("2026-11-01T00:00:00Z") + hour.hours();
    let mut seen = seen([hour(0), hour(300)], daily(1));
    let object = |name: u8, stored: i64| ObjectSeen {
        digest: Digest::of(&[7, name]),
        size_bytes: 5,
        stored: Some(hour(stored)),
    };
    let epoch = EpochId::from_bytes([1; 8]);
    for backup in &mut seen.backups {
        backup.envelope.epoch.id = epoch;
    }
    seen.epochs = vec![(epoch, object(0, 299))];
    seen.objects = vec![object(1, 1), object(2, 249)];
    let needed = seen.objects[0].digest;
    seen.backups[0].envelope.objects.push((needed, 5));
    seen.backups[1].envelope.objects.push((needed, 5));
    let part = &plan_expire(&input(seen, hour(300))).repositories["one"];
    assert_eq!(part.objects, []);
    assert_eq!(part.waiting.epoch_bytes, 5);
}

#[test]
fn a_young_epoch_does_not_let_the_last_run_of_the_one_before_lose() {
    // The epoch began two hours ago; what was stored before it within 48 hours may belong to a run that still goes on.
    let hour = |hour: i64| time("2026-11-01T00:00:00Z") + hour.hours();
    let mut seen = seen([hour(0), hour(300)], daily(1));
    let epochs = [(1, 0), (2, 300)].map(|(id, begin)| {
        let object = ObjectSeen {
            digest: Digest::of(&[id]),
            size_bytes: 1,
            stored: Some(hour(begin)),
        };
        (EpochId::from_bytes([id; 8]), object)
    });
    seen.backups[1].envelope.epoch.id = epochs[1].0;
    seen.epochs = epochs.to_vec();
    seen.objects = [(1, 10), (2, 290)]
        .map(|(name, stored)| ObjectSeen {
            digest: Digest::of(&[7, name]),
            size_bytes: 5,
            stored: Some(hour(stored)),
        })
        .to_vec();
    let part = &plan_expire(&input(seen, hour(301))).repositories["one"];
    assert_eq!(part.objects, [(Digest::of(&[7, 1]), 5)]);
    assert_eq!(part.waiting.young_bytes, 5);
}

prop_compose! {
    fn some_retention()(
        last in 0..4_u32, hourly in 0..6_u32, daily in 0..6_u32, weekly in 0..4_u32,
        monthly in 0..3_u32, yearly in 0..3_u32, within_days in 0..20_u32,
    ) -> Retention {
        Retention { last, hourly, daily, weekly, monthly, yearly, within_days, ..Retention::default() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_newest_stays_and_nothing_is_lost_or_counted_twice(
        retention in some_retention(),
        gaps in proptest::collection::vec(0..200_000_i64, 1..80),
        jumps in proptest::collection::vec((0..80_usize, -40_000_000..40_000_000_i64), 0..3),
        zone in prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("Australia/Lord_Howe")],
        past in 0..10_000_000_i64,
    ) {
        let mut now = time("2026-03-01T00:00:00Z");
        let mut times = Vec::new();
        for gap in &gaps {
            now += gap.seconds();
            times.push(now);
        }
        for &(place, jump) in &jumps {
            if let Some(at) = times.get_mut(place) {
                *at += jump.seconds();
            }
        }
        let count = times.len() as u64;
        let mut input = input(seen(times.clone(), retention.clone()), now + past.seconds());
        input.time_zone = TimeZone::get(zone).expect("is built in");
        let plan = plan_expire(&input);
        let kept = kept(&plan);
        prop_assert_eq!(kept.last(), Some(&count));
        let part = &plan.repositories["one"];
        prop_assert_eq!(part.kept.len() + part.going.len(), times.len());
        prop_assert!(part.kept.iter().all(|one| !one.reasons.is_empty()));
        for going in &part.going {
            prop_assert!(part.expired.covers(going.writer, going.sequence));
        }
        for run in &kept {
            prop_assert!(!part.expired.covers(writer(), *run));
        }
        // Each rule keeps as many as it says, unless there are fewer.
        let by = |code: &str| {
            let kept = part.kept.iter();
            kept.filter(|one| one.reasons.iter().any(|reason| reason.code == code)).count() as u64
        };
        prop_assert!(by("keep_daily") <= u64::from(retention.daily));
        prop_assert_eq!(by("keep_last"), count.min(u64::from(retention.last)));

        // What is kept now is kept when it is asked again, and time that passes alone changes nothing. After a jump of
        // the clock more may go later: what made others doubtful may itself be gone.
        if !jumps.is_empty() {
            return Ok(());
        }
        let mut rest = input.repositories["one"].clone();
        rest.backups.retain(|one| kept.contains(&one.envelope.run));
        rest.expired = part.expired.clone();
        let mut again = input.clone();
        again.repositories.insert("one".into(), rest);
        let second = plan_expire(&again);
        prop_assert_eq!(second.repositories["one"].going.len(), 0);
        prop_assert_eq!(&second.repositories["one"].expired, &part.expired);
        let mut later = input.clone();
        later.now += 2_000_000.seconds();
        prop_assert_eq!(self::kept(&plan_expire(&later)), kept);
    }
}
