//! The demonstration's authority from its first day to its last, and every way to tamper with it.

use std::path::Path;

use rusqlite::Connection;
use strongroom_core::clock::FixedClock;

use super::proof::Proof;
use super::{Authority, Census, DemoError, RevocationReason, destroy, prove};

const NOON: &str = "2026-03-01T12:00:00Z";

fn clock() -> FixedClock {
    FixedClock::new(NOON.parse().unwrap())
}

/// An authority with ten certificates, three of them revoked, and CRL number 2.
fn grown(dir: &Path, clock: &FixedClock) {
    let mut authority = Authority::create(dir, clock).unwrap();
    authority.issue(10).unwrap();
    authority
        .revoke(3, RevocationReason::KeyCompromise)
        .unwrap();
    assert_eq!(authority.publish_crl().unwrap(), 2);
}

fn proof_after(tamper: impl FnOnce(&Path)) -> Proof {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    grown(dir.path(), &clock);
    assert!(prove(dir.path(), &clock).unwrap().holds());
    tamper(dir.path());
    prove(dir.path(), &clock).unwrap()
}

#[track_caller]
fn assert_fails(proof: &Proof, expected: &str) {
    assert!(!proof.holds());
    assert!(
        proof
            .failures
            .iter()
            .any(|failure| failure.contains(expected)),
        "{expected:?} is not in {:#?}",
        proof.failures
    );
}

fn execute(dir: &Path, sql: &str) {
    let connection = Connection::open(dir.join("var/ca.sqlite3")).unwrap();
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    strongroom_core::private_file::replace(path, &bytes).unwrap();
}

#[test]
fn an_authority_grows_and_proves_itself() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut authority = Authority::create(dir.path(), &clock).unwrap();
    let serials = authority.issue(200).unwrap();
    let revoked = authority.revoke(5, RevocationReason::Superseded).unwrap();
    assert_eq!(revoked, serials[..5]);
    assert!(
        serials
            .iter()
            .all(|serial| serial.len() == 32 && serial.as_str() < "8")
    );
    assert_eq!(authority.publish_crl().unwrap(), 2);

    let census: Census = authority.census().unwrap();
    assert_eq!(
        (census.certificates, census.valid, census.revoked),
        (200, 195, 5)
    );
    assert_eq!(census.crl_number, 2);
    assert_eq!(census.newest_serial.as_ref(), serials.last());
    assert_eq!(census.audit_lines, 1 + 1 + 200 + 5 + 1);

    let proof = prove(dir.path(), &clock).unwrap();
    assert!(proof.holds(), "{:#?}", proof.failures);
    assert_eq!(proof.shown.len(), 10, "{:#?}", proof.shown);

    drop(authority);
    let mut names: Vec<_> = std::fs::read_dir(dir.path().join("var"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["ca.sqlite3", "crl", "log"], "no WAL is left behind");
}

#[test]
fn an_authority_is_the_same_after_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    grown(dir.path(), &clock);
    let mut authority = Authority::open(dir.path(), &clock).unwrap();
    authority.issue(1).unwrap();
    assert_eq!(authority.publish_crl().unwrap(), 3);
    assert_eq!(authority.publish_crl().unwrap(), 4);
    assert!(prove(dir.path(), &clock).unwrap().holds());
}

#[test]
fn the_database_is_in_wal_mode() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let _authority = Authority::create(dir.path(), &clock).unwrap();
    assert!(dir.path().join("var/ca.sqlite3-wal").exists());
}

#[test]
fn create_never_writes_over_an_authority() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    grown(dir.path(), &clock);
    let again = Authority::create(dir.path(), &clock).map(|_| ());
    assert!(matches!(again, Err(DemoError::Exists { .. })), "{again:?}");
}

#[test]
fn an_expired_certificate_leaves_the_crl() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    grown(dir.path(), &clock);
    clock.set("2026-09-01T12:00:00Z".parse().unwrap());
    assert!(
        prove(dir.path(), &clock)
            .unwrap()
            .shown
            .iter()
            .any(|shown| {
                shown.contains("lists 3 revoked")
                    && shown.contains("was good until 2026-03-02T12:00:00Z")
            })
    );
    let mut authority = Authority::open(dir.path(), &clock).unwrap();
    authority.publish_crl().unwrap();
    let proof = prove(dir.path(), &clock).unwrap();
    assert!(proof.holds(), "{:#?}", proof.failures);
    assert!(
        proof
            .shown
            .iter()
            .any(|shown| shown.contains("lists 0 revoked"))
    );
    assert!(
        authority
            .revoke(1, RevocationReason::Superseded)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_full_crl_never_removes() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut authority = Authority::create(dir.path(), &clock).unwrap();
    let revoked = authority.revoke(1, RevocationReason::RemoveFromCrl);
    assert!(matches!(revoked, Err(DemoError::Reason { code: 8 })));
}

#[test]
fn a_changed_row_is_noticed() {
    let proof = proof_after(|dir| {
        execute(dir, "UPDATE certificates SET serial = 'ab' WHERE id = 7");
    });
    assert_fails(&proof, "Certificate ab differs from its column serial");
    assert_fails(
        &proof,
        "The database has lost an event of the log: issuance of",
    );
}

#[test]
fn a_changed_certificate_is_noticed() {
    let proof = proof_after(|dir| {
        execute(
            dir,
            "UPDATE certificates SET der = CAST(substr(der, 1, length(der) - 1) || \
             iif(substr(der, -1) = x'00', x'01', x'00') AS BLOB) WHERE id = 7",
        );
    });
    assert_fails(&proof, "The signature on certificate");
}

#[test]
fn a_lost_row_is_noticed() {
    let proof = proof_after(|dir| execute(dir, "DELETE FROM certificates WHERE id = 10"));
    assert_fails(
        &proof,
        "The database has lost an event of the log: issuance of",
    );
}

#[test]
fn an_undone_revocation_is_noticed() {
    let proof = proof_after(|dir| {
        execute(
            dir,
            "UPDATE certificates SET status = 'valid', revoked_at = NULL, reason = NULL \
             WHERE id = 1",
        );
    });
    assert_fails(&proof, "which the database has not revoked");
    assert_fails(&proof, "revocation of certificate");
}

#[test]
fn a_changed_revocation_is_noticed() {
    for change in ["reason = 4", "revoked_at = '2026-02-01T12:00:00Z'"] {
        let proof = proof_after(|dir| {
            execute(
                dir,
                &format!("UPDATE certificates SET {change} WHERE id = 1"),
            );
        });
        assert_fails(
            &proof,
            "for another reason or at another time than the database",
        );
    }
}

#[test]
fn a_lost_log_is_never_begun_anew() {
    let proof = proof_after(|dir| {
        std::fs::remove_file(dir.join("var/log/audit.jsonl")).unwrap();
        assert!(Authority::open(dir, &clock()).unwrap().issue(1).is_err());
    });
    assert_fails(&proof, "audit.jsonl: No such file");
    assert!(
        proof
            .shown
            .iter()
            .any(|shown| shown.starts_with("All 10 certificates"))
    );
}

#[test]
fn what_cannot_be_looked_at_is_told() {
    let proof = proof_after(|dir| std::fs::remove_file(dir.join("etc/ca.cert.pem")).unwrap());
    assert_fails(&proof, "ca.cert.pem: No such file");
    assert_fails(&proof, "No key, certificate or CRL could be verified");
    let proof = proof_after(|dir| std::fs::remove_file(dir.join("var/ca.sqlite3")).unwrap());
    assert_fails(&proof, "Could not open the certificate database");
    assert!(
        proof
            .shown
            .iter()
            .any(|shown| shown.contains("one unbroken chain"))
    );
}

#[test]
fn a_changed_crl_is_noticed() {
    let proof = proof_after(|dir| {
        edit(&dir.join("var/crl/ca.crl"), |der| {
            *der.last_mut().unwrap() ^= 1;
        });
    });
    assert_fails(&proof, "The signature on the CRL does not verify");
}

#[test]
fn an_older_crl_is_noticed() {
    let proof = proof_after(|dir| {
        let crl = std::fs::read(dir.join("var/crl/ca.crl")).unwrap();
        Authority::open(dir, &clock())
            .unwrap()
            .publish_crl()
            .unwrap();
        edit(&dir.join("var/crl/ca.crl"), |der| *der = crl);
    });
    assert_fails(&proof, "has number 2, and is not number 3");
}

#[test]
fn a_changed_audit_log_is_noticed() {
    let proof = proof_after(|dir| {
        edit(&dir.join("var/log/audit.jsonl"), |log| log[20] ^= 1);
    });
    assert_fails(&proof, "Line 2 of the audit log does not carry the digest");
}

#[test]
fn a_cut_audit_log_is_noticed() {
    let torn = proof_after(|dir| {
        edit(&dir.join("var/log/audit.jsonl"), |log| {
            log.truncate(log.len() - 1);
        });
    });
    assert_fails(&torn, "was torn off");
    let cut = proof_after(|dir| {
        edit(&dir.join("var/log/audit.jsonl"), |log| {
            let end = log[..log.len() - 1].iter().rposition(|byte| *byte == b'\n');
            log.truncate(end.unwrap() + 1);
        });
    });
    assert_fails(
        &cut,
        "The audit log lacks an event of the database: publication of CRL 2",
    );
}

#[test]
fn a_wrong_or_open_key_is_noticed() {
    let wrong = proof_after(|dir| {
        let other = std::fs::read(dir.join("etc/root.key.pem")).unwrap();
        edit(&dir.join("etc/ca.key.pem"), |key| *key = other);
    });
    assert_fails(&wrong, "signed with the issuing CA's key does not verify");
    let wrong = proof_after(|dir| {
        let other = std::fs::read(dir.join("etc/ca.key.pem")).unwrap();
        edit(&dir.join("etc/root.key.pem"), |key| *key = other);
    });
    assert_fails(&wrong, "root key does not belong to the root certificate");
    let missing = proof_after(|dir| std::fs::remove_file(dir.join("etc/ca.key.pem")).unwrap());
    assert_fails(&missing, "ca.key.pem: No such file");
    let open = proof_after(|dir| {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(dir.join("etc/ca.key.pem"), mode).unwrap();
    });
    assert_fails(&open, "is open to others: its mode is 644");
}

#[test]
fn a_changed_token_is_noticed() {
    let proof = proof_after(|dir| edit(&dir.join("etc/api-token"), |token| token[0] = b'!'));
    assert_fails(&proof, "The API token is not the one");
}

#[test]
fn destroy_deletes_its_own_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    assert!(matches!(
        destroy(dir.path()),
        Err(DemoError::Foreign { .. })
    ));
    assert!(dir.path().join("etc").exists());
    std::fs::remove_dir(dir.path().join("etc")).unwrap();

    grown(dir.path(), &clock);
    let marker = dir.path().join(".strongroom-demo");
    edit(&marker, |text| text.push(b'!'));
    assert!(matches!(
        destroy(dir.path()),
        Err(DemoError::Foreign { .. })
    ));
    edit(&marker, |text| text.truncate(text.len() - 1));

    let bystander = dir.path().join("bystander");
    strongroom_core::private_file::create_new(&bystander).unwrap();
    destroy(dir.path()).unwrap();
    destroy(dir.path()).unwrap();
    assert!(!dir.path().join("etc").exists() && !dir.path().join("var").exists());
    assert!(bystander.exists());
    assert!(prove(dir.path(), &clock).is_err());
    grown(dir.path(), &clock);
}
