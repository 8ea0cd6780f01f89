//! The password file of encrypted keys: where it may be said, and where it may go.

use super::*;

const CERTIFICATE: &str = "certificate = \"../example/ca.cert.pem\"";

/// The example with a password file, and an asset for that with `paths`; the third repository is for it.
fn with_password(paths: &str, repository: &str, recipient: &str, extra: &str) -> String {
    let text = example().replace(
        CERTIFICATE,
        &format!("{CERTIFICATE}\nkey_password_file = \"ca.pass\"\n{extra}"),
    );
    let text = text.replace(
        "class = \"key\"",
        "class = \"key\"\nrepository = \"keysafe\"",
    );
    format!(
        "{text}\n[repository.passwords]\nurl = \"file:passwords\"\nrecipients = [\"{recipient}\"]\naccepts = [\"secret\"]\n\
         [asset.pass]\nsource = \"files\"\nclass = \"secret\"\nrepository = \"{repository}\"\npaths = {paths}\n"
    )
}

/// The recipient of a third party.
fn third() -> String {
    age::x25519::Identity::generate().to_public().to_string()
}

#[test]
fn a_password_file_is_read() {
    let config = parse(&with_password("[\"ca.pass\"]", "passwords", &third(), "")).expect("valid");
    let key = config.asset("ca-key").expect("there");
    let Settings::Files {
        key_password_file, ..
    } = &key.settings
    else {
        panic!("files");
    };
    assert_eq!(
        key_password_file.as_deref(),
        Some(Path::new("/etc/s/ca.pass"))
    );
    let covers = |name: &str| {
        let asset = config.asset(name).expect("there");
        asset.settings.covers(Path::new("/etc/s/ca.pass"))
    };
    assert!(covers("pass") && !covers("ca-key") && !covers("database"));
}

#[test]
fn one_identity_does_not_open_a_key_and_its_password() {
    let message = |paths: &str, repository: &str, recipient: &str| {
        let found = faults(&with_password(paths, repository, recipient, ""));
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    };
    let begin = "asset \"ca-key\": one identity opens the keys and their password: \"key_password_file\" goes with asset \"pass\"";
    let other = third();
    for paths in [
        "[\"ca.pass\"]",
        "[\"*.pass\"]",
        "[\"/etc/s/\"]",
        "[\"/etc/**\"]",
    ] {
        let same = message(paths, "keysafe", &other);
        let wanted = format!("{begin} to repository \"keysafe\" like the keys");
        assert!(same.ends_with(&wanted), "{paths}: {same}");
    }
    let shared = message("[\"ca.pass\"]", "passwords", B);
    let wanted = format!(
        "{begin} to repository \"passwords\", which has a recipient of \"keysafe\" with the keys"
    );
    assert!(shared.ends_with(&wanted), "{shared}");

    // Elsewhere, or excluded, it is not the business of the configuration.
    for paths in ["[\"other.pass\"]", "[\"/etc/s\"]\nexclude = [\"*.pass\"]"] {
        assert!(parse(&with_password(paths, "keysafe", &other, "")).is_ok());
    }
    let reason = "allow_shared_password = true\nshared_password_reason = \"two people hold it\"";
    let config = parse(&with_password("[\"ca.pass\"]", "keysafe", &other, reason));
    let config = config.expect("allowed");
    let key = config.asset("ca-key").expect("there");
    let Settings::Files {
        shared_password_reason,
        ..
    } = &key.settings
    else {
        panic!("files");
    };
    assert_eq!(
        shared_password_reason.as_deref(),
        Some("two people hold it")
    );
}

#[test]
fn a_password_that_is_redirected_to_the_keys_is_refused() {
    let text = |recipient: &str, to: &str, paths: &str| {
        let text = with_password("[\"other\"]", "passwords", recipient, "");
        format!(
            "{text}[asset.etc]\nsource = \"files\"\nclass = \"config\"\npaths = {paths}\non_secret = \"redirect\"\nredirect_to = \"{to}\"\n"
        )
    };
    let begin = "asset \"ca-key\": one identity opens the keys and their password: \"key_password_file\" goes with asset \"etc-secrets\" to repository";
    let other = third();
    for (recipient, to, how) in [
        (other.as_str(), "keysafe", "\"keysafe\" like the keys"),
        (
            B,
            "passwords",
            "\"passwords\", which has a recipient of \"keysafe\" with the keys",
        ),
    ] {
        let found = faults(&text(recipient, to, "[\"/etc/s\"]"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].ends_with(&format!("{begin} {how}")),
            "{}",
            found[0]
        );
    }
    assert!(parse(&text(&other, "passwords", "[\"/etc/s\"]")).is_ok());
    assert!(parse(&text(&other, "keysafe", "[\"/etc/t\"]")).is_ok());
    let excluded = "[\"/etc/s\"]\nexclude = [\"*.pass\"]";
    assert!(parse(&text(&other, "keysafe", excluded)).is_ok());
}

#[test]
fn a_key_that_covers_its_own_password_is_refused() {
    let text = with_password("[\"other\"]", "passwords", &third(), "");
    let text = text.replace("[\"ca.key.pem\"]", "[\"ca.key.pem\", \"ca.pass\"]");
    let found = faults(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("goes with asset \"ca-key\" to repository \"keysafe\" like the keys")
    );
}

#[test]
fn keys_about_passwords_that_do_nothing_are_refused() {
    let line = |line: &str| format!("{CERTIFICATE}\n{line}");
    refused(
        CERTIFICATE,
        &line("allow_shared_password = true\nshared_password_reason = \"so\""),
        22,
        "asset \"ca-key\": \"allow_shared_password\" has no effect without \"key_password_file\"",
    );
    refused(
        CERTIFICATE,
        &line("key_password_file = \"p\"\nallow_shared_password = true"),
        23,
        "asset \"ca-key\": \"allow_shared_password\" needs a \"shared_password_reason\"",
    );
    refused(
        CERTIFICATE,
        &line("key_password_file = \"p\"\nshared_password_reason = \"so\""),
        23,
        "asset \"ca-key\": \"shared_password_reason\" has no effect without \"allow_shared_password\"",
    );
    refused(
        CERTIFICATE,
        &line("key_password = \"hunter2\""),
        22,
        "asset \"ca-key\": \"key_password\" is not a password",
    );
    refused(
        CERTIFICATE,
        &line("key_password = \"ask\"\nkey_password_file = \"p\""),
        22,
        "asset \"ca-key\": \"key_password\" and \"key_password_file\" exclude each other",
    );
    let text = example().replace("class = \"key\"", "class = \"secret\"");
    let asked = text.replace(CERTIFICATE, "key_password = \"ask\"");
    assert_eq!(
        faults(&asked),
        ["21: asset \"ca-key\": \"key_password\" belongs to a key, and the class is \"secret\""]
    );
    let text = text.replace(CERTIFICATE, "key_password_file = \"p\"");
    assert_eq!(
        faults(&text),
        [
            "21: asset \"ca-key\": \"key_password_file\" belongs to a key, and the class is \"secret\""
        ]
    );
}
