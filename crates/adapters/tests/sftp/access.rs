//! Host keys and logins: nothing is accepted unseen, and each refusal says what to do.

use std::time::Duration;

use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Refusal, StorageError};

use super::place::{create, open, server, sftp};

fn refusal(settings: &strongroom_adapters::storage::StorageSettings) -> Refusal {
    let asked = open(settings).and_then(|storage| storage.stat(&ObjectName::repository(1)));
    match asked {
        Err(StorageError::Refused(refusal)) => *refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_host_key_that_is_not_the_pinned_one_is_refused() {
    let name = "access::a_host_key_that_is_not_the_pinned_one_is_refused";
    let Some(server) = server(name, "") else {
        return;
    };
    let mut settings = server.here("r");
    create(&settings);
    sftp(&mut settings).host_key = Some(server.sshd.strange_host_key().expect("a key"));
    let refused = refusal(&settings);
    assert!(refused.why.contains("another host key"), "{refused}");
    assert!(!refused.why.contains("strongroom-host-key-"), "{refused}");
    assert!(!refused.why.contains("remove with"), "{refused}");
    assert!(
        refused.hint.contains("known_hosts or host_key"),
        "{}",
        refused.hint
    );

    // An empty file of known hosts: unknown, and it stays unknown.
    let known = server.path("known hosts");
    std::fs::write(&known, "").expect("writes");
    let place = sftp(&mut settings);
    place.host_key = None;
    place.known_hosts = Some(known.clone());
    let refused = refusal(&settings);
    assert!(refused.why.contains("is not known"), "{refused}");
    assert_eq!(std::fs::read(&known).expect("reads"), b"");

    let address = server.sshd.address();
    let key = server.sshd.host_key().expect("a key");
    let line = format!("[{}]:{} {key}\n", address.ip(), address.port());
    std::fs::write(&known, line).expect("writes");
    let storage = open(&settings).expect("opens");
    storage
        .stat(&ObjectName::repository(1))
        .expect("is known now");
}

#[test]
fn keys_that_do_not_fit_are_told_apart() {
    let Some(server) = server("access::keys_that_do_not_fit_are_told_apart", "") else {
        return;
    };
    let mut settings = server.here("r");
    create(&settings);
    settings.credentials.file = Some(server.sshd.strange_key());
    let refused = refusal(&settings);
    assert!(refused.why.contains("knows none of the keys"), "{refused}");
    assert!(refused.hint.contains("authorized_keys"), "{}", refused.hint);

    settings.credentials.file = Some(server.path("no such key"));
    let refused = refusal(&settings);
    assert!(
        refused.why.contains("private key is not there"),
        "{refused}"
    );

    let closed = server.path("closed");
    std::fs::copy(server.sshd.key(), &closed).expect("copies");
    server.sshd.close_key(&closed).expect("sets a passphrase");
    settings.credentials.file = Some(closed);
    let refused = refusal(&settings);
    assert!(refused.why.contains("has a passphrase"), "{refused}");
    assert!(refused.hint.contains("ssh-keygen -p"), "{}", refused.hint);

    let open_key = server.path("open");
    std::fs::copy(server.sshd.key(), &open_key).expect("copies");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&open_key, mode).expect("sets");
    settings.credentials.file = Some(open_key);
    let refused = refusal(&settings);
    assert!(refused.why.contains("read by others"), "{refused}");

    settings.credentials.file = Some(server.path("a%h"));
    let error = open(&settings).err().expect("is refused");
    assert!(matches!(error, StorageError::Settings { .. }), "{error:?}");
}

#[test]
fn a_directory_that_is_not_there_is_made_by_create_only() {
    let name = "access::a_directory_that_is_not_there_is_made_by_create_only";
    let Some(server) = server(name, "") else {
        return;
    };
    let settings = server.here("a/b/c");
    let asked = || open(&settings).and_then(|storage| storage.stat(&ObjectName::repository(1)));
    let Err(StorageError::Unusable { source, .. }) = asked() else {
        panic!("not told to be absent");
    };
    let why = source.to_string();
    assert!(why.contains("there is no directory"), "{why}");
    assert!(!server.path("a").exists());
    let storage = create(&settings);
    assert!(server.path("a/b/c").is_dir());
    std::fs::remove_dir(server.path("a/b/c")).expect("removes");
    let error = storage
        .create(&ObjectName::repository(1), b"{}")
        .expect_err("is gone");
    assert!(matches!(error, StorageError::Refused(_)), "{error:?}");
    std::fs::write(server.path("a/b/c"), "a file").expect("writes");
    let Err(StorageError::Unusable { source, .. }) = asked() else {
        panic!("not told to be absent");
    };
    let why = source.to_string();
    assert!(why.contains("is no directory"), "{why}");
}

#[test]
fn a_name_that_cannot_be_resolved_is_told() {
    let Some(server) = server("access::a_name_that_cannot_be_resolved_is_told", "") else {
        return;
    };
    let mut settings = server.here("r");
    settings.limits.patience = Duration::from_secs(1);
    sftp(&mut settings).host = "no-such-host.invalid".to_owned();
    let storage = open(&settings).expect("opens");
    let error = storage
        .stat(&ObjectName::repository(1))
        .expect_err("is not there");
    let text = strongroom_core::error_chain(&error);
    assert!(matches!(error, StorageError::Unreachable(_)), "{text}");
    assert!(text.contains("no-such-host.invalid"), "{text}");
}
