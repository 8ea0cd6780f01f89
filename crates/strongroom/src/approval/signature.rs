//! Keys of operators, and signatures made with them by `ssh-keygen -Y sign` (PROTOCOL.sshsig of OpenSSH).
//!
//! Only public keys are known here: no operator's private key ever comes near this program.

use std::fmt;

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};

/// What a signature is made for: `ssh-keygen -n`.
pub(crate) const NAMESPACE: &str = "strongroom-plan";

/// The bit of a hardware key's signature that says that its owner touched it (`PROTOCOL.u2f` of OpenSSH).
const USER_PRESENT: u8 = 0x01;
/// Where that bit stands: after the 64 bytes of the signature.
const FLAGS: usize = 64;

/// What the names of other kinds of keys contain: RSA, DSA, ECDSA, certificates.
const OTHER_KINDS: [&str; 4] = ["ssh-rsa", "ssh-dss", "ecdsa-sha2-", "-cert-"];

/// The public key of an operator: Ed25519, in software or in a FIDO authenticator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperatorKey(KeyData);

/// Why a text is no key of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyFault {
    /// It is not the line of a public key.
    NotAKey,
    /// It is a private key.
    Private,
    /// It is a key of another kind.
    Kind,
}

impl OperatorKey {
    /// Reads the one line of an OpenSSH public key; its comment is ignored.
    pub(crate) fn parse(text: &str) -> Result<Self, KeyFault> {
        if text.contains("PRIVATE KEY") {
            return Err(KeyFault::Private);
        }
        let text = text.trim();
        if text.contains(['\n', '\r']) {
            return Err(KeyFault::NotAKey);
        }
        let kind = text.split_whitespace().next().unwrap_or_default();
        if OTHER_KINDS.iter().any(|other| kind.contains(other)) {
            return Err(KeyFault::Kind);
        }
        let key = PublicKey::from_openssh(text).map_err(|_| KeyFault::NotAKey)?;
        match key.algorithm() {
            Algorithm::Ed25519 | Algorithm::SkEd25519 => Ok(Self(key.key_data().clone())),
            _ => Err(KeyFault::Kind),
        }
    }

    /// As `ssh-keygen -l` shows it.
    pub(crate) fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }
}

/// A signature in a file of its own.
pub(crate) struct PlanSignature(SshSig);

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignatureFault {
    /// It is no signature of `ssh-keygen`.
    NotASignature,
    /// It was made for another purpose.
    Namespace(String),
    /// Its key, here the fingerprint, is that of no operator.
    UnknownKey(String),
    /// It is of another document.
    OtherDocument,
    /// The hardware key signed without having been touched.
    NotTouched,
}

impl fmt::Display for SignatureFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASignature => {
                formatter.write_str("it is no signature made by `ssh-keygen -Y sign`")
            }
            Self::Namespace(found) => {
                write!(
                    formatter,
                    "it was made for {found:?}, not with -n {NAMESPACE}"
                )
            }
            Self::UnknownKey(fingerprint) => {
                write!(formatter, "its key {fingerprint} is that of no operator")
            }
            Self::OtherDocument => formatter.write_str("it is not of this plan"),
            Self::NotTouched => formatter.write_str("the hardware key was not touched for it"),
        }
    }
}

impl PlanSignature {
    /// Reads what `ssh-keygen -Y sign` wrote.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, SignatureFault> {
        SshSig::from_pem(bytes)
            .map(Self)
            .map_err(|_| SignatureFault::NotASignature)
    }

    /// Whose it is among `operators`, if it is a signature of `plan`.
    pub(crate) fn signer<'o>(
        &self,
        plan: &[u8],
        mut operators: impl Iterator<Item = (&'o str, &'o OperatorKey)>,
    ) -> Result<&'o str, SignatureFault> {
        let found = self.0.public_key();
        let fingerprint = || found.fingerprint(HashAlg::Sha256).to_string();
        let (name, key) = operators
            .find(|(_, key)| key.0 == *found)
            .ok_or_else(|| SignatureFault::UnknownKey(fingerprint()))?;
        if self.0.namespace() != NAMESPACE {
            let namespace = self.0.namespace().to_owned();
            return Err(SignatureFault::Namespace(namespace));
        }
        PublicKey::from(key.0.clone())
            .verify(NAMESPACE, plan, &self.0)
            .map_err(|_| SignatureFault::OtherDocument)?;
        let touched = || {
            let flags = self.0.signature_bytes().get(FLAGS);
            flags.is_some_and(|flags| flags & USER_PRESENT != 0)
        };
        if key.0.is_sk_ed25519() && !touched() {
            return Err(SignatureFault::NotTouched);
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use ssh_key::public::{Ed25519PublicKey, SkEd25519};
    use ssh_key::{LineEnding, Signature};

    use super::*;

    const PLAN: &[u8] = b"{\"a\": 1}\n";

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::generate().expect("a key")
    }

    fn public(pair: &Ed25519KeyPair) -> Ed25519PublicKey {
        let bytes: [u8; 32] = pair.public_key().as_ref().try_into().expect("32 bytes");
        Ed25519PublicKey(bytes)
    }

    /// What OpenSSH makes with a software key.
    fn sign(pair: &Ed25519KeyPair, namespace: &str, message: &[u8]) -> Vec<u8> {
        let data = SshSig::signed_data(namespace, HashAlg::Sha512, message).expect("data");
        let signature = Signature::new(Algorithm::Ed25519, pair.sign(&data).as_ref());
        pem(public(pair).into(), namespace, signature.expect("64 bytes"))
    }

    /// What OpenSSH makes with a FIDO authenticator.
    fn sign_in_hardware(pair: &Ed25519KeyPair, flags: u8) -> (KeyData, Vec<u8>) {
        let data = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, PLAN).expect("data");
        let counter = [flags, 0, 0, 0, 9];
        let mut signed = digest(&SHA256, b"ssh:").as_ref().to_vec();
        signed.extend(counter);
        signed.extend(digest(&SHA256, &data).as_ref());
        let mut bytes = pair.sign(&signed).as_ref().to_vec();
        bytes.extend(counter);
        let signature = Signature::new(Algorithm::SkEd25519, bytes).expect("69 bytes");
        let key = KeyData::from(SkEd25519::new(public(pair), "ssh:"));
        (key.clone(), pem(key, NAMESPACE, signature))
    }

    fn pem(key: KeyData, namespace: &str, signature: Signature) -> Vec<u8> {
        let signature = SshSig::new(key, namespace, HashAlg::Sha512, signature).expect("fits");
        let text = signature.to_pem(LineEnding::LF).expect("encodes");
        text.into_bytes()
    }

    fn signer<'o>(
        signature: &[u8],
        plan: &[u8],
        operators: &'o [(&'o str, OperatorKey)],
    ) -> Result<&'o str, SignatureFault> {
        let operators = operators.iter().map(|(name, key)| (*name, key));
        PlanSignature::parse(signature)?.signer(plan, operators)
    }

    #[test]
    fn a_signature_is_of_one_operator_for_one_plan_and_one_purpose() {
        let (alice, bob) = (pair(), pair());
        let operators = [("alice", &alice), ("bob", &bob)]
            .map(|(name, pair)| (name, OperatorKey(public(pair).into())));
        let of_bob = sign(&bob, NAMESPACE, PLAN);
        assert_eq!(signer(&of_bob, PLAN, &operators), Ok("bob"));
        assert_eq!(
            signer(&of_bob, b"{\"a\": 2}\n", &operators),
            Err(SignatureFault::OtherDocument)
        );
        let unknown = signer(&of_bob, PLAN, &operators[..1]);
        let fingerprint = operators[1].1.fingerprint();
        assert!(fingerprint.starts_with("SHA256:"), "{fingerprint}");
        assert_eq!(unknown, Err(SignatureFault::UnknownKey(fingerprint)));
        let for_git = sign(&bob, "git", PLAN);
        assert_eq!(
            signer(&for_git, PLAN, &operators),
            Err(SignatureFault::Namespace("git".into()))
        );
        for at in [40, 200] {
            let mut damaged = of_bob.clone();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            assert!(signer(&damaged, PLAN, &operators).is_err(), "byte {at}");
        }
        for text in [&b""[..], b"approved", &of_bob[..100]] {
            assert_eq!(
                signer(text, PLAN, &operators),
                Err(SignatureFault::NotASignature)
            );
        }
    }

    #[test]
    fn a_hardware_key_must_have_been_touched() {
        let pair = pair();
        let (key, touched) = sign_in_hardware(&pair, USER_PRESENT);
        let operators = [("alice", OperatorKey(key))];
        assert_eq!(signer(&touched, PLAN, &operators), Ok("alice"));
        let (_, untouched) = sign_in_hardware(&pair, 0);
        assert_eq!(
            signer(&untouched, PLAN, &operators),
            Err(SignatureFault::NotTouched)
        );
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        let line = PublicKey::from(KeyData::from(public(&pair()))).to_openssh();
        let line = line.expect("encodes");
        let key = OperatorKey::parse(&line).expect("a key");
        let commented = OperatorKey::parse(&format!(" {line} alice@example\n"));
        assert_eq!(commented, Ok(key));
        for kind in [
            "ssh-rsa",
            "ecdsa-sha2-nistp256",
            "sk-ecdsa-sha2-nistp256@openssh.com",
            "ssh-ed25519-cert-v01@openssh.com",
        ] {
            let line = format!("{kind} AAAAB3NzaC1yc2EAAAADAQABAAAAgQC1");
            assert_eq!(OperatorKey::parse(&line), Err(KeyFault::Kind), "{kind}");
        }
        for text in ["", "ssh-ed25519", "ssh-ed25519 AAAA", &line[..40]] {
            assert_eq!(OperatorKey::parse(text), Err(KeyFault::NotAKey), "{text}");
        }
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA";
        assert_eq!(OperatorKey::parse(private), Err(KeyFault::Private));
        let twice = format!("{line}\n{line}");
        assert_eq!(OperatorKey::parse(&twice), Err(KeyFault::NotAKey));
    }
}
