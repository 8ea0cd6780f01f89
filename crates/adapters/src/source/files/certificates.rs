//! When the certificates of an asset expire: facts that retention goes by.
//!
//! It reads what was captured, and judges nothing: a certificate that cannot be read is only not counted.

use jiff::Timestamp;
use serde_json::{Value, json};
use strongroom_core::format::Digest;

use super::key_proof::Tee;
use crate::key_material::look;

/// The certificates seen so far.
#[derive(Default)]
pub(super) struct Certificates {
    seen: Vec<(Digest, Timestamp)>,
    crls: usize,
    /// A file was too long to be looked at.
    is_partial: bool,
}

impl Certificates {
    /// Looks for certificates in a captured file: PEM with any number of them, or DER with one.
    pub(super) fn look_at(&mut self, captured: &Tee) {
        let Some(bytes) = captured.bytes() else {
            self.is_partial = true;
            return;
        };
        let found = look(bytes, None);
        let seen = found.certificates.iter();
        self.seen
            .extend(seen.map(|certificate| (certificate.sha256, certificate.not_after)));
        self.crls += found.crls;
    }

    /// `count`, `crls`, `last_not_after` and `set_sha256`; nothing when there are none, or when not all files were looked at.
    pub(super) fn facts(mut self) -> Option<Value> {
        self.seen.sort_unstable();
        self.seen.dedup();
        let last = self.seen.iter().map(|(_, expires)| *expires).max();
        let last = last.filter(|_| !self.is_partial)?;
        let digests: Vec<u8> = self
            .seen
            .iter()
            .flat_map(|(digest, _)| *digest.as_bytes())
            .collect();
        Some(json!({
            "count": self.seen.len(),
            "crls": self.crls,
            "last_not_after": last,
            "set_sha256": Digest::of(&digests),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(days: i64) -> rcgen::Certificate {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["ca.example".into()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(2030, 1, 1)
            + std::time::Duration::from_secs(u64::try_from(days).expect("positive") * 86_400);
        params.self_signed(&key).expect("a certificate")
    }

    fn facts(files: &[&[u8]]) -> Option<Value> {
        let mut certificates = Certificates::default();
        for file in files {
            let mut tee = Tee::new(true, file.len() as u64);
            tee.write(file);
            certificates.look_at(&tee);
        }
        certificates.facts()
    }

    #[test]
    fn the_last_one_counts_and_each_only_once() {
        let [early, late] = [0, 10].map(certificate);
        let chain = format!("{}{}", early.pem(), late.pem());
        let found = facts(&[chain.as_bytes(), early.der(), b"no certificate"]).expect("facts");
        assert_eq!(found["count"], 2);
        assert_eq!(found["last_not_after"], "2030-01-11T00:00:00Z");
        let turned = facts(&[late.der(), early.der()]).expect("facts");
        assert_eq!(turned["set_sha256"], found["set_sha256"]);
        let other = facts(&[late.der()]).expect("facts");
        assert_ne!(other["set_sha256"], found["set_sha256"]);
    }

    #[test]
    fn what_was_not_looked_at_is_not_guessed() {
        assert_eq!(facts(&[b"nothing here"]), None);
        let long = vec![b' '; 2 << 20];
        assert_eq!(facts(&[certificate(0).der(), &long]), None);
    }
}
