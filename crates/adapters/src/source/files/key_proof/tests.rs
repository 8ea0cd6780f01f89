//! Keys of every kind against their certificates, and keys that belong to none.

use rcgen::{CertificateParams, DnType, KeyPair, SignatureAlgorithm};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use der::asn1::UintRef;
use der::{Decode as _, Header, SliceReader};

use super::*;
use crate::key_material::PemBlocks;

fn pair(algorithm: &'static SignatureAlgorithm) -> (String, String) {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Example Issuing CA");
    let certificate = params.self_signed(&key).expect("a certificate");
    (key.serialize_pem(), certificate.pem())
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().expect("a time")
}

fn tee(bytes: &[u8]) -> Tee {
    let mut tee = Tee::new(true, bytes.len() as u64);
    tee.write(bytes);
    tee
}

fn prove(files: &[(&str, &str)]) -> Verdict {
    prove_against(Some("/ca.pem"), None, files)
}

fn prove_against(
    certificate: Option<&str>,
    password: Option<&str>,
    files: &[(&str, &str)],
) -> Verdict {
    let mut proof = KeyProof::new(certificate.map(Path::new));
    if let Some(password) = password {
        proof.take_password(Path::new("/pass"), Ok(password.as_bytes()));
    }
    for (path, text) in files {
        proof
            .look_at(Path::new(path), &tee(text.as_bytes()))
            .expect("a file that may be kept");
    }
    proof.finish(now())
}

fn key_facts(verdict: &Verdict) -> &Value {
    verdict.key.as_ref().expect("the facts of a certificate")
}

/// The key inside a PKCS#8 envelope, as older tools write it.
fn unwrapped(pem: &str, label: &str) -> String {
    let block = PemBlocks(pem.as_bytes()).next().expect("a block");
    let der = block.decode().expect("base64");
    let reader = pkcs8_key(&der);
    let text = BASE64.encode(reader);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// `PrivateKeyInfo` (RFC 5208): version, algorithm, key.
fn pkcs8_key(der: &[u8]) -> Vec<u8> {
    let mut reader = SliceReader::new(der).expect("DER");
    Header::decode(&mut reader).expect("a sequence");
    UintRef::decode(&mut reader).expect("the version");
    der::AnyRef::decode(&mut reader).expect("the algorithm");
    let key = der::AnyRef::decode(&mut reader).expect("the key");
    key.value().to_vec()
}

#[test]
fn every_kind_of_key_is_proved() {
    for (kind, name) in [
        (&rcgen::PKCS_RSA_SHA256, "RSA-2048"),
        (&rcgen::PKCS_ECDSA_P256_SHA256, "ECDSA P-256"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "ECDSA P-384"),
        (&rcgen::PKCS_ECDSA_P521_SHA512, "ECDSA P-521"),
        (&rcgen::PKCS_ED25519, "Ed25519"),
    ] {
        let (key, certificate) = pair(kind);
        let verdict = prove(&[("/ca.key", &key), ("/ca.pem", &certificate)]);
        assert_eq!(verdict.problems, [""; 0], "{name}");
        assert_eq!(verdict.shown.len(), 1);
        assert_eq!(key_facts(&verdict)["algorithm"], name);
        assert_eq!(key_facts(&verdict)["proved"], true);
        assert_eq!(
            key_facts(&verdict)["certificate_subject"],
            "CN=Example Issuing CA"
        );
        assert!(
            key_facts(&verdict)["not_after"]
                .as_str()
                .expect("a time")
                .ends_with('Z')
        );

        let label = match name {
            "Ed25519" => continue,
            "RSA-2048" => "RSA PRIVATE KEY",
            _ => "EC PRIVATE KEY",
        };
        let verdict = prove(&[
            ("/both", &(certificate.clone() + &unwrapped(&key, label))),
            ("/ca.pem", &certificate),
        ]);
        assert_eq!(verdict.problems, [""; 0], "{label} {name}");
    }
}

#[test]
fn another_key_is_a_problem_though_one_fits() {
    let (key, certificate) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    for other in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
        let (wrong, _) = pair(other);
        let files = [
            ("/ca.key", &*key),
            ("/ca.pem", &certificate),
            ("/wrong", &wrong),
        ];
        let verdict = prove(&files);
        assert_eq!(
            verdict.problems,
            [r#"the private key in "/wrong" does not belong to the certificate "/ca.pem""#]
        );
        assert_eq!(key_facts(&verdict)["proved"], false);
    }
}

#[test]
fn encrypted_keys_are_noted_and_not_proved() {
    let (_, certificate) = pair(&rcgen::PKCS_ED25519);
    for key in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMBMwDQYJKoZIhvcNAQUNMAAEAgAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,0011223344556677\n\nAAAAAAAAAAA=\n-----END RSA PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: SEED-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    ] {
        let verdict = prove(&[("/ca.key", key), ("/ca.pem", &certificate)]);
        assert_eq!((verdict.problems.len(), verdict.notes.len()), (0, 1));
        assert_eq!(key_facts(&verdict)["proved"], false);
        let reason = key_facts(&verdict)["reason"].to_string();
        assert!(reason.contains("is encrypted"), "{reason}");
        let is_convertible = key.contains("SEED");
        let note = &verdict.notes[0];
        assert_eq!(
            note.contains("`openssl pkcs8 -topk8`"),
            is_convertible,
            "{note}"
        );
    }
}

#[test]
fn whatever_is_missing_or_damaged_is_a_problem_without_key_bytes() {
    let (key, certificate) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let damaged = key.replacen("MI", "AA", 1);
    let cut = key.replace("-----END", "-----");
    let foreign = key.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY");
    let long = key.clone() + &" ".repeat(KEY_MAX);
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[("/ca.key", &key)], "it is not there"),
        (&[("/ca.pem", "nonsense")], "it is no certificate"),
        (&[("/ca.pem", &certificate)], "no private key"),
        (
            &[("/ca.pem", &certificate), ("/k", &damaged)],
            "it is damaged",
        ),
        (
            &[("/ca.pem", &certificate), ("/k", &cut)],
            "its PEM is damaged",
        ),
        (
            &[("/ca.pem", &certificate), ("/k", &foreign)],
            "it is damaged",
        ),
        (
            &[("/ca.pem", &certificate), ("/k", &long)],
            "longer than 1 MiB",
        ),
        (
            &[("/ca.pem", &certificate.replace("MII", "AAA"))],
            "no certificate",
        ),
    ];
    for (files, wanted) in cases {
        let verdict = prove(files);
        assert_eq!(
            verdict.problems.len(),
            1,
            "{wanted}: {:?}",
            verdict.problems
        );
        assert!(
            verdict.problems[0].contains(wanted),
            "{:?}",
            verdict.problems
        );
        let all = format!("{:?} {}", verdict.problems, key_facts(&verdict));
        for line in key.lines().filter(|line| !line.starts_with('-')) {
            assert!(!all.contains(line), "{all}");
        }
    }
}

#[test]
fn a_certificate_may_be_der() {
    let (key, certificate) = pair(&rcgen::PKCS_ED25519);
    let block = PemBlocks(certificate.as_bytes()).next().expect("a block");
    let mut proof = KeyProof::new(Some(Path::new("/elsewhere.der")));
    let mut tee = Tee::new(true, 0);
    tee.write(key.as_bytes());
    proof.look_at(Path::new("/ca.key"), &tee).expect("a key");
    assert!(proof.missing_certificate().is_some());
    proof.take_certificate(&block.decode().expect("base64"));
    let verdict = proof.finish(now());
    assert_eq!(key_facts(&verdict)["proved"], true);
}

/// A root, an issuing CA below it, and the key of that.
fn authority(not_after: (i32, u8, u8)) -> (String, String, String) {
    let root_key = KeyPair::generate().expect("a key");
    let mut root = CertificateParams::default();
    root.distinguished_name.push(DnType::CommonName, "Root");
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).expect("a certificate").pem();
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Issuing");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, not_after.2);
    let issuer = rcgen::Issuer::from_params(&root, &root_key);
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    (key.serialize_pem(), certificate.pem(), root_pem)
}

#[test]
fn a_certificate_out_of_its_time_is_noted() {
    let (key, certificate, root) = authority((2026, 5, 31));
    let chain = certificate.clone() + &root;
    let files = [("/ca.key", key.as_str()), ("/ca.pem", &chain)];
    let verdict = prove(&files);
    assert_eq!(
        verdict.notes,
        [r#"the certificate "/ca.pem" expired on 2026-05-31T00:00:00Z"#]
    );
    assert_eq!(verdict.problems, [""; 0]);
    assert_eq!(key_facts(&verdict)["proved"], true);
    let mut early = KeyProof::new(Some(Path::new("/ca.pem")));
    for (path, text) in files {
        let seen = early.look_at(Path::new(path), &tee(text.as_bytes()));
        seen.expect("a file that may be kept");
    }
    let verdict = early.finish("2019-01-01T00:00:00Z".parse().expect("a time"));
    assert_eq!(
        verdict.notes,
        [r#"the certificate "/ca.pem" is not valid before 2020-01-01T00:00:00Z"#]
    );
}

#[test]
fn a_chain_that_does_not_build_is_noted() {
    let (key, certificate, root) = authority((2030, 1, 1));
    let (_, _, other_root) = authority((2030, 1, 1));
    let unrelated = pair(&rcgen::PKCS_ED25519).1;
    for (behind, wanted) in [
        (root.as_str(), None),
        ("", None),
        (
            &other_root,
            Some(r#"the key of "CN=Root" did not sign the certificate of "CN=Issuing""#),
        ),
        (&unrelated, Some(r#"it has no certificate of "CN=Root""#)),
    ] {
        let chain = certificate.clone() + behind;
        let verdict = prove(&[("/ca.key", &key), ("/ca.pem", &chain)]);
        assert_eq!(verdict.problems, [""; 0]);
        match wanted {
            None => assert_eq!(verdict.notes, [""; 0]),
            Some(wanted) => assert!(verdict.notes[0].contains(wanted), "{:?}", verdict.notes),
        }
    }
}

#[test]
fn of_a_ca_that_was_renewed_the_certificate_that_is_valid_counts() {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Root");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let [old, new] = [2025, 2040].map(|year| {
        params.not_before = rcgen::date_time_ymd(year - 15, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.self_signed(&key).expect("a certificate").pem()
    });
    let own = KeyPair::generate().expect("a key");
    let issuer = rcgen::Issuer::from_params(&params, &key);
    let certificate = CertificateParams::new(vec!["ca.example".into()])
        .and_then(|params| params.signed_by(&own, &issuer))
        .expect("a certificate")
        .pem();
    let key = own.serialize_pem();
    let noted = |chain: &str| prove(&[("/ca.key", &key), ("/ca.pem", chain)]).notes;
    assert_eq!(noted(&[&*certificate, &old, &new].concat()), [""; 0]);
    let expired = noted(&[certificate, old].concat());
    assert!(expired[0].contains("expired on 2025-01-01"), "{expired:?}");
}

#[test]
fn without_a_named_certificate_those_of_the_asset_count() {
    let (key, certificate) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (other, _) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let files = [("/k", key.as_str()), ("/c", &certificate), ("/o", &other)];
    let verdict = prove_against(None, None, &files);
    assert_eq!(verdict.problems, [""; 0]);
    assert!(verdict.key.is_none());
    let proved = |index: usize| verdict.private_keys[index]["proved"].clone();
    assert_eq!((proved(0), proved(1)), (true.into(), false.into()));
    assert_eq!(
        verdict.notes,
        [
            r#"the private key in "/o" belongs to no certificate in the asset; name its certificate as `certificate`"#
        ]
    );
    let trailing = key.replace("-----END", "AAAA\n-----END");
    let verdict = prove_against(None, None, &[("/k", &trailing), ("/c", &certificate)]);
    assert_eq!(verdict.problems.len(), 1, "{:?}", verdict.problems);
}

#[test]
fn a_password_opens_the_key_and_a_wrong_one_is_said() {
    let sealed = include_str!("ed25519-scrypt.pem");
    let (_, certificate) = pair(&rcgen::PKCS_ED25519);
    let opened = prove_against(None, Some("correct horse\n"), &[("/k", sealed)]);
    assert_eq!(opened.problems, [""; 0]);
    let key = &opened.private_keys[0];
    assert_eq!(key["encrypted"], true);
    assert_eq!(key["algorithm"], "Ed25519");
    let swapped = [("/k", sealed), ("/ca.pem", certificate.as_str())];
    let verdict = prove_against(Some("/ca.pem"), Some("correct horse"), &swapped);
    assert!(verdict.problems[0].contains("does not belong"));
    let verdict = prove_against(Some("/ca.pem"), Some("battery staple"), &swapped);
    assert_eq!(
        verdict.problems,
        [
            r#"the private key in "/k" cannot be opened: the password does not open it (the one in "/pass")"#
        ]
    );
    assert!(!verdict.problems[0].contains("battery"));
}

#[test]
fn a_key_of_another_algorithm_is_told_from_one_that_cannot_be_proved() {
    // Ed448, from `openssl genpkey -algorithm ed448`.
    let ed448 = include_str!("ed448.pem");
    let (_, certificate) = pair(&rcgen::PKCS_ED25519);
    let verdict = prove(&[("/k", ed448), ("/ca.pem", &certificate)]);
    assert!(
        verdict.problems[0].contains("it is Ed448, the certificate is for Ed25519"),
        "{:?}",
        verdict.problems
    );
    let verdict = prove_against(None, None, &[("/k", ed448)]);
    assert_eq!(verdict.problems, [""; 0]);
    assert!(verdict.notes[0].contains("Ed448, which cannot sign here"));
}

#[test]
fn a_certificate_whose_key_may_be_in_a_keystore_is_not_proved_and_no_problem() {
    let (_, certificate) = pair(&rcgen::PKCS_ED25519);
    // A JKS file that says it has an entry, and ends.
    let keystore = b"\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x01";
    let mut proof = KeyProof::new(Some(Path::new("/ca.pem")));
    for (path, bytes) in [
        ("/ca.jks", &keystore[..]),
        ("/ca.pem", certificate.as_bytes()),
    ] {
        let seen = proof.look_at(Path::new(path), &tee(bytes));
        seen.expect("a file that may be kept");
    }
    let verdict = proof.finish(now());
    assert_eq!(verdict.problems, [""; 0]);
    assert!(verdict.notes[0].contains("a JKS keystore of 1 entries"));
    assert_eq!(key_facts(&verdict)["proved"], false);
}
