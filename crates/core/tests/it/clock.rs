//! The clock jumps, epochs expire, and what the writer remembers is lost.

use crate::world::{World, contents, lines, put, time};

fn assert_newest(world: &World, label: &strongroom_core::format::Label) {
    let catalogue = world.repository().catalogue().expect("reads");
    assert_eq!(catalogue.problems, [""; 0]);
    let newest = catalogue
        .backups
        .iter()
        .max_by_key(|stored| stored.envelope.run);
    assert_eq!(newest.map(|stored| &stored.envelope.label), Some(label));
}

#[test]
fn a_clock_that_jumps_back_keeps_the_order_of_backups() {
    let world = World::new();
    let mut last = (0, 0);
    for moment in [
        "2026-11-20T15:30:00Z",
        "2026-11-20T15:30:00Z",
        "1999-01-01T00:00:00Z",
        "2038-01-20T00:00:00Z",
        "2026-11-20T15:29:59Z",
    ] {
        world.clock.set(time(moment));
        world.write("config/ca.toml", moment.as_bytes());
        let report = world.must_backup();
        let is_behind = moment.starts_with("1999") || moment.ends_with("29:59Z");
        let told = report
            .problems
            .iter()
            .any(|one| one.contains("by the clock of this host"));
        assert_eq!(told, is_behind, "{moment}: {:?}", report.problems);
        let envelope = world.envelope(&report.label).expect("is there");
        assert!((envelope.run, envelope.sequence) > last, "{moment}");
        assert!(envelope.sequence == last.1 + 1, "{moment}");
        last = (envelope.run, envelope.sequence);
        assert_newest(&world, &report.label);
        let restored = world.restore_to(&report.label).expect("restores");
        assert_eq!(restored, contents(&world.root()), "{moment}");
    }
}

#[test]
fn an_epoch_ends_with_its_days_and_both_can_be_restored() {
    let world = World::new();
    let first = world.must_backup();
    let at_first = contents(&world.root());
    let epoch = |report: &strongroom_core::execute::backup::BackupReport| {
        world.envelope(&report.label).expect("is there").epoch.id
    };
    world.clock.set(time("2026-12-03T15:30:00Z"));
    let same = world.must_backup();
    assert_eq!(epoch(&first), epoch(&same));
    assert_eq!(same.assets[0].stats.new_chunk_bytes, 0);
    world.clock.set(time("2026-12-04T15:30:00Z"));
    world.write("log/ca.log", &lines(0, 3500));
    let next = world.must_backup();
    assert_ne!(epoch(&first), epoch(&next));
    assert_eq!(
        next.assets[0].stats.new_chunk_bytes, next.assets[0].stats.size_bytes,
        "deduplication never crosses an epoch"
    );
    assert_eq!(world.restore_to(&first.label).expect("restores"), at_first);
    let restored = world.restore_to(&next.label).expect("restores");
    assert_eq!(restored, contents(&world.root()));
}

#[test]
fn a_lost_or_damaged_index_costs_an_epoch() {
    for damage in ["lost", "empty", "garbage", "cut"] {
        let world = World::new();
        let first = world.must_backup();
        let at_first = contents(&world.root());
        let index = world.state().join("repository/all/index/1.run");
        let bytes = std::fs::read(&index).expect("reads");
        match damage {
            "lost" => std::fs::remove_file(&index).expect("removes"),
            "empty" => put(&index, b""),
            "garbage" => put(&index, &[0xa5; 9000]),
            _ => put(&index, &bytes[..bytes.len() / 2]),
        }
        world.write("log/ca.log", &lines(7, 3000));
        let second = world.must_backup();
        let epoch = |label| world.envelope(label).expect("is there").epoch.id;
        assert_ne!(epoch(&first.label), epoch(&second.label), "{damage}");
        assert_newest(&world, &second.label);
        assert_eq!(world.restore_to(&first.label).expect(damage), at_first);
        let restored = world.restore_to(&second.label).expect(damage);
        assert_eq!(restored, contents(&world.root()), "{damage}");
    }
}
