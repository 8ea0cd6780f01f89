//! Every step of a restore, its undo and its sign-off fails once; it goes on to the end, or back to the start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_core::execute::restore::journal::{Journal, Phase};
use strongroom_core::execute::restore::{
    BeforeStep, Consent, RestoreError, RestoreReport, journal_directory, restore, resume, sign_off,
    undo,
};
use strongroom_core::format::Label;
use strongroom_core::plan::restore::Target;
use strongroom_core::source::server::DatabaseServer as _;
use strongroom_testkit::memory_server::Tables;
use strongroom_testkit::memory_token::Objects;

use crate::world::{Tree, World, contents, lines, snapshot};

struct Place {
    world: World,
    label: Label,
    /// The tree as it was captured.
    wanted: Tree,
    /// The tree as it is before a restore.
    before: BTreeMap<PathBuf, String>,
    databases_wanted: BTreeMap<String, Tables>,
    databases_before: BTreeMap<String, Tables>,
    keys_wanted: Objects,
    keys_before: Objects,
    /// Whether a restore leaves files and databases out.
    of_the_token_alone: bool,
}

impl Place {
    fn new() -> Self {
        let world = World::new();
        let rows = String::from_utf8(lines(0, 2000)).expect("text");
        let certificates = ("certificates", rows.as_str());
        world
            .server
            .put("ca", &[certificates, ("empty", ""), ("odd / name", "1\n")]);
        world.server.put("va", &[("roles", "one\ntwo\n")]);
        for name in ["certificate", "private key", "public key"] {
            world.keys.insert(name, name.as_bytes());
        }
        let label = world.must_backup().label;
        let wanted = contents(&world.root());
        let databases_wanted = world.server.databases();
        world
            .server
            .put("ca", &[("certificates", "written after the backup\n")]);
        world.server.drop_database("va").expect("drops");
        world.server.put("other", &[]);
        let keys_wanted = world.keys.objects();
        // A new token, in which one object is already, and one that is not in the backup.
        world.keys.take("certificate");
        world.keys.take("private key");
        world.keys.insert("other key", b"not in the backup");
        let keys_before = world.keys.objects();
        let databases_before = world.server.databases();
        world.write("log/ca.log", &lines(5, 50));
        world.write("config/ca.toml", b"days = 1\n");
        std::fs::remove_dir_all(world.live("config/sub")).expect("removes");
        std::fs::remove_file(world.live("config/current")).expect("removes");
        std::fs::remove_dir_all(world.live("token")).expect("removes");
        std::fs::hard_link(world.live("config/empty"), world.live("config/second")).expect("links");
        let before = snapshot(&world.root().join("config"));
        Self {
            world,
            label,
            wanted,
            before,
            databases_wanted,
            databases_before,
            keys_wanted,
            keys_before,
            of_the_token_alone: false,
        }
    }

    fn of_the_token_alone() -> Self {
        Self {
            of_the_token_alone: true,
            ..Self::new()
        }
    }

    fn apply(&self, hook: &Hook) -> Result<RestoreReport, RestoreError> {
        self.apply_with(&|_| hook.step())
    }

    fn apply_with(&self, step: BeforeStep<'_>) -> Result<RestoreReport, RestoreError> {
        self.world
            .restoring(&self.label, Target::InPlace, |plan, readers| {
                let mut plan = plan.clone();
                if self.of_the_token_alone {
                    plan.databases.clear();
                    plan.items.clear();
                }
                let consent = Consent::to(&plan)?;
                self.world.in_context(step, |context| {
                    restore(&consent, &self.world.state(), readers, context)
                })
            })
    }

    fn resume(&self, hook: &Hook) -> Result<RestoreReport, RestoreError> {
        self.world
            .restoring(&self.label, Target::InPlace, |_, readers| {
                self.world.in_context(&|_| hook.step(), |context| {
                    resume(&self.journal(), readers, context)
                })
            })
    }

    fn undo(&self, hook: &Hook) -> Result<RestoreReport, RestoreError> {
        self.world
            .in_context(&|_| hook.step(), |context| undo(&self.journal(), context))
    }

    fn sign_off(&self, hook: &Hook) -> Result<RestoreReport, RestoreError> {
        self.world.in_context(&|_| hook.step(), |context| {
            sign_off(&self.journal(), context)
        })
    }

    fn journal(&self) -> PathBuf {
        journal_directory(&Target::InPlace, &self.world.state())
    }

    #[track_caller]
    fn assert_before(&self, when: &str) {
        let now = snapshot(&self.world.root().join("config"));
        assert_eq!(now, self.before, "{when}");
        assert!(!self.world.live("token").exists(), "{when}");
        let log = std::fs::read(self.world.live("log/ca.log")).expect("reads");
        assert_eq!(log, lines(5, 50), "{when}");
        let databases = self.world.server.databases();
        assert_eq!(databases, self.databases_before, "{when}");
        assert_eq!(self.world.keys.objects(), self.keys_before, "{when}");
        self.assert_no_leftovers(when);
    }

    /// What was captured is there; what was there besides it is, too.
    #[track_caller]
    fn assert_restored(&self, when: &str) {
        let mut now = contents(&self.world.root());
        now.retain(|path, _| {
            let name = path.file_name().expect("a name").to_string_lossy();
            !name.starts_with(".strongroom-")
        });
        assert!(now.remove(std::path::Path::new("config/second")).is_some());
        assert_eq!(now, self.wanted, "{when}");
        let mut databases = self.world.server.databases();
        databases.retain(|name, _| !name.starts_with("strongroom-"));
        assert!(databases.remove("other").is_some(), "{when}");
        assert_eq!(databases, self.databases_wanted, "{when}");
        let mut keys = self.world.keys.objects();
        assert!(keys.remove("other key").is_some(), "{when}");
        assert_eq!(keys, self.keys_wanted, "{when}");
    }

    #[track_caller]
    fn assert_no_leftovers(&self, when: &str) {
        for path in snapshot(&self.world.root()).keys() {
            let text = path.to_string_lossy();
            assert!(!text.contains(".strongroom-"), "{when}: {text}");
        }
        let databases = self.world.server.databases();
        let left = databases
            .keys()
            .filter(|name| name.starts_with("strongroom-"));
        assert_eq!(left.count(), 0, "{when}");
        assert!(!self.journal().exists(), "{when}");
    }
}

/// Fails one step.
struct Hook {
    count: AtomicU64,
    fail_at: u64,
}

impl Hook {
    fn at(fail_at: u64) -> Self {
        Self {
            count: AtomicU64::new(0),
            fail_at,
        }
    }

    fn never() -> Self {
        Self::at(u64::MAX)
    }

    fn step(&self) -> std::io::Result<()> {
        if self.count.fetch_add(1, Ordering::Relaxed) == self.fail_at {
            return Err(std::io::Error::other("fault by script"));
        }
        Ok(())
    }
}

#[test]
fn a_restore_that_fails_at_any_step_is_undone_exactly() {
    let place = Place::new();
    let mut step = 0;
    while place.apply(&Hook::at(step)).is_err() {
        place.undo(&Hook::never()).expect("undoes");
        place.assert_before(&format!("step {step}"));
        step += 1;
    }
    assert!(step > 15, "{step} steps");
    place.undo(&Hook::never()).expect("undoes what is in place");
    place.assert_before("undone after the end");
}

#[test]
fn a_restore_that_fails_at_any_step_is_resumed_and_may_fail_there_again() {
    let place = Place::new();
    let mut step = 0;
    while place.apply(&Hook::at(step)).is_err() {
        let again = place.resume(&Hook::at(step / 2));
        if again.is_err() {
            place.resume(&Hook::never()).expect("resumes");
        }
        place.assert_restored(&format!("step {step}"));
        let error = place.resume(&Hook::never()).expect_err("has ended");
        assert!(matches!(error, RestoreError::WrongPhase { .. }), "{error}");
        place.undo(&Hook::never()).expect("undoes");
        place.assert_before(&format!("step {step}"));
        step += 1;
    }
    assert!(step > 15, "{step} steps");
}

#[test]
fn an_undo_that_fails_at_any_step_is_repeated() {
    let place = Place::new();
    let mut step = 0;
    loop {
        place.apply(&Hook::never()).expect("restores");
        let failed = place.undo(&Hook::at(step)).is_err();
        if failed {
            let error = place.resume(&Hook::never()).expect_err("half undone");
            assert!(matches!(error, RestoreError::WrongPhase { .. }), "{error}");
            let journal = Journal::open(&place.journal()).expect("opens");
            // Once all else is undone, what is left in a token may stay there.
            if journal.expect("is there").phase() != Phase::EmptyingTokens {
                place.sign_off(&Hook::never()).expect_err("half undone");
            }
            place.undo(&Hook::never()).expect("goes on");
        }
        place.assert_before(&format!("step {step}"));
        if !failed {
            break;
        }
        step += 1;
    }
    assert!(step > 5, "{step} steps");
}

#[test]
fn a_sign_off_that_fails_at_any_step_is_repeated() {
    let mut step = 0;
    loop {
        let place = Place::new();
        place.apply(&Hook::never()).expect("restores");
        let modified = || {
            let metadata = std::fs::metadata(place.world.live("config"));
            metadata.and_then(|metadata| metadata.modified()).ok()
        };
        let applied = modified();
        let failed = place.sign_off(&Hook::at(step)).is_err();
        if failed {
            place.undo(&Hook::never()).expect_err("half signed off");
            place.sign_off(&Hook::never()).expect("goes on");
        }
        place.assert_restored(&format!("step {step}"));
        place.assert_no_leftovers(&format!("step {step}"));
        assert_eq!(modified(), applied, "step {step}");
        if !failed {
            break;
        }
        step += 1;
    }
    assert!(step > 5, "{step} steps");
}

#[test]
fn damage_stops_a_restore_before_anything_is_replaced() {
    let mut place = Place::new();
    // What is in the token already is not fetched.
    place.world.keys.take("public key");
    place.keys_before = place.world.keys.objects();
    let place = place;
    let storage = place.world.storage.inner();
    let envelope = place.world.envelope(&place.label).expect("is there");
    for (object, _) in &envelope.objects {
        let name = strongroom_core::format::name::ObjectName::object(*object);
        let flip = |bytes: &mut Vec<u8>| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        };
        assert!(storage.damage(&name, flip));
        let error = place.apply(&Hook::never()).expect_err("damaged");
        assert!(!error.to_string().is_empty());
        if place.journal().exists() {
            place.undo(&Hook::never()).expect("undoes");
        }
        place.assert_before(name.as_str());
        assert!(storage.damage(&name, flip));
    }
    place.apply(&Hook::never()).expect("whole again");
    place.assert_restored("whole again");
}

#[test]
fn a_database_goes_under_another_name_whole_or_in_part() {
    let mut place = Place::new();
    for (tables, rows) in [(None, 2000), (Some("empty"), 0)] {
        place.world.options.tables = tables.into_iter().map(str::to_owned).collect();
        let target = Target::Database("look".to_owned());
        let restored = place
            .world
            .restoring(&place.label, target, |plan, readers| {
                // The backup has two databases and files: a plan for all of them is refused.
                assert!(Consent::to(plan).is_err());
                let mut plan = plan.clone();
                plan.databases.retain(|database| database.original == "ca");
                plan.tokens.clear();
                plan.items.clear();
                plan.refusals.clear();
                let consent = Consent::to(&plan)?;
                place.world.in_context(&|_| Ok(()), |context| {
                    restore(&consent, &place.world.state(), readers, context)
                })
            });
        assert!(!restored.expect("restores").awaits_sign_off);
        let databases = place.world.server.databases();
        assert_eq!(databases["look"]["certificates"].lines().count(), rows);
        assert_eq!(databases["ca"], place.databases_before["ca"]);
        place.world.server.drop_database("look").expect("drops");
        assert!(!place.journal().exists());
    }
}

#[test]
fn another_key_in_the_way_is_refused_and_stays() {
    let place = Place::new();
    place.world.keys.insert("private key", b"another one");
    let before = place.world.keys.objects();
    let error = place.apply(&Hook::never()).expect_err("is refused");
    assert!(matches!(error, RestoreError::Refused(_)), "{error}");
    assert_eq!(place.world.keys.objects(), before);
}

#[test]
fn a_restore_of_a_token_alone_is_undone_until_its_sign_off() {
    let place = Place::of_the_token_alone();
    let mut step = 0;
    while place.apply(&Hook::at(step)).is_err() {
        place.undo(&Hook::never()).expect("undoes");
        place.assert_before(&format!("step {step}"));
        step += 1;
    }
    assert!(step > 6, "{step} steps");
    step = 0;
    while place.undo(&Hook::at(step)).is_err() {
        place.undo(&Hook::never()).expect("goes on");
        place.assert_before(&format!("step {step} of the undo"));
        let done = place.apply(&Hook::never()).expect("restores");
        assert!(done.awaits_sign_off);
        assert_eq!(done.made_in_tokens, 2);
        step += 1;
    }
    assert_eq!(step, 2, "an object a step");
    place.assert_before("undone");

    place.apply(&Hook::never()).expect("restores");
    place.sign_off(&Hook::never()).expect("signs off");
    let error = place.undo(&Hook::never()).expect_err("is signed off");
    assert!(matches!(error, RestoreError::NothingToDo), "{error}");
    let mut keys = place.world.keys.objects();
    keys.remove("other key");
    assert_eq!(keys, place.keys_wanted);
    // Everything is there: nothing is made, and so there is nothing to undo.
    let done = place.apply(&Hook::never()).expect("restores");
    assert_eq!((done.made_in_tokens, done.awaits_sign_off), (0, false));
    assert!(!place.journal().exists());
}

#[test]
fn what_comes_into_a_token_during_a_restore_stays_after_an_undo() {
    let mut place = Place::of_the_token_alone();
    let keys = place.world.keys.clone();
    let done = place.apply_with(&|what| {
        if what == "rehearse" {
            keys.insert("private key", b"private key");
        }
        Ok(())
    });
    let done = done.expect("restores");
    assert_eq!(done.made_in_tokens, 1);
    assert!(done.notes[0].contains("private key has come"), "{done:?}");
    place.undo(&Hook::never()).expect("undoes");
    let of_another = ("private key".to_owned(), b"private key".to_vec());
    place.keys_before.extend([of_another]);
    place.assert_before("undone");
}

#[test]
fn an_undo_without_its_token_does_the_rest_and_says_what_remains() {
    let place = Place::new();
    let left = || match place.undo(&Hook::never()) {
        Err(RestoreError::LeftInToken { objects, source }) => {
            assert_eq!(objects.len(), 2, "{objects:?}");
            assert!(objects[1].starts_with("private key of asset keys"));
            *source
        }
        other => panic!("{other:?}"),
    };
    for is_gone_for_good in [false, true] {
        place.apply(&Hook::never()).expect("restores");
        place.world.keys.set_away(true);
        assert!(matches!(left(), RestoreError::Token { .. }));
        assert_eq!(
            snapshot(&place.world.root().join("config")),
            place.before,
            "the files wait for no token"
        );
        assert_eq!(place.world.server.databases(), place.databases_before);
        place.resume(&Hook::never()).expect_err("half undone");
        place.world.keys.set_away(false);
        // Another token with the same objects: they are its own.
        place.world.keys.set_serial(2);
        assert!(matches!(left(), RestoreError::OtherToken { .. }));
        assert_eq!(place.world.keys.objects().len(), 4);
        place.world.keys.set_serial(0);
        if is_gone_for_good {
            let done = place.sign_off(&Hook::never()).expect("leaves them");
            assert_eq!(done.notes.len(), 2, "{done:?}");
            assert_eq!(place.world.keys.objects().len(), 4);
            place.assert_no_leftovers("signed off");
        } else {
            place.undo(&Hook::never()).expect("undoes");
            place.assert_before("the token is back");
        }
    }
}

/// A database and a file that a restore is to make anew, made by the CA in the meantime.
struct Appearing<'p> {
    place: &'p Place,
    database: BTreeMap<String, String>,
}

impl<'p> Appearing<'p> {
    fn new(place: &'p Place) -> Self {
        let rows = ("issued".to_owned(), "after the plan\n".to_owned());
        Self {
            place,
            database: BTreeMap::from([rows]),
        }
    }

    fn file(&self) -> PathBuf {
        self.place.world.live("config/current")
    }

    fn make_database(&self) {
        let server = &self.place.world.server;
        server.put("va", &[("issued", "after the plan\n")]);
    }

    fn make_file(&self) {
        crate::world::put(&self.file(), b"after the plan");
    }

    #[track_caller]
    fn assert_there(&self, when: &str) {
        let databases = self.place.world.server.databases();
        assert_eq!(databases.get("va"), Some(&self.database), "{when}");
        let file = std::fs::read(self.file()).expect("reads");
        assert_eq!(file, b"after the plan", "{when}");
    }

    /// Takes it away; everything is as before then.
    #[track_caller]
    fn take_away(&self, when: &str) {
        self.assert_there(when);
        self.place.world.server.drop_database("va").expect("drops");
        std::fs::remove_file(self.file()).expect("removes");
    }
}

#[test]
fn what_appears_before_the_swap_is_refused_and_stays() {
    let place = Place::new();
    let ca = Appearing::new(&place);
    let apply = || {
        place.apply_with(&|what| {
            if what == "begin to swap" {
                ca.make_database();
                ca.make_file();
            }
            Ok(())
        })
    };
    for is_undone in [true, false] {
        let RestoreError::Appeared(what) = apply().expect_err("is refused") else {
            panic!("another error");
        };
        assert_eq!(what.len(), 2, "{what:?}");
        assert!(what[0].starts_with("database \"va\" at "), "{what:?}");
        assert!(what[1].ends_with("config/current"), "{what:?}");
        let error = place.resume(&Hook::never()).expect_err("it is still there");
        assert!(matches!(error, RestoreError::Appeared(_)), "{error}");
        ca.assert_there("refused");
        if is_undone {
            place.undo(&Hook::never()).expect("undoes");
            ca.take_away("undone");
            let mut databases = place.world.server.databases();
            databases.retain(|name, _| !place.databases_before.contains_key(name));
            assert_eq!(databases, BTreeMap::new());
            place.assert_no_leftovers("undone");
        } else {
            ca.take_away("resumed");
            place.resume(&Hook::never()).expect("goes on");
            place.assert_restored("out of the way");
        }
    }
}

#[test]
fn what_appears_during_the_swap_is_refused_and_stays() {
    for (step, is_undone) in [
        ("swap", true),
        ("swap", false),
        ("keep", true),
        ("keep", false),
    ] {
        let place = Place::new();
        let ca = Appearing::new(&place);
        let error = place.apply_with(&|what| {
            if what == step && step == "swap" {
                ca.make_database();
            } else if what == step {
                ca.make_file();
            }
            Ok(())
        });
        let error = error.expect_err("is refused");
        if step == "swap" {
            assert!(matches!(error, RestoreError::Database { .. }), "{error}");
            ca.make_file();
        } else {
            assert!(matches!(error, RestoreError::Appeared(_)), "{error}");
        }
        if is_undone {
            place.undo(&Hook::never()).expect("undoes");
            let file = std::fs::read(ca.file()).expect("reads");
            assert_eq!(file, b"after the plan");
            if step == "swap" {
                ca.take_away("undone");
            }
            assert_eq!(place.world.server.databases(), place.databases_before);
            place.assert_no_leftovers("undone");
            continue;
        }
        place.resume(&Hook::never()).expect_err("it is still there");
        let file = std::fs::read(ca.file()).expect("reads");
        assert_eq!(file, b"after the plan");
        if step == "swap" {
            ca.take_away("resumed");
        } else {
            std::fs::remove_file(ca.file()).expect("removes");
        }
        place.resume(&Hook::never()).expect("goes on");
        place.assert_restored("out of the way");
    }
}

#[test]
fn a_name_that_was_free_and_is_taken_is_not_restored_to() {
    let place = Place::new();
    let server = &place.world.server;
    let look = Target::Database("look".to_owned());
    let restored = place.world.restoring(&place.label, look, |plan, readers| {
        let mut plan = plan.clone();
        plan.databases.retain(|database| database.original == "ca");
        plan.tokens.clear();
        plan.items.clear();
        plan.refusals.clear();
        let step = |what: &str| {
            if what == "prove" {
                server.put("look", &[("of", "another\n")]);
            }
            Ok(())
        };
        let consent = Consent::to(&plan)?;
        place.world.in_context(&step, |context| {
            restore(&consent, &place.world.state(), readers, context)
        })
    });
    let error = restored.expect_err("is refused");
    assert!(matches!(error, RestoreError::Appeared(_)), "{error}");
    place.undo(&Hook::never()).expect("undoes");
    let mut databases = server.databases();
    let look = databases.remove("look").expect("stays");
    assert_eq!(look["of"], "another\n");
    assert_eq!(databases, place.databases_before);
}
