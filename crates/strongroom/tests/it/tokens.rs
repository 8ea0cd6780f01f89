//! A CA whose keys are in a token: the token is lost, and its keys come back into another one.

mod undo;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strongroom_testkit::servers::softhsm::{PIN, SoftHsm};
use strongroom_testkit::skip;

use crate::fixture::{Host, Outcome, must};

/// A host with a token.
struct Place {
    host: Host,
    hsm: SoftHsm,
    serial: String,
}

impl Place {
    /// With these lines at the end of the asset of the token; none where SoftHSM2 is not installed.
    fn new(test: &str, lines: impl FnOnce(&SoftHsm) -> String) -> Option<Self> {
        let Some(module) = SoftHsm::module() else {
            skip(test, "softhsm2 or opensc is not installed");
            return None;
        };
        let (host, hsm) = (Host::without_repositories(), SoftHsm::new());
        let serial = hsm.authority("ca");
        let pin = hsm.pin_file("pin", PIN);
        host.configure(&format!(
            "[asset.hsm]\nsource = \"pkcs11\"\nclass = \"key\"\nmodule = \"{}\"\ntoken = \"ca\"\npin_file = \"{}\"\n{}\n",
            module.display(),
            pin.display(),
            lines(&hsm)
        ));
        host.learn_secrets();
        host.learn_secret(PIN);
        let place = Self { host, hsm, serial };
        place.run(&["init"]).exits(0);
        Some(place)
    }

    fn wrapped(test: &str) -> Option<Self> {
        Self::new(test, |_| {
            "export = \"wrapped\"\nwrapping_key = \"kek\"\nwrapping_key_custody = \"the bank's safe\"".to_owned()
        })
    }

    /// With an RSA wrapping key, of which the token has the public half alone.
    fn wrapped_with_rsa(test: &str) -> Option<Self> {
        Self::new(test, |hsm| {
            hsm.tool(
                "ca",
                &["--delete-object", "--type", "secrkey", "--id", "7777"],
            );
            hsm.rsa_wrapping_key("ca", "officers", "pubkey");
            "export = \"wrapped\"\nwrapping_key = \"officers\"\nwrapping_key_custody = \"three officers\""
                .to_owned()
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.hsm.command(crate::fixture::PROGRAM);
        self.host.prepare(&mut command, arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.host.finish(&mut self.command(arguments))
    }

    fn opened(&self, arguments: &[&str]) -> Outcome {
        let all = self.host.with_identities(arguments);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.run(&all)
    }

    fn backup(&self) -> String {
        let document = self.run(&["backup", "--json"]).exits(0).document();
        assert_eq!(document["status"], "complete");
        document["label"].as_str().expect("a label").to_owned()
    }

    /// A token with the wrapping key and nothing else.
    fn new_token(&self, label: &str) -> String {
        let serial = self.hsm.init_token(label);
        self.hsm.wrapping_key(label, "kek");
        serial
    }

    /// How many objects the token has.
    fn objects(&self, serial: &str) -> usize {
        let entries = std::fs::read_dir(self.hsm.directory(serial)).expect("reads");
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter(|name| name.ends_with(".object") && name != "token.object")
            .count()
    }

    /// Runs the program, and kills it at some moment, if it does not end before.
    fn kill_when(&self, arguments: &[&str], is_the_moment: impl Fn() -> bool) {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("starts");
        while child.try_wait().expect("waits").is_none() {
            if is_the_moment() {
                child.kill().expect("kills");
                child.wait().expect("ends");
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Lets a stock tool sign with the token, and another verify with the certificate in it.
    fn signs(&self, token: &str, id: &str, mechanism: &str) {
        let file = |name: &str| self.hsm.path(name).to_str().expect("UTF-8").to_owned();
        let (data, digest, signature) = (file("data"), file("digest"), file("signature"));
        let (der, public) = (file("certificate"), file("public"));
        std::fs::write(&data, "to be signed by the CA").expect("writes");
        must(
            "openssl",
            &["dgst", "-sha256", "-binary", "-out", &digest, &data],
        );
        let mut arguments = vec![
            "--sign",
            "--mechanism",
            mechanism,
            "--id",
            id,
            "-o",
            &signature,
        ];
        if mechanism == "ECDSA" {
            arguments.extend(["-i", &digest, "--signature-format", "openssl"]);
        } else {
            arguments.extend(["-i", &data]);
        }
        self.hsm.tool(token, &arguments);
        self.hsm.tool(
            token,
            &["--read-object", "--type", "cert", "--id", id, "-o", &der],
        );
        must(
            "openssl",
            &[
                "x509", "-inform", "DER", "-in", &der, "-pubkey", "-noout", "-out", &public,
            ],
        );
        must(
            "openssl",
            &[
                "dgst",
                "-sha256",
                "-verify",
                &public,
                "-signature",
                &signature,
                &data,
            ],
        );
    }

    /// The objects that a stock tool lists. An empty file, which SoftHSM2 leaves when it is killed as it begins an object, is to it
    /// data without any attribute; nothing can search for it.
    fn listed(&self, token: &str) -> Vec<String> {
        let output = self.hsm.tool(token, &["--list-objects"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut objects: Vec<String> = Vec::new();
        for line in text.lines() {
            match objects.last_mut().filter(|_| line.starts_with(' ')) {
                Some(object) => object.push_str(line),
                None => objects.push(line.to_owned()),
            }
        }
        objects.retain(|object| !object.contains("application:    <empty>"));
        objects
    }
}

#[test]
fn the_keys_of_a_lost_token_come_back_into_another() {
    let test = "tokens::the_keys_of_a_lost_token_come_back_into_another";
    let Some(place) = Place::wrapped(test) else {
        return;
    };
    place.run(&["check"]).says("2 keys proved");
    let first = place.backup();
    let second = place.backup();
    assert_ne!(first, second);
    place
        .opened(&["verify", "--all", "--level", "L4"])
        .exits(0)
        .says("certificates, public keys and data objects are those of the token");
    place.hsm.destroy(&place.serial);
    place
        .run(&["check"])
        .exits(3)
        .says("there is no token pkcs11:token=ca");
    place
        .run(&["backup"])
        .exits(3)
        .says("there is no token pkcs11:token=ca");

    // The token that the configuration means is not there, another one is named.
    place
        .opened(&["restore", &first, "hsm"])
        .exits(4)
        .says("there is no token pkcs11:token=ca");
    let serial = place.new_token("new");
    let pin = place.hsm.path("pin").to_str().expect("UTF-8").to_owned();
    let uri = format!("pkcs11:serial={serial}");
    let other = ["--token", uri.as_str(), "--pin-file", pin.as_str()];
    let restore = |more: &[&str]| {
        let mut arguments = vec!["restore", &first, "hsm"];
        arguments.extend(other);
        arguments.extend(more);
        place.opened(&arguments)
    };
    let plan = restore(&["--json"]).exits(0).document();
    assert_eq!(
        plan["tokens"][0]["objects"].as_array().map(Vec::len),
        Some(6),
        "{plan}"
    );
    let before = place.objects(&serial);
    restore(&[])
        .exits(0)
        .says("creates  private key \"issuing ca\" (id 02)")
        .says("Nothing was changed");
    assert_eq!(place.objects(&serial), before);
    restore(&["--apply"])
        .exits(0)
        .says("private key \"root\" (id 01) signs what certificate \"root\" (id 01) verifies")
        .says(&format!("serial={}", place.serial))
        .says(&format!("becomes pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial={serial};token=new;id=%01"));
    place.signs("new", "01", "SHA256-RSA-PKCS");
    place.signs("new", "02", "ECDSA");
    place.run(&["restore", "--sign-off"]).exits(0);
    let after = place.objects(&serial);
    restore(&["--apply"])
        .exits(0)
        .says("is there: private key")
        .says("Nothing was replaced, so there is nothing to sign off");
    assert_eq!(place.objects(&serial), after, "nothing is made twice");

    // The second backup goes into a token of the old name, as the configuration has it, and that one is backed up again.
    place.new_token("ca");
    place
        .opened(&["restore", &second, "hsm", "--apply"])
        .exits(0);
    place.signs("ca", "02", "ECDSA");
    place.backup();
}

#[test]
fn keys_under_an_rsa_key_come_back_into_another_token() {
    let test = "tokens::keys_under_an_rsa_key_come_back_into_another_token";
    let Some(place) = Place::wrapped_with_rsa(test) else {
        return;
    };
    place
        .run(&["backup"])
        .exits(0)
        .says("(id 01): whether it opens again was not tried");
    let label = place.backup();
    // The history of a key, which a tool shows as its access, does not come back.
    let keys = |token: &str| {
        let objects = place.listed(token).into_iter();
        let shown = objects.map(|object| {
            let (object, _) = object.split_once("Access:").unwrap_or((&object, ""));
            object.to_owned()
        });
        let mut keys: Vec<String> = shown.collect();
        keys.retain(|object| !object.contains("officers"));
        keys.sort();
        keys
    };
    let public = |token: &str, id: &str| {
        let arguments = ["--read-object", "--type", "pubkey", "--id", id];
        place.hsm.tool(token, &arguments).stdout
    };
    let before = (keys("ca"), public("ca", "01"), public("ca", "02"));
    assert_eq!(before.0.len(), 6, "{before:?}");
    place.hsm.destroy(&place.serial);

    let serial = place.hsm.init_token("ca");
    assert_ne!(serial, place.serial);
    let restore = ["restore", &label, "hsm", "--apply"];
    place
        .opened(&restore)
        .exits(4)
        .says("the wrapping key \"officers\" is not in this token")
        .says("three officers");
    place.hsm.rsa_wrapping_key("ca", "officers", "privkey");
    place
        .opened(&restore)
        .exits(0)
        .says("private key \"root\" (id 01) signs what certificate \"root\" (id 01) verifies")
        .says(&format!("serial={serial};token=ca;id=%02"));
    let after = (keys("ca"), public("ca", "01"), public("ca", "02"));
    assert!(after == before, "{:#?} was {:#?}", after.0, before.0);
    place.signs("ca", "01", "SHA256-RSA-PKCS");
    place.signs("ca", "02", "ECDSA");
}

#[test]
fn what_was_wrapped_under_an_rsa_key_is_restored_as_files_and_opened_by_hand() {
    let test = "tokens::what_was_wrapped_under_an_rsa_key_is_restored_as_files_and_opened_by_hand";
    let Some(place) = Place::wrapped_with_rsa(test) else {
        return;
    };
    let label = place.backup();
    place.hsm.destroy(&place.serial);
    let out = place.host.text("out");
    place
        .opened(&["restore", &label, "hsm", "--to-dir", &out, "--apply"])
        .exits(0)
        .says("5 certificates, public keys and data objects are those of the token")
        .says("2 wrapped keys are as they left the token");
    let directory = Path::new(&out).join("hsm/ca");
    let entries = std::fs::read_dir(&directory).expect("reads");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "certificate.01.root.der",
            "certificate.02.issuing%20ca.der",
            "objects.json",
            "private-key.01.root.wrapped",
            "private-key.02.issuing%20ca.wrapped",
            "public-key.01.root.spki.der",
            "public-key.02.issuing%20ca.spki.der",
            "public-key.8888.officers.spki.der",
        ]
    );
    let read = |name: &str| std::fs::read(directory.join(name)).expect("reads");
    let list: serde_json::Value = serde_json::from_slice(&read("objects.json")).expect("JSON");
    let wrapping = &list["wrapping"];
    assert_eq!(wrapping["key_label"], "officers");
    assert_eq!(wrapping["custody"], "three officers");
    assert_eq!(wrapping["form"]["mechanism"], "rsa-aes-key-wrap");
    let first = wrapping["form"]["oaep_bytes"].as_u64().expect("a number");
    let first = usize::try_from(first).expect("is short");
    let hash = wrapping["form"]["hash"].as_str().expect("a name");
    let objects = list["objects"].as_array().expect("a list");
    let key = objects
        .iter()
        .find(|object| object["class"] == "private-key" && object["id"] == "02")
        .expect("is there");
    assert_eq!(key["label"], "issuing ca");
    assert_eq!(key["flags"]["sign"], true);

    // As the guide does it, with stock tools and the wrapping key alone.
    let file = |name: &str| place.hsm.path(name).to_str().expect("UTF-8").to_owned();
    let (oaep, aes, rest) = (file("oaep"), file("aes"), file("rest"));
    let (opened, public) = (file("opened"), file("opened-public"));
    let officers = place.hsm.rsa_wrapping_key_file();
    let officers = officers.to_str().expect("UTF-8");
    let hash = format!("rsa_oaep_md:{hash}");
    for name in ["01.root", "02.issuing%20ca"] {
        let wrapped = read(&format!("private-key.{name}.wrapped"));
        std::fs::write(&oaep, &wrapped[..first]).expect("writes");
        std::fs::write(&rest, &wrapped[first..]).expect("writes");
        let decrypt = [
            "pkeyutl", "-decrypt", "-inkey", officers, "-in", &oaep, "-out", &aes,
        ];
        let padding = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", &hash];
        must("openssl", &[&decrypt[..], &padding[..]].concat());
        let key = std::fs::read(&aes).expect("reads");
        let digits = strongroom_core::format::id::to_hex(&key);
        assert_eq!(digits.len(), 64, "AES-256");
        let unwrap = ["enc", "-d", "-id-aes256-wrap-pad", "-iv", "A65959A6"];
        let files = ["-K", &digits, "-in", &rest, "-out", &opened];
        must("openssl", &[&unwrap[..], &files[..]].concat());
        let convert = ["pkey", "-inform", "DER", "-in", &opened, "-pubout"];
        let to = ["-outform", "DER", "-out", &public];
        must("openssl", &[&convert[..], &to[..]].concat());
        let wanted = read(&format!("public-key.{name}.spki.der"));
        assert!(std::fs::read(&public).expect("reads") == wanted, "{name}");
    }
}

#[test]
fn a_restore_into_a_token_that_is_killed_goes_on_or_back() {
    let test = "tokens::a_restore_into_a_token_that_is_killed_goes_on_or_back";
    let Some(place) = Place::wrapped(test) else {
        return;
    };
    let label = place.backup();
    place.hsm.destroy(&place.serial);
    let mut killed = 0;
    for round in 0..6 {
        let serial = place.new_token("ca");
        // The moment is that at which so many objects are there; rehearsed ones are in no file.
        let wanted = place.objects(&serial) + 1 + round % 5;
        let apply = place
            .host
            .with_identities(&["restore", &label, "hsm", "--apply", "--quiet"]);
        let apply: Vec<&str> = apply.iter().map(String::as_str).collect();
        place.kill_when(&apply, || place.objects(&serial) >= wanted);
        let progress = place.host.path("host/state/restore/progress.jsonl");
        let progress = std::fs::read_to_string(progress).expect("waits for something");
        let is_unfinished = !progress.contains("applied");
        killed += usize::from(is_unfinished);
        if is_unfinished && round % 2 == 0 {
            place.opened(&["restore", "--resume"]).exits(0);
        } else if is_unfinished {
            place.run(&["restore", "--undo"]).exits(0);
            let left = place.listed("ca");
            assert_eq!(left.len(), 1, "round {round}: {left:#?}");
            place
                .opened(&["restore", &label, "hsm", "--apply"])
                .exits(0);
        }
        let there = place.listed("ca");
        assert_eq!(there.len(), 7, "round {round}: {there:#?}");
        place.signs("ca", "01", "SHA256-RSA-PKCS");
        place.run(&["restore", "--sign-off"]).exits(0);
        place.hsm.destroy(&serial);
    }
    assert!(killed > 0, "no kill came in time");
}

#[test]
fn another_key_under_the_same_names_stops_a_restore() {
    let test = "tokens::another_key_under_the_same_names_stops_a_restore";
    let Some(place) = Place::wrapped(test) else {
        return;
    };
    let label = place.backup();
    place.hsm.destroy(&place.serial);
    let serial = place.new_token("ca");
    place.hsm.key("ca", ("02", "other"), "EC:prime256v1", true);
    let before = place.objects(&serial);
    place
        .opened(&["restore", &label, "hsm", "--apply"])
        .exits(4)
        .says("another private key is in the token as \"other\" (id 02)");
    assert_eq!(place.objects(&serial), before);
    assert!(!place.host.path("host/state/restore/plan.json").exists());
}

#[test]
fn an_inventory_without_keys_is_restored_as_far_as_it_goes() {
    let test = "tokens::an_inventory_without_keys_is_restored_as_far_as_it_goes";
    let lines = |_: &SoftHsm| {
        "export = \"inventory\"\nvendor_backup = [\"printf\", \"%s\", \"sealed by the vendor\"]"
            .to_owned()
    };
    let Some(place) = Place::new(test, lines) else {
        return;
    };
    let label = place.backup();
    let out = place.host.text("out");
    place
        .opened(&["restore", &label, "hsm", "--to-dir", &out, "--apply"])
        .exits(0);
    let read = |name: &str| std::fs::read(Path::new(&out).join("hsm/ca").join(name));
    assert_eq!(
        read("vendor-backup").expect("reads"),
        b"sealed by the vendor"
    );
    assert!(read("certificate.01.root.der").is_ok() && read("objects.json").is_ok());
    let names = std::fs::read_dir(Path::new(&out).join("hsm/ca")).expect("reads");
    let mut names = names.map(|name| name.expect("an entry").file_name());
    assert!(!names.any(|name| name.to_string_lossy().contains("private-key")));
    place.hsm.destroy(&place.serial);
    place.new_token("ca");
    place
        .opened(&["restore", &label, "hsm", "--apply"])
        .exits(3)
        .says("private key \"root\" (id 01) is neither in the backup nor in this token")
        .says("the vendor's procedure does that");
}

#[test]
fn the_files_of_a_softhsm_token_come_back() {
    let test = "tokens::the_files_of_a_softhsm_token_come_back";
    let lines = |hsm: &SoftHsm| {
        format!(
            "export = \"softhsm\"\nsofthsm_tokens = \"{}\"",
            hsm.tokens().display()
        )
    };
    let Some(place) = Place::new(test, lines) else {
        return;
    };
    let label = place.backup();
    place.hsm.destroy(&place.serial);
    place
        .opened(&["restore", &label, "hsm", "--apply"])
        .exits(0);
    place.signs("ca", "01", "SHA256-RSA-PKCS");
    place.run(&["check"]).says("2 keys proved");
}

#[test]
fn a_pin_is_asked_of_files_and_credentials_and_never_shown() {
    let test = "tokens::a_pin_is_asked_of_files_and_credentials_and_never_shown";
    let Some(place) = Place::wrapped(test) else {
        return;
    };
    // A PIN in a URI is refused, and not repeated.
    let uri = format!("pkcs11:token=ca?pin-value={PIN}");
    place
        .opened(&["restore", "latest", "hsm", "--token", &uri])
        .exits(2)
        .says("it holds a PIN, which belongs into a file");
    let file = place.host.path("host/strongroom.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let line = format!("pin_file = \"{}\"\n", place.hsm.path("pin").display());
    assert!(text.contains(&line));
    std::fs::write(&file, text.replace(&line, "")).expect("writes");
    // Nobody can be asked, and there is no credential: nothing is tried.
    let setsid = |arguments: &[&str]| {
        let mut command = place.hsm.command("setsid");
        command.arg(crate::fixture::PROGRAM);
        place.host.prepare(&mut command, arguments);
        command
    };
    place
        .host
        .finish(&mut setsid(&["check"]))
        .exits(3)
        .says("no PIN")
        .says("pin_file");
    let credentials: PathBuf = place.host.path("credentials");
    std::fs::create_dir(&credentials).expect("creates");
    let put = |pin: &str| {
        let made = place.hsm.pin_file("credential", pin);
        std::fs::rename(made, credentials.join("strongroom-pin-hsm")).expect("moves");
    };
    put(PIN);
    let mut command = setsid(&["check"]);
    command.env("CREDENTIALS_DIRECTORY", &credentials);
    place.host.finish(&mut command).says("2 keys proved");
    put("0000-wrong-pin");
    place.host.learn_secret("0000-wrong-pin");
    let mut command = setsid(&["backup"]);
    command.env("CREDENTIALS_DIRECTORY", &credentials);
    place
        .host
        .finish(&mut command)
        .exits(3)
        .says("the PIN is wrong, and the token says that few tries may be left; it was tried once");
}
