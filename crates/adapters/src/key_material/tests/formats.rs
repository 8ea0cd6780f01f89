//! Formats, passwords, and what is wrong with a file.
#![expect(clippy::disallowed_methods, reason = "openssl makes keys")]

use std::process::{Command, Stdio};

use p12_keystore::{KeyStore, KeyStoreEntry, PrivateKeyChain};
use pkcs8::EncryptedPrivateKeyInfoOwned;
use pkcs8::pkcs5::pbes2::{Parameters, Pbkdf2Params};
use proptest::prelude::*;
use rcgen::KeyPair;

use super::*;

/// A key in PKCS#8, and a certificate for it.
fn pair() -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = named("Example Issuing CA").self_signed(&key);
    let certificate = certificate.expect("a certificate").der().to_vec();
    (key.serialize_der(), certificate)
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("text before\n-----BEGIN {label}-----\n{text}\n-----END {label}-----\nand after\n")
        .into_bytes()
}

/// The key under a password, as `openssl pkcs8 -topk8` writes it.
pub(crate) fn encrypted(key: &[u8], password: &str, iterations: u32) -> Vec<u8> {
    // The library makes no parameters beyond its own bound.
    let mut parameters =
        Parameters::generate_pbkdf2_sha256_aes256cbc(1, b"salt and salt", [7; 16]).expect("PBES2");
    let encryption = {
        parameters.kdf = Pbkdf2Params::hmac_sha256(iterations.min(10_000), b"salt and salt")
            .expect("PBKDF2")
            .into();
        parameters.encrypt(password, key).expect("encryption")
    };
    parameters.kdf = Pbkdf2Params::hmac_sha256(iterations, b"salt and salt")
        .expect("PBKDF2")
        .into();
    let info = EncryptedPrivateKeyInfoOwned {
        encryption_algorithm: parameters.into(),
        encrypted_data: der::asn1::OctetString::new(encryption).expect("octets"),
    };
    info.to_der().expect("DER")
}

fn pkcs12_file(password: &str) -> Vec<u8> {
    let (key, certificate) = pair();
    let key = p12_keystore::PrivateKey::from_der(&key).expect("a key");
    let certificate = p12_keystore::Certificate::from_der(&certificate).expect("a certificate");
    let chain = PrivateKeyChain::new("ca", key, [certificate]);
    let mut store = KeyStore::new();
    store.add_entry("ca", KeyStoreEntry::PrivateKeyChain(chain));
    let writer = store.writer(password).encryption_iterations(10);
    writer.mac_iterations(10).write().expect("a file")
}

/// A keystore as Java wrote it before version 9: a key with its certificate, and a certificate.
fn keystore_file(magic: u32, certificate: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
        file.extend(text.as_bytes());
    };
    let long = |file: &mut Vec<u8>, bytes: &[u8]| {
        file.extend(u32::try_from(bytes.len()).expect("short").to_be_bytes());
        file.extend(bytes);
    };
    for number in [magic, 2, 2] {
        file.extend(number.to_be_bytes());
    }
    for (tag, alias) in [(1_u32, "issuing-ca"), (2, "root")] {
        file.extend(tag.to_be_bytes());
        text(&mut file, alias);
        file.extend(0_u64.to_be_bytes());
        if tag == 1 {
            long(&mut file, b"protected as Sun thought best");
            file.extend(1_u32.to_be_bytes());
        }
        text(&mut file, "X.509");
        long(&mut file, certificate);
    }
    file.extend([0; 20]);
    file
}

fn password(text: &str) -> Password {
    Password::from_file(format!("{text}\n").as_bytes())
}

fn only_key(bytes: &[u8], password: Option<&Password>) -> Key {
    let mut found = look(bytes, password);
    assert_eq!(found.keys.len(), 1);
    found.keys.remove(0)
}

fn closed(key: &Key) -> &Closed {
    match &key.state {
        State::Closed(why) => why,
        _ => panic!("a key that is not closed"),
    }
}

fn damaged(bytes: &[u8]) -> KeyMaterialError {
    match only_key(bytes, None).state {
        State::Damaged(error) => error,
        _ => panic!("a key that is not damaged"),
    }
}

fn is_signed(key: &Key) -> bool {
    matches!(key.state, State::Signed(_))
}

#[test]
fn encrypted_keys_open_with_their_password_only() {
    let (key, _) = pair();
    let der = encrypted(&key, "correct horse", 1000);
    for bytes in [pem("ENCRYPTED PRIVATE KEY", &der), der] {
        let opened = only_key(&bytes, Some(&password("correct horse")));
        assert!(is_signed(&opened) && opened.is_encrypted);
        assert_eq!(opened.algorithm.as_deref(), Some("ECDSA P-256"));
        let other = only_key(&bytes, Some(&password("battery staple")));
        assert_eq!(closed(&other), &Closed::WrongPassword);
        assert_eq!(closed(&only_key(&bytes, None)), &Closed::NoPassword);
    }
    let costly = encrypted(&key, "correct horse", 50_000_000);
    let costly = only_key(&costly, Some(&password("correct horse")));
    assert_eq!(closed(&costly), &Closed::Costly);
}

/// A block in the old encryption of PEM.
fn old_block(kind: &str, info: &str, body: &str) -> String {
    format!(
        "-----BEGIN {kind} PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n{info}\n{body}\n-----END {kind} PRIVATE KEY-----\n"
    )
}

/// Gives a program of OpenSSL something to read; what it writes.
fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{arguments:?}");
    output.stdout
}

#[test]
fn the_old_encryption_of_pem_opens_as_openssl_made_it() {
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let ec = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
    for (key, program, format) in [(&rsa, "rsa", "PKCS#1"), (&ec, "ec", "SEC 1")] {
        let plain = only_key(key.serialize_pem().as_bytes(), None);
        for cipher in ["-aes128", "-aes192", "-aes256", "-des3"] {
            let mut arguments = vec![program, cipher, "-passout", "pass:correct horse"];
            // Without it, OpenSSL 3 writes PKCS#8.
            arguments.extend((program == "rsa").then_some("-traditional"));
            let file = openssl(&arguments, key.serialize_pem().as_bytes());
            assert!(find(&file, b"DEK-Info: ").is_some(), "{cipher}");
            let unix = String::from_utf8(file).expect("text");
            for text in [unix.replace('\n', "\r\n"), unix] {
                let opened = only_key(text.as_bytes(), Some(&password("correct horse")));
                assert!(is_signed(&opened) && opened.is_encrypted, "{cipher}");
                assert_eq!((opened.format, &opened.public), (format, &plain.public));
                let bytes = text.as_bytes();
                assert_eq!(closed(&only_key(bytes, None)), &Closed::NoPassword);
                for word in ["battery staple", ""] {
                    let other = only_key(bytes, Some(&password(word)));
                    assert_eq!(closed(&other), &Closed::WrongPassword, "{cipher}");
                }
            }
        }
    }
}

#[test]
fn pkcs12_gives_keys_and_certificates() {
    for word in ["correct horse", "pässword"] {
        let file = pkcs12_file(word);
        let found = look(&file, Some(&password(word)));
        assert_eq!((found.keys.len(), found.certificates.len()), (1, 1));
        let State::Signed(signed) = &found.keys[0].state else {
            panic!("a key that did not sign");
        };
        assert!(found.keys[0].is_encrypted);
        assert!(found.certificates[0].public_key.verifies(signed));
        let other = only_key(&file, Some(&password("battery staple")));
        assert_eq!(closed(&other), &Closed::WrongPassword);
        assert_eq!(closed(&only_key(&file, None)), &Closed::NoPassword);
        let no_text = only_key(&file, Some(&Password::from_file(b"\xff")));
        assert_eq!(closed(&no_text), &Closed::NoText);
    }
    let open = look(&pkcs12_file(""), None);
    assert!(is_signed(&open.keys[0]) && !open.keys[0].is_encrypted);
}

#[test]
fn keystores_of_java_are_listed() {
    let (_, certificate) = pair();
    for (magic, format) in [(0xfeed_feed, "JKS"), (0xcece_cece, "JCEKS")] {
        let file = keystore_file(magic, &certificate);
        let found = look(&file, None);
        let keystore = found.keystore.expect("a keystore");
        assert_eq!((keystore.format, keystore.count), (format, 2));
        assert!(keystore.is_whole);
        let names: Vec<_> = keystore
            .entries
            .iter()
            .map(|entry| (entry.alias.as_str(), entry.is_key))
            .collect();
        assert_eq!(names, [("issuing-ca", true), ("root", false)]);
        assert_eq!(found.certificates.len(), 2);
        let cut = look(&file[..file.len() - 30], None).keystore;
        let cut = cut.expect("a keystore");
        assert!(!cut.is_whole && cut.entries.len() == 1);
    }
}

#[test]
fn damage_is_told_from_what_is_only_unknown() {
    let (key, certificate) = pair();
    let trailing = [key.as_slice(), b"x"].concat();
    assert_eq!(damaged(&trailing), KeyMaterialError::Trailing);
    let trailing = pem("PRIVATE KEY", &trailing);
    assert_eq!(damaged(&trailing), KeyMaterialError::Trailing);
    assert_eq!(damaged(&key[..key.len() - 9]), KeyMaterialError::Truncated);
    let cut = pem("PRIVATE KEY", &key);
    assert_eq!(damaged(&cut[..cut.len() / 2]), KeyMaterialError::Pem);
    let sealed = encrypted(&key, "p", 1);
    let cut = damaged(&sealed[..sealed.len() - 1]);
    assert_eq!(cut, KeyMaterialError::Truncated);
    let file = pkcs12_file("p");
    assert_eq!(damaged(&file[..99]), KeyMaterialError::Truncated);
    assert_eq!(
        damaged(&[file.as_slice(), b"x"].concat()),
        KeyMaterialError::Trailing
    );
    let openssh = pem("OPENSSH PRIVATE KEY", b"openssh-key-v1\0 and nothing else");
    assert_eq!(damaged(&openssh), KeyMaterialError::PrivateKey);
    // What is no key is not taken for a damaged one.
    for other in [
        certificate.as_slice(),
        &certificate[..99],
        b"0\x03\x02\x01\x00",
        b"",
    ] {
        assert!(look(other, None).keys.is_empty());
    }
    let foreign = only_key(&pem("TSS2 PRIVATE KEY", &key), None);
    assert!(matches!(foreign.state, State::Unprovable));
    assert_eq!(foreign.algorithm.as_deref(), Some("\"TSS2 PRIVATE KEY\""));
    let iv = "00112233445566778899AABBCCDDEEFF";
    for (info, body, error) in [
        ("", "AAAA", KeyMaterialError::Pem),
        ("DEK-Info: AES-256-CBC\n", "AAAA", KeyMaterialError::Pem),
        ("DEK-Info: AES-256-CBC,00\n", "AAAA", KeyMaterialError::Pem),
        (
            "DEK-Info: AES-256-CBC,\u{e9}\n",
            "AAAA",
            KeyMaterialError::Pem,
        ),
        (
            &format!("DEK-Info: DES-EDE3-CBC,{iv}\n"),
            "AAAA",
            KeyMaterialError::Pem,
        ),
        (
            &format!("DEK-Info: AES-256-CBC,{iv}\n"),
            "AAAA",
            KeyMaterialError::Truncated,
        ),
        (
            &format!("DEK-Info: AES-256-CBC,{iv}\n"),
            "!",
            KeyMaterialError::Pem,
        ),
    ] {
        let old = old_block("RSA", info, body);
        assert_eq!(damaged(old.as_bytes()), error, "{info}");
    }
    let camellia = old_block("RSA", &format!("DEK-Info: CAMELLIA-256-CBC,{iv}\n"), "AAAA");
    let camellia = only_key(camellia.as_bytes(), Some(&password("p")));
    let method = Closed::OldMethod("CAMELLIA-256-CBC".into());
    assert_eq!(closed(&camellia), &method);
}

/// `PrivateKeyInfo` with an algorithm of which nothing is known but its identifier.
pub(crate) fn nameless(oid: &str) -> Vec<u8> {
    let oid = der::asn1::ObjectIdentifier::new_unwrap(oid)
        .to_der()
        .expect("DER");
    let identifier = [
        &[0x30, u8::try_from(oid.len()).expect("short")],
        oid.as_slice(),
    ]
    .concat();
    let inner = [b"\x02\x01\x00".as_slice(), &identifier, b"\x04\x04abcd"].concat();
    [
        &[0x30, u8::try_from(inner.len()).expect("short")],
        inner.as_slice(),
    ]
    .concat()
}

#[test]
fn keys_whose_state_must_not_be_copied_are_known() {
    for oid in ["1.2.840.113549.1.9.16.3.17", "1.3.6.1.5.5.7.6.34"] {
        let der = nameless(oid);
        let sealed = encrypted(&der, "p", 1);
        for (bytes, password) in [
            (pem("PRIVATE KEY", &der), None),
            (der, None),
            (sealed, Some(password("p"))),
        ] {
            let key = only_key(&bytes, password.as_ref());
            assert!(matches!(key.state, State::Stateful), "{oid}");
        }
    }
    let ed448 = only_key(&nameless("1.3.101.113"), None);
    assert!(matches!(ed448.state, State::Unprovable));
    assert_eq!(ed448.algorithm.as_deref(), Some("Ed448"));
}

#[test]
fn a_file_full_of_keys_is_not_looked_at_for_ever() {
    let (key, _) = pair();
    let file = pem("PRIVATE KEY", &key).repeat(100);
    let found = look(&file, None);
    assert!(found.is_cut && found.keys.len() < 100);
}

proptest! {
    #[test]
    fn any_bytes_are_looked_at_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let password = password("p");
        look(&bytes, Some(&password));
        look(&pem("OPENSSH PRIVATE KEY", &bytes), Some(&password));
        for info in ["AES-192-CBC,00112233445566778899AABBCCDDEEFF", "DES-EDE3-CBC,0011223344556677"] {
            let block = pem("EC PRIVATE KEY", &bytes);
            let headers = format!("KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: {info}\n\n");
            let block = String::from_utf8(block).expect("text").replacen("KEY-----\n", &headers, 1);
            look(block.as_bytes(), Some(&password));
        }
        look(&[b"\xfe\xed\xfe\xed".as_slice(), &bytes].concat(), None);
    }

    #[test]
    fn a_damaged_file_never_passes_for_another_key(
        which in 0_usize..4, at in any::<proptest::sample::Index>(), bit in 0_u8..8,
    ) {
        let (key, certificate) = pair();
        let mut file = match which {
            0 => key,
            1 => encrypted(&key, "p", 1),
            2 => pkcs12_file("p"),
            _ => keystore_file(0xfeed_feed, &certificate),
        };
        let before = look(&file, Some(&password("p")));
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        let after = look(&file, Some(&password("p")));
        let publics = |keys: &[Key]| -> Vec<PublicKey> {
            let signed = keys.iter().filter(|key| is_signed(key));
            signed.filter_map(|key| key.public.clone()).collect()
        };
        // A flipped bit of the scalar alone would be another key; the public half beside it tells.
        for public in publics(&after.keys) {
            prop_assert!(publics(&before.keys).contains(&public));
        }
    }
}
