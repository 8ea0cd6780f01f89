//! Encrypted keys and their passwords, from outside.

use crate::fixture::{Host, must, write};
use crate::terminal::typed;

const PASSWORD: &str = "canary-password-8c1d77e0a4f2";

/// A host whose CA key is encrypted, with `lines` in the asset of the key.
fn configure(host: &Host, lines: &str) {
    let pass = host.text("ca/pass/ca.key.pass");
    host.configure(&format!(
        "[asset.pass]\nsource = \"files\"\nclass = \"secret\"\npaths = [\"{pass}\"]\n"
    ));
    let file = host.path("host/strongroom.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let class = "class = \"key\"\n";
    let keys = format!("{class}key_password_file = \"{pass}\"\n{lines}\n");
    assert!(text.contains(class));
    write(&file, text.replace(class, &keys));
}

fn host() -> Host {
    let host = Host::without_repositories();
    host.learn_secret(PASSWORD);
    let (key, plain) = (host.text("ca/private/ca.key.pem"), host.text("plain"));
    std::fs::rename(&key, &plain).expect("renames");
    write(&host.path("ca/pass/ca.key.pass"), format!("{PASSWORD}\n"));
    must("chmod", &["-R", "go=", &host.text("ca/pass")]);
    let pass = format!("file:{}", host.text("ca/pass/ca.key.pass"));
    must(
        "openssl",
        &[
            "pkcs8", "-topk8", "-in", &plain, "-out", &key, "-passout", &pass,
        ],
    );
    host
}

const REASON: &str = "allow_shared_password = true\nshared_password_reason = \"a test\"";

#[test]
fn a_key_and_its_password_for_one_identity_are_refused() {
    let host = host();
    configure(&host, "");
    host.run(&["check"])
        .exits(2)
        .says("one identity opens the keys and their password")
        .says("allow_shared_password");
}

#[test]
fn an_encrypted_key_is_proved_and_comes_back() {
    let host = host();
    configure(&host, REASON);
    host.ok(&["init"]);
    let label = host.backup();
    host.run(&["check"])
        .says("ca-key: the key signs what its certificate verifies")
        .says("ca-key: the password of its keys is in asset \"pass\"");
    host.restore_to(&label, "out").exits(0);

    write(&host.path("ca/pass/ca.key.pass"), "another one\n");
    host.run(&["check"])
        .exits(3)
        .says("the password does not open it");
    host.run(&["backup"])
        .exits(3)
        .says("the password does not open it");
}

#[test]
fn a_password_is_asked_for_where_no_file_has_it() {
    let host = host();
    configure(&host, "");
    let file = host.path("host/strongroom.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let in_file = format!(
        "key_password_file = \"{}\"",
        host.text("ca/pass/ca.key.pass")
    );
    write(&file, text.replace(&in_file, "key_password = \"ask\""));
    host.ok(&["init"]);

    // Without a terminal nobody can be asked; the key is taken along, and that it was not proved is said.
    host.run(&["backup"])
        .exits(0)
        .says("whether it belongs to the certificate")
        .says("its password was not given: there is no terminal to ask for it");

    let credentials = host.path("credentials");
    let with_credential = |arguments: &[&str], password: &str| {
        let credential = credentials.join("strongroom-key-password-ca-key");
        write(&credential, password);
        must("chmod", &["600", &credential.to_string_lossy()]);
        let mut command = host.command(arguments);
        host.finish(command.env("CREDENTIALS_DIRECTORY", &credentials))
    };
    with_credential(&["check"], PASSWORD)
        .says("ca-key: the key signs what its certificate verifies");
    with_credential(&["backup"], PASSWORD).exits(0);
    with_credential(&["backup"], "another one")
        .exits(3)
        .says("does not open it");

    // At a terminal, the second time rightly.
    let lines = ["another one".to_owned(), PASSWORD.to_owned()];
    let (status, said) = typed(&host, &["backup"], &lines);
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("Enter the password of the private key"),
        "{said}"
    );
    assert!(
        said.contains("Enter another password of the private key"),
        "{said}"
    );
    assert!(
        !said.contains(PASSWORD) && !said.contains("another one"),
        "{said}"
    );
}

#[test]
fn a_password_that_no_asset_takes_along_is_told() {
    let host = host();
    configure(&host, REASON);
    let file = host.path("host/strongroom.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let elsewhere = host.text("ca/private/token");
    let paths = format!("paths = [\"{}\"]", host.text("ca/pass/ca.key.pass"));
    write(
        &file,
        text.replace(&paths, &format!("paths = [\"{elsewhere}\"]")),
    );
    host.ok(&["init"]);
    host.run(&["check"])
        .exits(3)
        .says("[key-password-covered]")
        .says("no asset of class secret");
}
