//! What a restore plan refuses, warns of and does.

use super::*;

fn stream(kind: StreamKind, path: &str) -> Stream {
    Stream {
        kind,
        path: path.into(),
        mode: 0o600,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        mtime: (0, 0),
        xattrs: BTreeMap::new(),
        target: None,
        size: kind.has_content().then_some(10),
        sha256: None,
        content: None,
    }
}

fn asset(streams: Vec<Stream>) -> RestoreAsset {
    RestoreAsset {
        name: "config".into(),
        class: Class::Config,
        source: "files".into(),
        repository: "offsite".into(),
        complete: true,
        streams,
        facts: serde_json::Value::Null,
    }
}

fn label() -> Label {
    "20261120-153000Z-k3f9".parse().expect("a label")
}

fn found(kind: StreamKind) -> Found {
    Found {
        kind: Some(kind),
        uid: 7,
        gid: 7,
        mode: 0o600,
        mtime: (0, 0),
        in_use: None,
    }
}

fn world() -> Observations {
    Observations {
        is_root: true,
        ..Observations::default()
    }
}

#[test]
fn a_directory_restore_stays_below_its_directory() {
    let assets = [asset(vec![stream(StreamKind::File, "/etc/ca/ca.toml")])];
    let target = Target::Directory("/restore".into());
    let plan = plan_restore(label(), target, &LoadOptions::default(), &assets, &world());
    assert_eq!(
        plan.items[0].path,
        Path::new("/restore/config/etc/ca/ca.toml")
    );
    assert_eq!(plan.items[0].root, Path::new("/restore"));
    assert_eq!(plan.refusals, Vec::<String>::new());
}

#[test]
fn links_are_followed_above_the_asset_only() {
    let streams = vec![
        stream(StreamKind::Directory, "/etc/ca"),
        stream(StreamKind::Directory, "/etc/ca/sub"),
        stream(StreamKind::File, "/etc/ca/sub/a"),
        stream(StreamKind::File, "/etc/other"),
    ];
    let plan = plan_restore(
        label(),
        Target::InPlace,
        &LoadOptions::default(),
        &[asset(streams)],
        &world(),
    );
    let roots: Vec<_> = plan.items.iter().map(|item| item.root.as_path()).collect();
    assert_eq!(roots, [Path::new("/etc"); 4]);
}

#[test]
fn what_is_in_the_way_is_refused() {
    let assets = [asset(vec![stream(StreamKind::File, "/etc/a")])];
    let refusals = |found: Found, change: &dyn Fn(&mut Observations)| {
        let mut world = world();
        world.found.insert("/etc/a".into(), found);
        change(&mut world);
        plan_restore(
            label(),
            Target::InPlace,
            &LoadOptions::default(),
            &assets,
            &world,
        )
        .refusals
    };
    assert_eq!(refusals(found(StreamKind::File), &|_| {}).len(), 0);
    assert_eq!(refusals(found(StreamKind::Symlink), &|_| {}).len(), 0);
    assert_eq!(refusals(found(StreamKind::Directory), &|_| {}).len(), 1);
    assert_eq!(
        refusals(found(StreamKind::File), &|world| world.is_root = false).len(),
        1
    );
    let mut open = found(StreamKind::File);
    open.in_use = Some("process 1".into());
    assert_eq!(refusals(open, &|_| {}).len(), 1);
    let full = |world: &mut Observations| {
        world.free_bytes.insert("/etc".into(), 9);
    };
    assert_eq!(refusals(found(StreamKind::File), &full).len(), 1);
}

fn dumped() -> RestoreAsset {
    let mut dumped = asset(vec![
        stream(StreamKind::Dump, "/ca%2F1/schema.dump"),
        stream(StreamKind::Dump, "/ca%2F1/data/public.t.copy"),
        stream(StreamKind::Dump, "/globals.sql"),
    ]);
    dumped.name = "db".into();
    dumped
}

fn with_server(database: Option<(&str, u64)>) -> Observations {
    let mut world = world();
    let mut seen = ServerSeen {
        server: "PostgreSQL 15.8".into(),
        ..ServerSeen::default()
    };
    if let Some((name, sessions)) = database {
        let found = DatabaseSeen {
            size_bytes: 1,
            sessions,
        };
        seen.databases.insert(name.into(), found);
    }
    world.servers.insert("db".into(), Ok(seen));
    world
}

#[test]
fn a_dump_goes_into_its_server_or_into_files() {
    let options = LoadOptions::default();
    let assets = [dumped()];
    let world = with_server(Some(("ca/1", 2)));
    let plan = plan_restore(label(), Target::InPlace, &options, &assets, &world);
    assert_eq!(plan.refusals, Vec::<String>::new());
    assert_eq!((plan.notes.len(), plan.passing.len()), (1, 1), "{plan:?}");
    assert!(plan.items.is_empty() && plan.replaces_anything());
    assert_eq!(plan.databases[0].name, "ca/1");
    assert_eq!(plan.databases[0].size_bytes, 20);
    assert!(plan.new_database(99).len() <= 63);

    let target = Target::Directory("/restore".into());
    let plan = plan_restore(label(), target, &options, &assets, &world);
    assert_eq!((plan.items.len(), plan.databases.len()), (3, 0));

    let target = |name: &str| Target::Database(name.into());
    let plan = plan_restore(label(), target("look"), &options, &assets, &world);
    assert_eq!(plan.databases[0].name, "look");
    assert!(plan.refusals.is_empty() && !plan.replaces_anything());
    let plan = plan_restore(label(), target("ca/1"), &options, &assets, &world);
    assert_eq!(plan.refusals.len(), 1, "{:?}", plan.refusals);
}

#[test]
fn what_a_server_cannot_take_is_refused() {
    let refusals = |target: Target, options: &LoadOptions, world: &Observations| {
        plan_restore(label(), target, options, &[dumped()], world).refusals
    };
    let none = LoadOptions::default();
    assert_eq!(refusals(Target::InPlace, &none, &world()).len(), 1);
    let mut away = world();
    away.servers.insert("db".into(), Err("no answer".into()));
    assert_eq!(
        refusals(Target::InPlace, &none, &away),
        ["asset db: no answer"]
    );
    let one = LoadOptions {
        tables: ["public.t".to_owned()].into(),
        ..LoadOptions::default()
    };
    assert_eq!(refusals(Target::InPlace, &one, &with_server(None)).len(), 1);
    let look = Target::Database("look".into());
    assert_eq!(refusals(look.clone(), &one, &with_server(None)).len(), 0);
    let files = [asset(vec![stream(StreamKind::File, "/etc/a")])];
    let plan = plan_restore(label(), look, &none, &files, &world());
    assert_eq!(plan.refusals.len(), 2, "{:?}", plan.refusals);
}

fn with_token(seen: Result<TokenSeen, String>) -> (RestoreAsset, Observations) {
    let mut keys = asset(vec![
        stream(StreamKind::Dump, "/ca/private-key.01.root.wrapped"),
        stream(StreamKind::Dump, "/ca/objects.json"),
    ]);
    keys.name = "hsm".into();
    let mut world = world();
    world.tokens.insert("hsm".into(), seen);
    (keys, world)
}

fn seen(stream: &str, is_there: bool) -> TokenSeen {
    let object = TokenObject {
        stream: stream.into(),
        what: "private key".into(),
        about: serde_json::Value::Null,
    };
    TokenSeen {
        token: "token ca".into(),
        objects: vec![(object, is_there)],
        ..TokenSeen::default()
    }
}

#[test]
fn objects_go_into_a_token_or_into_files() {
    let options = LoadOptions::default();
    let mut looked = seen("/ca/private-key.01.root.wrapped", false);
    looked.missing.push("private key \"tls\" is nowhere".into());
    let (keys, world) = with_token(Ok(looked));
    let assets = [keys];
    let plan = plan_restore(label(), Target::InPlace, &options, &assets, &world);
    assert_eq!(plan.refusals, Vec::<String>::new());
    assert!(plan.items.is_empty() && plan.databases.is_empty());
    assert!(!plan.replaces_anything());
    let [token] = plan.tokens.as_slice() else {
        panic!("{:?}", plan.tokens);
    };
    assert_eq!(token.objects[0].size_bytes, 10);
    assert!(!token.objects[0].is_there);
    assert!(
        plan.warnings[0].contains("is nowhere"),
        "{:?}",
        plan.warnings
    );

    let target = Target::Directory("/restore".into());
    let plan = plan_restore(label(), target, &options, &assets, &world);
    assert_eq!((plan.items.len(), plan.tokens.len()), (2, 0));

    let target = Target::Database("look".into());
    let plan = plan_restore(label(), target, &options, &assets, &world);
    assert!(plan.refusals[0].contains("keys do not go into a database"));
}

#[test]
fn what_a_token_cannot_take_is_refused() {
    let none = LoadOptions::default();
    let refusals = |seen, options: &LoadOptions| {
        let (keys, world) = with_token(seen);
        plan_restore(label(), Target::InPlace, options, &[keys], &world).refusals
    };
    let path = "/ca/private-key.01.root.wrapped";
    assert_eq!(
        refusals(Err("no token".into()), &none),
        ["asset hsm: no token"]
    );
    let elsewhere = seen("/ca/other", false);
    assert_eq!(refusals(Ok(elsewhere), &none).len(), 1);
    let mut refusing = seen(path, false);
    refusing.refusals.push("another key".into());
    assert_eq!(refusals(Ok(refusing), &none), ["asset hsm: another key"]);
    let (mut long, there) = with_token(Ok(seen(path, false)));
    long.streams[0].size = Some(OBJECT_MAX + 1);
    let plan = plan_restore(label(), Target::InPlace, &none, &[long], &there);
    assert_eq!(plan.refusals.len(), 1, "{:?}", plan.refusals);

    let other = LoadOptions {
        token: Some(crate::source::server::OtherToken {
            uri: "pkcs11:token=new".into(),
            pin_file: None,
        }),
        ..LoadOptions::default()
    };
    assert_eq!(refusals(Ok(seen(path, true)), &other), Vec::<String>::new());
    let files = [asset(vec![stream(StreamKind::File, "/etc/a")])];
    let plan = plan_restore(label(), Target::InPlace, &other, &files, &world());
    assert_eq!(plan.refusals.len(), 1, "{:?}", plan.refusals);
}
