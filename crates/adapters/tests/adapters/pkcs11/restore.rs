//! Objects are put into another token: as they were, once, and nothing else is touched.

use strongroom_core::source::token::{Token as _, TokenSeen};
use strongroom_testkit::servers::softhsm::SoftHsm;

use super::{Captured, says, source, store, wrapped};

/// A backup of a token that is destroyed after it.
fn lost(hsm: &SoftHsm) -> (Captured, String) {
    let serial = hsm.authority("ca");
    let captured = Captured::of(&source(hsm, "ca", wrapped()));
    assert_eq!(captured.capture.problems, Vec::<String>::new());
    hsm.destroy(&serial);
    (captured, serial)
}

fn put_all(captured: &Captured, seen: &TokenSeen, store: &super::TokenStore) {
    for (object, _) in &seen.objects {
        store
            .put(object, captured.content_of(object))
            .expect("puts");
    }
}

#[test]
fn a_token_comes_back_under_another_serial() {
    SoftHsm::run_again(
        "pkcs11::restore::a_token_comes_back_under_another_serial",
        |hsm| {
            let (captured, old) = lost(hsm);
            let new = hsm.init_token("new");
            assert_ne!(old, new);
            hsm.wrapping_key("new", "kek");
            let token = store(hsm, "new");
            let seen = captured.observe(&token).expect("looks");
            assert_eq!(seen.refusals, Vec::<String>::new());
            assert_eq!(seen.missing, Vec::<String>::new());
            assert_eq!(seen.objects.len(), 6);
            assert!(seen.objects.iter().all(|(_, is_there)| !is_there));
            for (object, _) in &seen.objects {
                assert!(!token.has(object).expect("looks"));
                token
                    .rehearse(object, captured.content_of(object))
                    .expect("rehearses");
            }
            // A rehearsal leaves nothing.
            let again = captured.observe(&store(hsm, "new")).expect("looks");
            assert_eq!(again, seen);

            put_all(&captured, &seen, &token);
            let objects: Vec<_> = seen.objects.iter().map(|(object, _)| object).collect();
            let proof = token.prove(&objects).expect("proves");
            assert_eq!(proof.failures, Vec::<String>::new());
            says(
                &proof.shown,
                "private key \"issuing ca\" (id 02) signs what certificate",
            );
            says(&proof.notes, &format!("serial={old}"));
            says(
                &proof.notes,
                &format!(
                    "becomes pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial={new};token=new;id=%01;object=root;type=private"
                ),
            );
            // Everything is there; a second time makes nothing twice.
            put_all(&captured, &seen, &token);
            let later = Captured::of(&source(hsm, "new", wrapped()));
            assert_eq!(later.capture.problems, Vec::<String>::new());
            for (class, label) in [
                ("private-key", "root"),
                ("private-key", "issuing ca"),
                ("public-key", "issuing ca"),
                ("certificate", "root"),
            ] {
                let (was, is) = (captured.object(class, label), later.object(class, label));
                for fact in [
                    "id",
                    "label",
                    "key_type",
                    "algorithm",
                    "spki_sha256",
                    "value_sha256",
                ] {
                    assert_eq!(was[fact], is[fact], "{class} {label} {fact}");
                }
                let history = ["local", "always_sensitive", "never_extractable"];
                for (flag, value) in was["flags"].as_object().expect("flags") {
                    if !history.contains(&flag.as_str()) {
                        assert_eq!(&is["flags"][flag], value, "{class} {label} {flag}");
                    }
                }
            }
            assert_eq!(later.recorded.len(), captured.recorded.len());
            let seen = captured.observe(&store(hsm, "new")).expect("looks");
            assert!(seen.objects.iter().all(|(_, is_there)| *is_there));
            // A key that was made elsewhere signs with the stock tool.
            let data = hsm.path("data");
            std::fs::write(&data, [7; 32]).expect("writes");
            let data = data.to_str().expect("UTF-8");
            let signature = format!("{data}.signature");
            hsm.tool(
                "new",
                &[
                    "--sign",
                    "--mechanism",
                    "ECDSA",
                    "--id",
                    "02",
                    "-i",
                    data,
                    "-o",
                    &signature,
                ],
            );
            hsm.tool(
                "new",
                &[
                    "--verify",
                    "--mechanism",
                    "ECDSA",
                    "--id",
                    "02",
                    "-i",
                    data,
                    "--signature-file",
                    &signature,
                ],
            );
        },
    );
}

#[test]
fn an_undo_takes_out_what_was_put_in_and_nothing_else() {
    SoftHsm::run_again(
        "pkcs11::restore::an_undo_takes_out_what_was_put_in_and_nothing_else",
        |hsm| {
            let (captured, _) = lost(hsm);
            hsm.init_token("new");
            hsm.wrapping_key("new", "kek");
            hsm.key("new", ("55", "other"), "EC:prime256v1", true);
            let token = store(hsm, "new");
            let seen = captured.observe(&token).expect("looks");
            put_all(&captured, &seen, &token);
            for (object, _) in seen.objects.iter().rev() {
                token.remove(object).expect("removes");
                assert!(!token.has(object).expect("looks"));
                token.remove(object).expect("nothing to do");
            }
            let left = Captured::of(&source(hsm, "new", wrapped()));
            left.object("private-key", "other");
            let objects = left.capture.facts["objects"].as_array().expect("a list");
            assert_eq!(
                objects.len(),
                3,
                "the other pair and the wrapping key: {objects:?}"
            );
        },
    );
}

#[test]
fn what_is_in_the_way_is_refused() {
    SoftHsm::run_again("pkcs11::restore::what_is_in_the_way_is_refused", |hsm| {
        let (captured, _) = lost(hsm);
        hsm.init_token("new");
        let seen = captured.observe(&store(hsm, "new")).expect("looks");
        says(
            &seen.refusals,
            "the wrapping key \"kek\" is not in this token",
        );
        says(&seen.refusals, super::CUSTODY);

        hsm.wrapping_key("new", "kek");
        hsm.key("new", ("01", "something else"), "EC:prime256v1", true);
        let token = store(hsm, "new");
        let seen = captured.observe(&token).expect("looks");
        says(
            &seen.refusals,
            "another private key is in the token as \"something else\" (id 01)",
        );
        let (object, _) = seen
            .objects
            .iter()
            .find(|(object, _)| object.what.starts_with("private key \"root\""))
            .expect("the key");
        assert!(!token.has(object).expect("looks"));
        token.remove(object).expect("nothing of ours");
        let left = Captured::of(&source(hsm, "new", wrapped()));
        left.object("private-key", "something else");
    });
}

#[test]
fn what_opens_wrongly_is_found_before_it_is_put_in() {
    SoftHsm::run_again(
        "pkcs11::restore::what_opens_wrongly_is_found_before_it_is_put_in",
        |hsm| {
            let (captured, _) = lost(hsm);
            hsm.init_token("third");
            hsm.wrapping_key("third", "kek");
            hsm.key("third", ("02", "issuing ca"), "EC:prime256v1", true);
            let third = Captured::of(&source(hsm, "third", wrapped()));
            hsm.init_token("new");
            hsm.wrapping_key("new", "kek");
            let token = store(hsm, "new");
            let seen = captured.observe(&token).expect("looks");
            let find = |what: &str| {
                let mut objects = seen.objects.iter().map(|(object, _)| object);
                objects
                    .find(|object| object.what.starts_with(what))
                    .expect("is there")
            };
            let (root, ca) = (
                find("private key \"root\""),
                find("private key \"issuing ca\""),
            );
            let mut damaged = captured.content_of(root).to_vec();
            damaged[9] ^= 1;
            token
                .rehearse(root, &damaged)
                .expect_err("RFC 5649 has a check");
            for public in ["certificate \"issuing ca\"", "certificate \"root\""] {
                let object = find(public);
                token
                    .rehearse(object, captured.content_of(object))
                    .expect("rehearses");
            }
            token
                .rehearse(ca, captured.content_of(root))
                .expect_err("another kind");
            let other = third.content("/third/private-key.02.issuing%20ca.wrapped");
            let error = token
                .rehearse(ca, other)
                .expect_err("another key of the same kind");
            assert!(error.to_string().contains("another key"), "{error}");
            let again = captured.observe(&store(hsm, "new")).expect("looks");
            assert_eq!(again, seen, "nothing is left of it");
        },
    );
}
