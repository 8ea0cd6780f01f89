//! What is recorded of a token, and what leaves it.

use strongroom_adapters::source::pkcs11::{Export, VendorBackup};
use strongroom_core::source::Source as _;
use strongroom_testkit::recording_sink::{Moment, RecordingSink};
use strongroom_testkit::servers::softhsm::SoftHsm;

use super::{CUSTODY, Captured, inventory, says, source, wrapped};

#[test]
fn an_inventory_tells_all_and_takes_no_key() {
    SoftHsm::run_again(
        "pkcs11::capture::an_inventory_tells_all_and_takes_no_key",
        |hsm| {
            let serial = hsm.authority("ca");
            hsm.key("ca", ("03", "ed"), "EC:edwards25519", true);
            let captured = Captured::of(&source(hsm, "ca", inventory()));
            assert_eq!(captured.capture.problems, Vec::<String>::new());
            assert_eq!(
                captured.paths(),
                [
                    "/ca/certificate.01.root.der",
                    "/ca/certificate.02.issuing%20ca.der",
                    "/ca/public-key.01.root.spki.der",
                    "/ca/public-key.02.issuing%20ca.spki.der",
                    "/ca/public-key.03.ed.spki.der",
                    "/ca/objects.json",
                ]
            );
            let facts = &captured.capture.facts;
            assert_eq!(facts["token"]["label"], "ca");
            assert_eq!(facts["token"]["serial"], serial.as_str());
            assert_eq!(facts["token"]["model"], "SoftHSM v2");
            assert!(
                facts["token"]["firmware"]
                    .as_str()
                    .is_some_and(|version| !version.is_empty())
            );
            let key = captured.object("private-key", "root");
            assert_eq!(key["algorithm"], "RSA-3072");
            assert_eq!(key["size_bits"], 3072);
            assert_eq!(key["proved"], true);
            for (flag, value) in [
                ("sensitive", true),
                ("extractable", true),
                ("always_sensitive", true),
                ("never_extractable", false),
                ("sign", true),
            ] {
                assert_eq!(key["flags"][flag], value, "{flag}");
            }
            let uri = format!(
                "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial={serial};token=ca;id=%01;object=root;type=private"
            );
            assert_eq!(key["uri"], uri.as_str());
            let certificate = captured.object("certificate", "root");
            assert_eq!(certificate["spki_sha256"], key["spki_sha256"]);
            assert_eq!(certificate["subject"], "CN=root");
            assert_eq!(certificate["proved"], true);
            assert_eq!(
                captured.object("private-key", "issuing ca")["algorithm"],
                "ECDSA P-256"
            );
            assert_eq!(captured.object("private-key", "ed")["algorithm"], "Ed25519");
            assert_eq!(captured.object("private-key", "ed")["proved"], true);
            says(&captured.capture.notes, "4 keys are in the token alone");
            let inspection = source(hsm, "ca", inventory()).inspect().expect("looks");
            assert_eq!(inspection.problems, Vec::<String>::new());
            says(
                &inspection.about.into_iter().collect::<Vec<_>>(),
                "3 keys proved",
            );
        },
    );
}

#[test]
fn wrapped_keys_open_with_the_wrapping_key_alone() {
    SoftHsm::run_again(
        "pkcs11::capture::wrapped_keys_open_with_the_wrapping_key_alone",
        |hsm| {
            hsm.authority("ca");
            let captured = Captured::of(&source(hsm, "ca", wrapped()));
            assert_eq!(captured.capture.problems, Vec::<String>::new());
            says(&captured.capture.notes, CUSTODY);
            assert_eq!(
                captured.capture.facts["wrapping"]["form"]["mechanism"],
                "aes-key-wrap-pad"
            );
            for (name, wanted) in [("01.root", "3072 bit"), ("02.issuing%20ca", "prime256v1")] {
                let wrapped = captured.content(&format!("/ca/private-key.{name}.wrapped"));
                std::fs::write(hsm.path("wrapped"), wrapped).expect("writes");
                // RFC 5649, by OpenSSL, with the wrapping key of the ceremony.
                let opened = std::process::Command::new("openssl")
                    .args(["enc", "-d", "-id-aes256-wrap-pad", "-iv", "A65959A6"])
                    .args(["-K", &"5A".repeat(32), "-in"])
                    .arg(hsm.path("wrapped"))
                    .arg("-out")
                    .arg(hsm.path("opened"))
                    .output()
                    .expect("starts");
                assert!(opened.status.success(), "{opened:?}");
                let shown = std::process::Command::new("openssl")
                    .args(["pkey", "-inform", "DER", "-noout", "-text", "-in"])
                    .arg(hsm.path("opened"))
                    .output()
                    .expect("starts");
                let text = String::from_utf8_lossy(&shown.stdout).into_owned();
                assert!(text.contains(wanted), "{name}: {text}");
            }
        },
    );
}

#[test]
fn an_rsa_key_wraps_what_its_private_half_opens() {
    SoftHsm::run_again(
        "pkcs11::capture::an_rsa_key_wraps_what_its_private_half_opens",
        |hsm| {
            hsm.init_token("ca");
            hsm.key("ca", ("01", "root"), "EC:secp384r1", true);
            // Whoever makes the wrapping key gives it the flags; OpenSC does so for RSA.
            hsm.tool(
                "ca",
                &[
                    "--keypairgen",
                    "--key-type",
                    "rsa:2048",
                    "--id",
                    "aa",
                    "--label",
                    "kek",
                ],
            );
            let captured = Captured::of(&source(hsm, "ca", wrapped()));
            assert_eq!(captured.capture.problems, Vec::<String>::new());
            let form = &captured.capture.facts["wrapping"]["form"];
            assert_eq!(form["mechanism"], "rsa-aes-key-wrap");
            assert_eq!(form["oaep_bytes"], 256);
            let content = captured.content("/ca/private-key.01.root.wrapped");
            assert!(content.len() > 256);
            assert_eq!(
                captured.object("private-key", "root")["algorithm"],
                "ECDSA P-384"
            );
        },
    );
}

#[test]
fn the_files_of_a_softhsm_token_are_its_backup() {
    SoftHsm::run_again(
        "pkcs11::capture::the_files_of_a_softhsm_token_are_its_backup",
        |hsm| {
            let serial = hsm.authority("ca");
            let directory = hsm.directory(&serial);
            let export = || Export::SoftHsm {
                tokens: hsm.tokens(),
            };
            let captured = Captured::of(&source(hsm, "ca", export()));
            assert_eq!(captured.capture.problems, Vec::<String>::new());
            let token = directory.join("token.object");
            assert_eq!(
                captured.content(token.to_str().expect("UTF-8")),
                std::fs::read(&token).expect("reads")
            );
            assert_eq!(captured.object("private-key", "root")["proved"], true);
            // Somebody makes a key while the files are read.
            let sink = RecordingSink::new();
            let configuration = hsm.configuration();
            let mut made = false;
            sink.set_hook(move |moment| {
                if !made && matches!(moment, Moment::Finish { .. }) {
                    made = true;
                    let mut command = std::process::Command::new("pkcs11-tool");
                    command.env("SOFTHSM2_CONF", &configuration);
                    command
                        .arg("--module")
                        .arg(SoftHsm::module().expect("is installed"));
                    command.args(["--token-label", "ca", "--login", "--pin"]);
                    command.arg(strongroom_testkit::servers::softhsm::PIN);
                    command.args(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "99"]);
                    assert!(command.output().expect("starts").status.success());
                }
            });
            let captured = Captured::with(&source(hsm, "ca", export()), &sink).expect("captures");
            says(&captured.capture.problems, "the token was changed while");
        },
    );
}

#[test]
fn the_vendors_backup_is_taken_and_watched() {
    SoftHsm::run_again(
        "pkcs11::capture::the_vendors_backup_is_taken_and_watched",
        |hsm| {
            hsm.authority("ca");
            let vendor = |vendor| source(hsm, "ca", Export::Inventory(vendor));
            let command = |words: &[&str]| VendorBackup {
                command: words.iter().map(|word| (*word).to_owned()).collect(),
                ..VendorBackup::default()
            };
            let captured = Captured::of(&vendor(command(&["printf", "%s|", "a b", "$HOME"])));
            assert_eq!(captured.capture.problems, Vec::<String>::new());
            assert_eq!(captured.content("/ca/vendor-backup"), b"a b|$HOME|");
            for (words, told) in [
                (
                    vec!["sh", "-c", "echo half; echo no quorum >&2; exit 7"],
                    "exit status: 7): no quorum",
                ),
                (vec!["true"], "true has written nothing"),
                (vec!["/no/such/program"], "cannot start"),
            ] {
                let captured = Captured::of(&vendor(command(&words)));
                says(&captured.capture.problems, told);
            }
            let file = hsm.path("vendor.bin");
            let watched = || VendorBackup {
                file: Some(file.clone()),
                max_age_days: Some(30),
                ..VendorBackup::default()
            };
            let problems = |vendor| Captured::of(&vendor).capture.problems;
            says(&problems(vendor(watched())), "cannot be read");
            std::fs::write(&file, "").expect("writes");
            says(&problems(vendor(watched())), "is empty");
            std::fs::write(&file, "sealed by the vendor").expect("writes");
            let captured = Captured::of(&vendor(watched()));
            assert_eq!(captured.capture.problems, Vec::<String>::new());
            assert_eq!(
                captured.content("/ca/vendor-backup"),
                b"sealed by the vendor"
            );
            says(&captured.capture.notes, "is 0 days old");
            let touched = std::process::Command::new("touch")
                .args(["-d", "40 days ago"])
                .arg(&file)
                .status();
            assert!(touched.expect("starts").success());
            says(
                &problems(vendor(watched())),
                "is 40 days old, and may be 30",
            );
            let inspection = vendor(watched()).inspect().expect("looks");
            says(&inspection.problems, "is 40 days old");
        },
    );
}
