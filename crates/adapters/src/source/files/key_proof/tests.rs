//! Keys of every kind against their certificates, and keys that belong to none.

use rcgen::{CertificateParams, DnType, KeyPair, SignatureAlgorithm};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use der::asn1::UintRef;
use der::{Decode as _, Header, SliceReader};

use super::*;

fn pair(algorithm: &'static SignatureAlgorithm) -> (String, String) {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Example Issuing CA");
    let certificate = params.self_signed(&key).expect("a certificate");
    (key.serialize_pem(), certificate.pem())
}

fn prove(files: &[(&str, &str)]) -> Verdict {
    let mut proof = KeyProof::new(Path::new("/ca.pem"));
    for (path, text) in files {
        let mut tee = Tee::new(true, text.len() as u64);
        tee.write(text.as_bytes());
        proof.look_at(Path::new(path), &tee);
    }
    proof.finish()
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
        assert_eq!(verdict.facts["algorithm"], name);
        assert_eq!(verdict.facts["proved"], true);
        assert_eq!(
            verdict.facts["certificate_subject"],
            "CN=Example Issuing CA"
        );
        assert!(
            verdict.facts["not_after"]
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
        assert_eq!(verdict.facts["proved"], false);
    }
}

#[test]
fn encrypted_keys_are_noted_and_not_proved() {
    let (_, certificate) = pair(&rcgen::PKCS_ED25519);
    for key in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    ] {
        let verdict = prove(&[("/ca.key", key), ("/ca.pem", &certificate)]);
        assert_eq!((verdict.problems.len(), verdict.notes.len()), (0, 1));
        assert_eq!(verdict.facts["proved"], false);
        assert_eq!(verdict.facts["reason"], "the private key is encrypted");
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
        (&[("/ca.pem", &certificate), ("/k", &foreign)], "its format"),
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
        let all = format!("{:?} {}", verdict.problems, verdict.facts);
        for line in key.lines().filter(|line| !line.starts_with('-')) {
            assert!(!all.contains(line), "{all}");
        }
    }
}

#[test]
fn a_certificate_may_be_der() {
    let (key, certificate) = pair(&rcgen::PKCS_ED25519);
    let block = PemBlocks(certificate.as_bytes()).next().expect("a block");
    let mut proof = KeyProof::new(Path::new("/elsewhere.der"));
    let mut tee = Tee::new(true, 0);
    tee.write(key.as_bytes());
    proof.look_at(Path::new("/ca.key"), &tee);
    assert!(!proof.has_certificate());
    proof.take_certificate(&block.decode().expect("base64"));
    assert_eq!(proof.finish().facts["proved"], true);
}
