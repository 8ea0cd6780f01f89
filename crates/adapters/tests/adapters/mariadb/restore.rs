//! Load, proof, swap, undo.

use std::collections::BTreeSet;

use strongroom_adapters::source::mariadb::MariadbRestorer;
use strongroom_adapters::source::mariadb::server::MariadbServer;
use strongroom_core::source::server::{DatabaseServer as _, LoadOptions, WantedDatabase};
use strongroom_core::source::{RestoredAsset, Restorer as _};
use strongroom_testkit::fixtures;

use super::{capture, connection, dump, names, server, settings, with_fixture};

fn all() -> LoadOptions {
    LoadOptions::default()
}

#[test]
fn databases_go_round() {
    let server = server();
    let port = MariadbServer::new(connection(&server));
    for (name, script) in [
        ("shapes", fixtures::MARIADB_SHAPES.to_owned()),
        ("akamu", fixtures::mariadb_akamu(fixtures::FEW)),
        ("certctl", fixtures::mariadb_certctl(fixtures::FEW)),
    ] {
        with_fixture(&server, name, &script);
    }
    let mut settings = settings(&server, &["shapes", "akamu", "certctl"]);
    settings.jobs = 3;
    let backup = capture(&settings).complete();
    for live in ["shapes", "akamu", "certctl"] {
        let before = dump(&server, live);
        let names = names(live);
        backup.load(&port, live, names.new, &all()).expect("loads");
        let proof = backup.prove(&port, live, names.new);
        assert_eq!(proof.failures, [""; 0], "{live}");
        assert_eq!(proof.shown.len(), 1, "{live}");
        assert_eq!(proof.notes, [""; 0], "{live}");
        // Something else is live now.
        server
            .sql(live, "CREATE TABLE since (id INT); CREATE VIEW v_since AS SELECT * FROM since;\nCREATE TRIGGER t_since BEFORE INSERT ON since FOR EACH ROW SET NEW.id = 1;")
            .expect("changes");
        let damaged = dump(&server, live);
        port.swap_in(&names).expect("swaps");
        assert!(!port.has(names.new).expect("looks") && port.has(names.old).expect("looks"));
        assert_eq!(dump(&server, live), before, "{live}");
        port.swap_in(&names).expect("is done");
        port.swap_back(&names).expect("swaps back");
        assert!(!port.has(names.old).expect("looks"));
        assert_eq!(dump(&server, live), damaged, "{live}");
        port.swap_back(&names).expect("is done");
        // What was swapped out can come back.
        port.swap_in(&names).expect("swaps again");
        assert_eq!(dump(&server, live), before, "{live}");
        port.drop_database(names.old).expect("signs off");
        port.drop_database(names.old).expect("is done");
        assert!(!port.has(names.old).expect("looks"));
    }
}

#[test]
fn a_restore_onto_another_server_creates_what_is_missing() {
    let (one, two) = (server(), server());
    with_fixture(&one, "shapes", fixtures::MARIADB_SHAPES);
    let backup = capture(&settings(&one, &["shapes"])).complete();
    let port = MariadbServer::new(connection(&two));
    let options = all();
    let wanted = WantedDatabase {
        original: "shapes",
        name: "shapes",
        facts: &backup.capture.facts,
        options: &options,
    };
    let seen = port.observe(&[wanted]).expect("looks");
    assert_eq!(seen.refusals, [""; 0]);
    assert!(seen.databases.is_empty());
    assert!(
        seen.warnings
            .iter()
            .any(|warning| warning.contains("shapes_owner")),
        "{seen:?}"
    );
    let names = names("shapes");
    let notes = backup
        .load(&port, "shapes", names.new, &options)
        .expect("loads");
    assert!(
        notes.iter().any(|note| note.contains("shapes_owner")),
        "{notes:?}"
    );
    assert_eq!(backup.prove(&port, "shapes", names.new).failures, [""; 0]);
    port.swap_in(&names).expect("swaps");
    assert_eq!(dump(&one, "shapes"), dump(&two, "shapes"));
    two.sql("shapes", "INSERT INTO uses_sequence (t) VALUES ('more')")
        .expect("its default is a sequence beside it");
    let seen = port.observe(&[wanted]).expect("looks");
    assert!(
        seen.databases["shapes"].size_bytes > 0 && seen.warnings.is_empty(),
        "{seen:?}"
    );
    let locked = two
        .sql("mysql", "SHOW CREATE USER shapes_owner@localhost")
        .expect("asks");
    assert!(
        locked.contains("ACCOUNT LOCK") && !locked.contains("PASSWORD '"),
        "{locked}"
    );
    let grants = |server: &strongroom_adapters::throwaway::mariadb::Server| {
        let lines = server
            .sql("mysql", "SHOW GRANTS FOR shapes_reader@'%'")
            .expect("asks");
        let lines = lines.lines().filter(|line| line.contains("shapes`"));
        lines.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(grants(&one), grants(&two));
    // Nothing was there, and after an undo nothing is.
    let used = dump(&two, "shapes");
    port.swap_back(&names).expect("is undone");
    let has = |name| port.has(name).expect("looks");
    assert_eq!(
        [names.live, names.old, names.new].map(has),
        [false, false, true]
    );
    port.swap_in(&names).expect("swaps");
    port.drop_database(names.old).expect("signs off");
    assert_eq!(dump(&two, "shapes"), used);
}

#[test]
fn single_tables_are_loaded_alone() {
    let server = server();
    with_fixture(&server, "akamu", &fixtures::mariadb_akamu(100));
    let backup = capture(&settings(&server, &["akamu"])).complete();
    let port = MariadbServer::new(connection(&server));
    let options = LoadOptions {
        tables: ["akamu.certificates".to_owned()].into(),
        ..LoadOptions::default()
    };
    backup
        .load(&port, "akamu", "scratch", &options)
        .expect("loads");
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        server
            .sql("scratch", &sql)
            .expect("counts")
            .trim()
            .to_owned()
    };
    assert_eq!(count("certificates"), "100");
    assert_eq!(count("accounts"), "0");
    let options = LoadOptions {
        tables: ["akamu.none".to_owned()].into(),
        roles: [("a".to_owned(), "b".to_owned())].into(),
        ..LoadOptions::default()
    };
    assert!(backup.load(&port, "akamu", "scratch", &options).is_err());
    let wanted = WantedDatabase {
        original: "akamu",
        name: "scratch",
        facts: &backup.capture.facts,
        options: &options,
    };
    let seen = port.observe(&[wanted]).expect("looks");
    assert_eq!(seen.refusals.len(), 2, "{seen:?}");
    assert!(seen.databases["scratch"].size_bytes > 0);
}

#[test]
fn dumps_in_a_directory_are_proved() {
    let server = server();
    with_fixture(&server, "akamu", &fixtures::mariadb_akamu(100));
    let backup = capture(&settings(&server, &["akamu"])).complete();
    let directory = tempfile::tempdir().expect("a directory");
    let prove = |change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let mut files = std::collections::BTreeMap::new();
        for (number, (stream, content)) in backup.streams().into_iter().enumerate() {
            let path = directory.path().join(number.to_string());
            let _ = std::fs::remove_file(&path);
            let mut file = strongroom_core::private_file::create_new(&path).expect("creates");
            std::io::Write::write_all(&mut file, &change(content)).expect("writes");
            files.insert(stream.path, path);
        }
        let asset = RestoredAsset {
            name: "asset",
            settings: &backup.settings,
            facts: &backup.capture.facts,
            files: &files,
            all_files: &files,
        };
        MariadbRestorer.prove(&asset).expect("looks")
    };
    let whole = prove(&|content| content);
    assert_eq!(
        (whole.failures.len(), whole.shown.len()),
        (0, 1),
        "{whole:?}"
    );
    let other = prove(&|content| {
        let text = String::from_utf8(content).expect("text");
        text.replacen("'valid'", "'revoked'", 1).into_bytes()
    });
    assert_eq!(other.failures.len(), 1, "{other:?}");
    let cut = prove(&|content| content[..content.len() / 2].to_vec());
    assert!(cut.failures.len() > 1, "{cut:?}");
}
