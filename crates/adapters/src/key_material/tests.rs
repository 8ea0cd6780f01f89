//! Keys that sign, keys that verify, and certificates that vouch for each other.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature as library;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair as _, PqdsaKeyPair, RsaKeyPair};
use der::asn1::{OctetStringRef, Uint};
use der::{Decode as _, Encode as _};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

mod corpus;
mod formats;

const KINDS: [(&rcgen::SignatureAlgorithm, &str); 5] = [
    (&rcgen::PKCS_RSA_SHA256, "RSA-2048"),
    (&rcgen::PKCS_ECDSA_P256_SHA256, "ECDSA P-256"),
    (&rcgen::PKCS_ECDSA_P384_SHA384, "ECDSA P-384"),
    (&rcgen::PKCS_ECDSA_P521_SHA512, "ECDSA P-521"),
    (&rcgen::PKCS_ED25519, "Ed25519"),
];

#[test]
fn every_kind_of_key_signs_what_only_its_other_half_verifies() {
    let keys: Vec<PrivateKey> = KINDS
        .iter()
        .map(|(kind, name)| {
            let pair = KeyPair::generate_for(kind).expect("a key");
            let key = PrivateKey::from_pkcs8(&pair.serialize_der()).expect(name);
            assert_eq!(key.public_key().algorithm().to_string(), *name);
            let public = PublicKey::from_spki_der(&public_key_der(&pair)).expect("a public key");
            assert_eq!(key.public_key(), &public, "{name}");
            key
        })
        .chain([&library::ML_DSA_44_SIGNING, &library::ML_DSA_87_SIGNING].map(ml_dsa))
        .collect();
    for (index, key) in keys.iter().enumerate() {
        let signed = key.sign().expect("a signature");
        for (other, public) in keys.iter().map(PrivateKey::public_key).enumerate() {
            assert_eq!(public.verifies(&signed), index == other, "{index} {other}");
        }
        let mut turned = signed;
        turned.nonce[0] ^= 1;
        assert!(!key.public_key().verifies(&turned));
    }
}

fn ml_dsa(set: &'static library::PqdsaSigningAlgorithm) -> PrivateKey {
    let pair = PqdsaKeyPair::generate(set).expect("a key");
    let der = pair.to_pkcs8v1().expect("PKCS#8");
    PrivateKey::from_pkcs8(der.as_ref()).expect("a key")
}

#[test]
fn signatures_as_tokens_give_them_are_verified() {
    let random = SystemRandom::new();
    for (signing, hash) in [
        (&library::ECDSA_P256_SHA256_FIXED_SIGNING, Hash::Sha256),
        (&library::ECDSA_P384_SHA384_FIXED_SIGNING, Hash::Sha384),
        (&library::ECDSA_P521_SHA512_FIXED_SIGNING, Hash::Sha512),
    ] {
        let pair = EcdsaKeyPair::generate(signing).expect("a key");
        let signature = pair.sign(&random, b"nonce").expect("a signature");
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key());
        let public = PublicKey::from_spki_der(spki.expect("DER").as_ref()).expect("a key");
        let raw = signature.as_ref();
        assert!(public.verify(Scheme::EcdsaRaw(hash), b"nonce", raw));
        assert!(!public.verify(Scheme::EcdsaRaw(hash), b"other", raw));
        assert!(!public.verify(Scheme::EcdsaRaw(hash), b"nonce", &raw[1..]));
        assert!(!public.verify(Scheme::EcdsaDer(hash), b"nonce", raw));
        assert!(!public.verify(Scheme::RsaPkcs1(hash), b"nonce", raw));
    }
    let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let public = PublicKey::from_spki_der(&public_key_der(&pair)).expect("a key");
    let pair = RsaKeyPair::from_pkcs8(&pair.serialize_der()).expect("a key");
    let encodings: [(&'static dyn library::RsaEncoding, Scheme); 6] = [
        (&library::RSA_PKCS1_SHA256, Scheme::RsaPkcs1(Hash::Sha256)),
        (&library::RSA_PKCS1_SHA384, Scheme::RsaPkcs1(Hash::Sha384)),
        (&library::RSA_PKCS1_SHA512, Scheme::RsaPkcs1(Hash::Sha512)),
        (&library::RSA_PSS_SHA256, Scheme::RsaPss(Hash::Sha256)),
        (&library::RSA_PSS_SHA384, Scheme::RsaPss(Hash::Sha384)),
        (&library::RSA_PSS_SHA512, Scheme::RsaPss(Hash::Sha512)),
    ];
    for (encoding, scheme) in encodings {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &random, b"nonce", &mut signature)
            .expect("a signature");
        for (_, other) in encodings {
            let holds = public.verify(other, b"nonce", &signature);
            assert_eq!(holds, other == scheme, "{scheme:?} {other:?}");
        }
    }
}

#[test]
fn the_parts_that_a_token_gives_make_the_key_of_the_certificate() {
    for (kind, name) in KINDS {
        let pair = KeyPair::generate_for(kind).expect("a key");
        let spki = public_key_der(&pair);
        let wanted = PublicKey::from_spki_der(&spki).expect("a key");
        let info = x509_cert::spki::SubjectPublicKeyInfoOwned::from_der(&spki).expect("a key");
        let bits = info.subject_public_key.raw_bytes();
        let wrapped = OctetStringRef::new(bits)
            .expect("short")
            .to_der()
            .expect("DER");
        let parameters = match info.algorithm.parameters {
            _ if name == "RSA-2048" => {
                let parts = Vec::<Uint>::from_der(bits).expect("a modulus and an exponent");
                let [modulus, exponent] = [0, 1].map(|index| parts[index].as_bytes());
                let made = PublicKey::from_rsa(modulus, exponent).expect("a key");
                assert_eq!(made, wanted);
                continue;
            }
            Some(parameters) => parameters.to_der().expect("DER"),
            // PKCS#11 names Edwards curves by their identifier or by their name.
            None => b"\x13\x0cedwards25519".to_vec(),
        };
        for point in [bits, &wrapped] {
            let made = PublicKey::from_ec(&parameters, point).expect("a key");
            assert_eq!(made, wanted, "{name}");
        }
    }
}

fn public_key_der(pair: &KeyPair) -> Vec<u8> {
    let block = pair.public_key_pem();
    let block = PemBlocks(block.as_bytes()).next().expect("a block");
    block.decode().expect("base64").to_vec()
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params
}

#[test]
fn a_certificate_tells_who_it_is_and_who_vouches_for_it() {
    for (kind, _) in KINDS {
        let root_key = KeyPair::generate_for(kind).expect("a key");
        let mut root = named("Example Root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.not_after = rcgen::date_time_ymd(2040, 1, 2);
        let root_pem = root.self_signed(&root_key).expect("a certificate").pem();
        let issuer = Issuer::from_params(&root, &root_key);
        let key = KeyPair::generate_for(kind).expect("a key");
        let leaf = named("Example Server")
            .signed_by(&key, &issuer)
            .expect("a certificate");

        let root = Certificate::parse(root_pem.as_bytes()).expect("a certificate");
        let leaf = Certificate::from_der(leaf.der()).expect("a certificate");
        assert_eq!(root.subject, "CN=Example Root");
        assert_eq!(root.not_after.to_string(), "2040-01-02T00:00:00Z");
        assert!(root.not_before < root.not_after);
        assert!(root.is_ca && !leaf.is_ca);
        assert!(root.is_self_issued() && !leaf.is_self_issued());
        assert!(root.subject_key_id().is_some());
        assert_eq!(leaf.issuer, root.subject);
        assert_eq!(leaf.is_signed_by(&root), Issued::Yes);
        assert_eq!(root.is_signed_by(&root), Issued::Yes);
        assert_eq!(leaf.is_signed_by(&leaf), Issued::No);
    }
}

#[test]
fn another_key_under_the_same_name_is_no_issuer() {
    let [old, new] = [(); 2].map(|()| KeyPair::generate().expect("a key"));
    let params = named("Example Root");
    let leaf = named("leaf").signed_by(&old, &Issuer::from_params(&params, &old));
    let leaf = Certificate::from_der(leaf.expect("a certificate").der()).expect("a certificate");
    let new = params.self_signed(&new).expect("a certificate");
    let new = Certificate::from_der(new.der()).expect("a certificate");
    assert_eq!(leaf.is_signed_by(&new), Issued::No);
}

#[test]
fn every_algorithm_is_named_and_none_is_mistaken_for_another() {
    let named = |id: &str, curve: Option<&str>| {
        let oid = |text| der::asn1::ObjectIdentifier::new_unwrap(text);
        let curve = curve.map(|curve| der::Any::encode_from(&oid(curve)).expect("DER"));
        PublicKey::from_parts(oid(id), curve, b"\0")
            .expect("a key")
            .algorithm()
    };
    for (id, curve, name, is_stateful) in [
        ("1.3.101.113", None, "Ed448", false),
        ("2.16.840.1.101.3.4.3.20", None, "SLH-DSA-SHA2-128s", false),
        ("2.16.840.1.101.3.4.4.2", None, "ML-KEM-768", false),
        ("1.2.840.113549.1.9.16.3.17", None, "HSS/LMS", true),
        ("1.3.6.1.5.5.7.6.34", None, "XMSS", true),
        ("1.3.6.1.5.5.7.6.35", None, "XMSS^MT", true),
        ("1.2.840.113549.1.1.1", None, "RSA", false),
        (
            "1.2.840.10045.2.1",
            Some("1.3.132.0.10"),
            "ECDSA secp256k1",
            false,
        ),
        (
            "1.2.840.10045.2.1",
            Some("1.2.3.4"),
            "ECDSA on the curve 1.2.3.4",
            false,
        ),
        ("1.2.3.4.5", None, "algorithm 1.2.3.4.5", false),
    ] {
        let algorithm = named(id, curve);
        assert_eq!(algorithm.to_string(), name);
        assert_eq!(algorithm.is_stateful(), is_stateful, "{name}");
        assert!(!algorithm.is_provable(), "{name}");
    }
    assert!(named("2.16.840.1.101.3.4.3.18", None).is_provable());
}
