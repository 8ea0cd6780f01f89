//! The path validation suite of NIST (PKITS 1.0.1), as far as chains are judged here: signatures (4.1), validity (4.2), names (4.3),
//! self-issued certificates (4.5), basic constraints (4.6), key usage (4.7).
//!
//! Not judged, and so not here: revocation (4.4, 4.14, 4.15, 4.5.2, 4.5.5 to 4.5.8, 4.7.4, 4.7.5), policies (4.8 to 4.12), name
//! constraints (4.13), critical extensions that nobody knows (4.16). DSA is not verified: whatever it signs passes (4.1.6).
//!
//! `pkits.txt` has a line for each test, with its number, the last certificate and the CAs above it up to the root, and below it
//! the notes.
#![expect(clippy::disallowed_methods, reason = "tests read where the corpus is")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::*;

/// Set by `./test` to the directory of the corpus, which has the suite.
const VECTORS: &str = "STRONGROOM_VECTORS";

/// What is written down to be compared.
const EXPECTED: &str = include_str!("pkits.txt");

fn directory() -> Option<PathBuf> {
    let Some(root) = std::env::var_os(VECTORS) else {
        let why = "no corpus: the package cryptography-vectors could not be fetched";
        strongroom_testkit::skip("key_proof::chain", why);
        return None;
    };
    Some(Path::new(&root).join("x509/PKITS_data/certs"))
}

fn read(directory: &Path, name: &str) -> Result<Certificate, String> {
    let der = std::fs::read(directory.join(format!("{name}.crt"))).expect("a file of the suite");
    Certificate::from_der(&der).map_err(|error| error.to_string())
}

fn notes(own: &[Certificate], others: &[Certificate]) -> Vec<String> {
    // The certificates of the suite are valid from 2010 to 2030.
    let now = "2026-06-01T00:00:00Z".parse().expect("a time");
    let mut notes = Vec::new();
    check(&Quoted(Path::new("/ee.pem")), own, others, now, &mut notes);
    notes
}

#[test]
fn chains_are_judged_as_the_suite_says() {
    let Some(directory) = directory() else {
        return;
    };
    let root = read(&directory, "TrustAnchorRootCertificate").expect("a certificate");
    let mut said = String::new();
    for line in EXPECTED.lines().filter(|line| !line.starts_with(' ')) {
        writeln!(said, "{line}").expect("a string");
        let mut chain: Vec<Certificate> = line
            .split(' ')
            .skip(1)
            .map(|name| read(&directory, name).unwrap_or_else(|why| panic!("{name}: {why}")))
            .collect();
        chain.push(root.clone());
        let found = notes(&chain, &[]);
        for note in &found {
            writeln!(said, "    {note}").expect("a string");
        }
        // 4.1.6 is DSA; the last line is not of the suite.
        let is_invalid = !line.contains(" Valid") || line.starts_with("swapped");
        let is_unknown = line.starts_with("4.1.6 ");
        assert_eq!(!found.is_empty(), is_invalid && !is_unknown, "{line}");
        // The same with the CAs anywhere in the asset. That the issuer is not there is then no fault: roots are often left out.
        let others: Vec<_> = chain[1..].iter().rev().cloned().collect();
        let mut found = found;
        found.retain(|note| !note.contains("it has no certificate of"));
        assert_eq!(notes(&chain[..1], &others), found, "{line}");
    }
    assert_eq!(said, EXPECTED);
    // 4.2.3: valid since 1950. Times before 1970 are not read.
    let early = read(&directory, "Validpre2000UTCnotBeforeDateTest3EE");
    assert!(
        early
            .expect_err("not read")
            .contains("it is no certificate")
    );
}

#[test]
fn a_key_that_follows_another_under_the_same_name_is_no_fault() {
    let Some(directory) = directory() else {
        return;
    };
    let certificate = |name| read(&directory, name).expect("a certificate");
    let rollover = certificate("BasicSelfIssuedNewKeyOldWithNewCACert");
    let old = certificate("BasicSelfIssuedOldKeyCACert");
    // The one that signed it is elsewhere, or another with its name is there.
    assert_eq!(notes(std::slice::from_ref(&rollover), &[]), [""; 0]);
    let others = [old, certificate("TrustAnchorRootCertificate")];
    assert_eq!(notes(std::slice::from_ref(&rollover), &others), [""; 0]);
    let new = certificate("BasicSelfIssuedNewKeyCACert");
    assert_eq!(notes(&[rollover, new], &others), [""; 0]);
}
