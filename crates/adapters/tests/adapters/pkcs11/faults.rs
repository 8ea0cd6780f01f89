//! Bad input and bad luck: modules, tokens, PINs, certificates and keys that are not what they should be.

use std::sync::Arc;

use strongroom_adapters::source::pkcs11::{
    Access, Export, PinFile, Pkcs11Settings, Pkcs11Source, TokenUri,
};
use strongroom_core::source::Source as _;
use strongroom_testkit::recording_sink::{Moment, RecordingSink};
use strongroom_testkit::servers::softhsm::{PIN, SoftHsm};

use super::{Captured, access, inventory, pin, says, source, wrapped};

fn with_access(hsm: &SoftHsm, access: Access) -> Pkcs11Source {
    let settings = Pkcs11Settings {
        access,
        export: inventory(),
    };
    Pkcs11Source::new(settings, Arc::new(PinFile(pin(hsm))))
}

#[track_caller]
fn refused(source: &Pkcs11Source, words: &[&str]) {
    let error = source.inspect().expect_err("is refused").advice();
    assert!(!error.contains(PIN), "{error}");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error}");
    }
    let captured = Captured::with(source, &RecordingSink::new());
    assert!(captured.is_err(), "a capture is refused, too");
}

#[test]
fn what_is_no_module_or_no_token_is_told() {
    SoftHsm::run_again(
        "pkcs11::faults::what_is_no_module_or_no_token_is_told",
        |hsm| {
            let module = |name: &str| Access {
                module: hsm.path(name),
                ..access("ca")
            };
            refused(
                &with_access(hsm, module("missing.so")),
                &["there is no module", "missing.so", "Install"],
            );
            std::fs::write(hsm.path("text.so"), "no library").expect("writes");
            refused(&with_access(hsm, module("text.so")), &["cannot be used"]);
            refused(
                &with_access(hsm, access("ca")),
                &["there is no token pkcs11:token=ca; the module shows none"],
            );
            let first = hsm.init_token("ca");
            let second = hsm.init_token("ca");
            refused(
                &with_access(hsm, access("ca")),
                &["means several tokens", &first, &second, "by its serial"],
            );
            refused(
                &with_access(hsm, access("cb")),
                &["there is no token pkcs11:token=cb", &first],
            );
            let exact = Access {
                token: TokenUri {
                    serial: Some(second.clone()),
                    ..TokenUri::default()
                },
                ..access("ca")
            };
            let captured = Captured::of(&with_access(hsm, exact));
            assert_eq!(captured.capture.facts["token"]["serial"], second.as_str());
        },
    );
}

#[test]
fn a_wrong_pin_is_tried_once() {
    SoftHsm::run_again("pkcs11::faults::a_wrong_pin_is_tried_once", |hsm| {
        hsm.authority("ca");
        let wrong = hsm.pin_file("wrong", "0000-wrong");
        let settings = || Pkcs11Settings {
            access: access("ca"),
            export: inventory(),
        };
        let with = |file: &std::path::Path| {
            Pkcs11Source::new(settings(), Arc::new(PinFile(file.to_owned())))
        };
        let error = with(&wrong).inspect().expect_err("wrong").advice();
        for words in ["the PIN is wrong", "few tries may be left", "tried once"] {
            assert!(error.contains(words), "{error}");
        }
        assert!(!error.contains("0000"), "{error}");
        // Not again in this run, whoever asks; the right one neither, because nobody knows yet which one is right.
        for file in [&wrong, &pin(hsm)] {
            let error = with(file).inspect().expect_err("wrong before").advice();
            assert!(
                error.contains("tried once and is not tried again"),
                "{error}"
            );
        }
    });
}

#[test]
fn a_pin_for_all_eyes_is_not_used() {
    SoftHsm::run_again("pkcs11::faults::a_pin_for_all_eyes_is_not_used", |hsm| {
        hsm.init_token("ca");
        let file = pin(hsm);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&file, mode).expect("sets");
        let settings = Pkcs11Settings {
            access: access("ca"),
            export: inventory(),
        };
        let source = Pkcs11Source::new(settings, Arc::new(PinFile(file)));
        refused(&source, &["can be read by others; chmod 600"]);
    });
}

#[test]
fn a_certificate_swapped_under_a_key_is_found() {
    SoftHsm::run_again(
        "pkcs11::faults::a_certificate_swapped_under_a_key_is_found",
        |hsm| {
            hsm.init_token("ca");
            hsm.key("ca", ("01", "root"), "EC:prime256v1", true);
            hsm.key("ca", ("02", "thief"), "EC:prime256v1", true);
            hsm.certificate("ca", "02", ("01", "root"));
            let captured = Captured::of(&source(hsm, "ca", inventory()));
            says(
                &captured.capture.problems,
                "private key \"root\" (id 01) does not belong to certificate \"root\" (id 01)",
            );
            assert_eq!(captured.object("certificate", "root")["proved"], false);
            let inspection = source(hsm, "ca", inventory()).inspect().expect("looks");
            says(&inspection.problems, "does not belong to certificate");
        },
    );
}

#[test]
fn keys_that_cannot_leave_are_named() {
    SoftHsm::run_again("pkcs11::faults::keys_that_cannot_leave_are_named", |hsm| {
        hsm.init_token("ca");
        hsm.key("ca", ("01", "root"), "EC:prime256v1", true);
        hsm.key("ca", ("02", "fixed"), "EC:prime256v1", false);
        // SoftHSM 2.6 wraps no Edwards keys, whatever their flags say.
        hsm.key("ca", ("03", "ed"), "EC:edwards25519", true);
        let missing = Captured::of(&source(hsm, "ca", wrapped()));
        says(
            &missing.capture.problems,
            "there is no wrapping key \"kek\" in the token; 3 keys are not in the backup",
        );
        says(
            &source(hsm, "ca", wrapped())
                .inspect()
                .expect("looks")
                .problems,
            "no wrapping key",
        );
        hsm.wrapping_key("ca", "kek");
        let captured = Captured::of(&source(hsm, "ca", wrapped()));
        let problem = "private key \"fixed\" (id 02) is not extractable, so no backup can hold it";
        says(&captured.capture.problems, problem);
        says(
            &captured.capture.problems,
            "private key \"ed\" (id 03) is not in the backup: the token cannot wrap it: C_WrapKey, CKR_KEY_NOT_WRAPPABLE",
        );
        assert_eq!(captured.capture.problems.len(), 2);
        assert!(
            captured
                .object("private-key", "fixed")
                .get("stream")
                .is_none()
        );
        says(
            &source(hsm, "ca", wrapped())
                .inspect()
                .expect("looks")
                .problems,
            problem,
        );
        for name in ["fixed", "02"] {
            let export = Export::Wrapped {
                wrapping_key: "kek".into(),
                custody: super::CUSTODY.into(),
                stay_in_token: vec![name.to_owned(), "ed".to_owned()],
            };
            let captured = Captured::of(&source(hsm, "ca", export));
            assert_eq!(captured.capture.problems, Vec::<String>::new());
            says(&captured.capture.notes, "stays in the token, as configured");
        }
        let export = Export::Wrapped {
            wrapping_key: "root".into(),
            custody: super::CUSTODY.into(),
            stay_in_token: Vec::new(),
        };
        let captured = Captured::of(&source(hsm, "ca", export));
        says(
            &captured.capture.problems,
            "is no AES key and no RSA public key that may wrap",
        );
    });
}

#[test]
fn a_wrapping_key_that_was_cut_is_told() {
    SoftHsm::run_again(
        "pkcs11::faults::a_wrapping_key_that_was_cut_is_told",
        |hsm| {
            hsm.init_token("ca");
            hsm.key("ca", ("01", "root"), "EC:prime256v1", true);
            // softhsm2-util ends a key at the first line feed.
            let mut key = [0x5A; 32];
            key[5] = b'\n';
            std::fs::write(hsm.path("wrapping.key"), key).expect("writes");
            hsm.wrapping_key("ca", "kek");
            let problem = "the wrapping key \"kek\" has 48 bits";
            let looked = source(hsm, "ca", wrapped()).inspect().expect("looks");
            says(&looked.problems, problem);
            says(
                &Captured::of(&source(hsm, "ca", wrapped())).capture.problems,
                problem,
            );
        },
    );
}

#[test]
fn a_key_without_its_public_half_is_told() {
    SoftHsm::run_again(
        "pkcs11::faults::a_key_without_its_public_half_is_told",
        |hsm| {
            hsm.init_token("ca");
            hsm.key("ca", ("01", "root"), "EC:prime256v1", true);
            hsm.tool("ca", &["--delete-object", "--type", "pubkey", "--id", "01"]);
            let captured = Captured::of(&source(hsm, "ca", inventory()));
            says(&captured.capture.problems, "so nothing proves it");
        },
    );
}

#[test]
fn a_token_pulled_out_in_the_middle_is_told() {
    SoftHsm::run_again(
        "pkcs11::faults::a_token_pulled_out_in_the_middle_is_told",
        |hsm| {
            let serial = hsm.authority("ca");
            let directory = hsm.directory(&serial);
            let sink = RecordingSink::new();
            sink.set_hook(move |moment| {
                if matches!(moment, Moment::Begin { stream: 1 }) {
                    std::fs::remove_dir_all(&directory).expect("removes");
                }
            });
            match Captured::with(&source(hsm, "ca", wrapped()), &sink) {
                Ok(captured) => assert!(
                    !captured.capture.problems.is_empty(),
                    "a token that has gone is not captured whole"
                ),
                Err(error) => assert!(!error.is_fatal(), "{error}"),
            }
            refused(&source(hsm, "ca", wrapped()), &["ca"]);
        },
    );
}
