//! Copies with a retention of their own: what they keep, what stops them, and what they stop.

use super::*;

/// The repository `one` and a copy of it, `far`, each with its own rule.
fn both(count: i64, here: Retention, there: Retention) -> ExpireInput {
    let times = hourly("2026-11-01T00:00:00Z", count);
    let now = times[times.len() - 1];
    let copy = RepositorySeen {
        is_copy: true,
        ..seen(times.clone(), there)
    };
    let mut input = input(seen(times, here), now);
    input.repositories.insert("far".into(), copy);
    input
}

fn copy(input: &mut ExpireInput) -> &mut RepositorySeen {
    input.repositories.get_mut("far").expect("is there")
}

fn numbers(ranges: &ExpiredRanges) -> Vec<(u64, u64)> {
    let ranges = ranges.iter();
    ranges.map(|(_, first, last)| (first, last)).collect()
}

#[test]
fn each_goes_by_its_own_rule() {
    let plan = plan_expire(&both(72, daily(1), daily(3)));
    assert_eq!(plan.refusals, []);
    assert_eq!(kept(&plan), [72]);
    assert_eq!(kept_in(&plan, "far"), [24, 48, 72]);
    let far = &plan.repositories["far"];
    assert_eq!(numbers(&far.expired), [(1, 23), (25, 47), (49, 71)]);
    assert_eq!(far.seen, BTreeMap::from([(writer(), 72)]));
}

#[test]
fn what_the_original_let_go_and_a_copy_keeps_is_on_no_record_of_the_copy() {
    let mut input = both(72, daily(1), daily(3));
    // The record of the original came along with the copies.
    copy(&mut input).expired = ExpiredRanges::of((1..72).map(|number| (writer(), number)));
    let plan = plan_expire(&input);
    let far = &plan.repositories["far"];
    assert_eq!(kept_in(&plan, "far"), [24, 48, 72]);
    assert!(!far.expired.covers(writer(), 24), "its loss must show");
    assert!(far.expired.covers(writer(), 23));
}

#[test]
fn doubt_about_a_copy_stops_the_copy_alone() {
    let good = both(48, daily(1), daily(1));
    let newest = good.repositories["one"].backups[47].envelope.label.clone();
    let refusal = |input: &ExpireInput| {
        let plan = plan_expire(input);
        let copies = plan.refusals.iter().map(|one| one.copy.clone());
        assert_eq!(copies.collect::<Vec<_>>(), [Some("far".to_owned())]);
        assert!(!plan.is_refused() && plan.refuses("far") && !plan.refuses("one"));
        plan.refusals[0].code
    };
    let mut input = good.clone();
    copy(&mut input).verified.clear();
    assert_eq!(refusal(&input), "newest-unverified");
    copy(&mut input).verified.insert(newest, 0);
    assert_eq!(refusal(&input), "newest-damaged");
    let mut input = good.clone();
    copy(&mut input)
        .problems
        .push("envelope 3 is missing".into());
    assert_eq!(refusal(&input), "history");

    // Doubt about the original stops both.
    let mut input = good;
    let one = input.repositories.get_mut("one").expect("is there");
    one.problems.push("envelope 3 is missing".into());
    let plan = plan_expire(&input);
    assert!(plan.is_refused() && plan.refuses("far") && plan.refuses("one"));
}

#[test]
fn a_copy_that_is_behind_counts_from_its_own_newest() {
    let mut input = both(72, daily(1), daily(1));
    let far = copy(&mut input);
    far.backups.truncate(30);
    let newest = far.backups[29].envelope.label.clone();
    far.verified = BTreeMap::from([(newest, 1)]);
    let plan = plan_expire(&input);
    assert_eq!(plan.refusals, []);
    assert_eq!(kept_in(&plan, "far"), [30]);
    assert_eq!(
        plan.repositories["far"].seen,
        BTreeMap::from([(writer(), 30)])
    );
}

#[test]
fn keys_stay_for_databases_that_only_a_copy_has_still() {
    let times = hourly("2026-11-01T00:00:00Z", 72);
    let mut keys = seen(times.clone(), daily(1));
    for one in &mut keys.backups {
        one.envelope.assets = vec![asset("ca-key", Class::Key)];
    }
    let mut input = both(72, daily(1), daily(3));
    input.repositories.insert("keysafe".into(), keys.clone());
    let plan = plan_expire(&input);
    assert_eq!(kept_in(&plan, "keysafe"), [24, 48, 72]);
    let oldest = &plan.repositories["keysafe"].kept[2];
    let mut reasons = oldest.reasons.iter();
    assert!(reasons.any(|one| one.text.contains("in far")), "{oldest:?}");

    // Where databases and keys lie in one envelope, the copy has both, and the original keeps nothing for it.
    let mut mixed = both(72, daily(1), daily(3));
    for seen in mixed.repositories.values_mut() {
        for one in &mut seen.backups {
            one.envelope.assets.push(asset("ca-key", Class::Key));
        }
    }
    let plan = plan_expire(&mixed);
    assert_eq!(kept(&plan), [72]);
    assert_eq!(kept_in(&plan, "far"), [24, 48, 72]);
}

#[test]
fn a_lock_counts_where_the_bytes_are() {
    let mut input = both(48, daily(1), daily(1));
    let lock = time("2027-01-01T00:00:00Z");
    for seen in input.repositories.values_mut() {
        seen.backups[2].envelope.lock_until = Some(lock);
    }
    let plan = plan_expire(&input);
    assert_eq!(kept(&plan), [3, 48]);
    assert_eq!(kept_in(&plan, "far"), [48], "its storage locks nothing");

    // A copy that locks does so from the copying on.
    let stored = time("2026-11-02T12:00:00Z");
    let far = copy(&mut input);
    far.protected_days = Some(1);
    for one in &mut far.backups[..10] {
        one.stored = Some(stored);
    }
    let plan = plan_expire(&input);
    let kept = kept_in(&plan, "far");
    assert!((1..=10).all(|run| kept.contains(&run)), "{kept:?}");
    assert!(!kept.contains(&11) && kept.contains(&30), "{kept:?}");
}
