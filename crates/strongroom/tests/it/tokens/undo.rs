//! A restore into a token is undone until its sign-off: what it made goes, what was there stays.

use super::Place;

impl Place {
    /// What a stock tool lists, in order.
    fn sorted(&self) -> Vec<String> {
        let mut listed = self.listed("ca");
        listed.sort();
        listed
    }

    #[track_caller]
    fn undo(&self) {
        self.run(&["restore", "--undo"]).exits(0).says("Undone");
    }
}

#[test]
fn an_undo_leaves_what_was_there_before() {
    let test = "tokens::undo::an_undo_leaves_what_was_there_before";
    let Some(place) = Place::wrapped(test) else {
        return;
    };
    let label = place.backup();
    let restore = || place.opened(&["restore", &label, "hsm", "--apply"]);
    // One key of the backup is lost, and another one has come.
    let lose = ["--delete-object", "--type", "privkey", "--id", "02"];
    place.hsm.tool("ca", &lose);
    place.hsm.key("ca", ("55", "other"), "EC:prime256v1", true);
    let before = place.sorted();
    restore()
        .exits(0)
        .says("1 object was put into a token")
        .says("--sign-off");
    assert_eq!(place.sorted().len(), before.len() + 1);
    place.signs("ca", "02", "ECDSA");
    restore()
        .exits(4)
        .says("waiting for the sign-off; end it with --sign-off or --undo");
    place.undo();
    assert_eq!(place.sorted(), before);
    place.signs("ca", "01", "SHA256-RSA-PKCS");
    place
        .run(&["restore", "--undo"])
        .exits(4)
        .says("there is no unfinished restore");

    restore().exits(0);
    place
        .run(&["restore", "--sign-off"])
        .exits(0)
        .says("Signed off.");
    let after = place.sorted();
    place
        .run(&["restore", "--undo"])
        .exits(4)
        .says("there is no unfinished restore");
    assert_eq!(place.sorted(), after);
    place.signs("ca", "02", "ECDSA");
}

#[test]
fn an_undo_that_is_killed_is_repeated() {
    let test = "tokens::undo::an_undo_that_is_killed_is_repeated";
    let Some(place) = Place::wrapped(test) else {
        return;
    };
    let label = place.backup();
    place.hsm.destroy(&place.serial);
    let serial = place.new_token("ca");
    place.hsm.key("ca", ("55", "other"), "EC:prime256v1", true);
    let before = place.sorted();
    let mut killed = 0;
    for round in 1..6 {
        place
            .opened(&["restore", &label, "hsm", "--apply"])
            .exits(0);
        let wanted = place.objects(&serial) - round;
        place.kill_when(&["restore", "--undo"], || place.objects(&serial) <= wanted);
        if place.host.path("host/state/restore/plan.json").exists() {
            killed += 1;
            assert!(place.sorted().len() > before.len(), "round {round}");
            place
                .opened(&["restore", "--resume"])
                .exits(4)
                .says("undone but for objects in a token");
            place.undo();
        }
        assert_eq!(place.sorted(), before, "round {round}");
    }
    assert!(killed > 0, "no kill came in time");
}

#[test]
fn an_undo_without_the_token_or_its_pin_says_what_remains() {
    let test = "tokens::undo::an_undo_without_the_token_or_its_pin_says_what_remains";
    let Some(place) = Place::wrapped(test) else {
        return;
    };
    let label = place.backup();
    place.hsm.destroy(&place.serial);
    let serial = place.new_token("ca");
    let before = place.sorted();
    let file = place.host.path("ca/conf/ca.toml");
    std::fs::write(&file, "days = 1\n").expect("writes");
    let restore = || {
        place
            .opened(&["restore", &label, "hsm", "config", "--apply"])
            .exits(0)
            .says("6 objects were put into a token");
    };
    let remains = |why: &str| {
        place
            .run(&["restore", "--undo"])
            .exits(1)
            .says(why)
            .says("not undone: what the restore has made is still in the token")
            .says("private key \"issuing ca\" (id 02) of asset hsm")
            .says("All else is as it was.");
        let text = std::fs::read_to_string(&file).expect("reads");
        assert_eq!(text, "days = 1\n", "files wait for no token");
    };
    let (there, away) = (place.hsm.directory(&serial), place.hsm.path("away"));
    let move_away = || std::fs::rename(&there, &away).expect("moves");
    let move_back = || std::fs::rename(&away, &there).expect("moves");

    restore();
    let restored = place.sorted();
    move_away();
    remains("there is no token");
    // A new token by that name has nothing to be taken out.
    let other = place.new_token("ca");
    remains(&format!("and here is token \"ca\", serial {other}"));
    place.hsm.destroy(&other);
    move_back();
    place.host.learn_secret("0000-wrong-pin");
    place.hsm.pin_file("pin", "0000-wrong-pin");
    remains("the PIN is wrong");
    assert_eq!(place.sorted(), restored);
    place
        .hsm
        .pin_file("pin", strongroom_testkit::servers::softhsm::PIN);
    place.undo();
    assert_eq!(place.sorted(), before);

    // The token is gone for good: the restore can be ended all the same.
    restore();
    move_away();
    remains("there is no token");
    place
        .run(&["restore", "--sign-off"])
        .exits(0)
        .says("private key \"root\" (id 01) of asset hsm")
        .says("stays in the token");
    place
        .run(&["restore", "--undo"])
        .exits(4)
        .says("there is no unfinished restore");
}
