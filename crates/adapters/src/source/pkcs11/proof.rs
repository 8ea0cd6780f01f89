//! Proves private keys in a token: each signs a random nonce with its handle, and the signature must verify with the certificate or
//! public key that goes by its identifier.

use aws_lc_rs::digest;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;
use strongroom_core::format::id;

use super::error::TokenError;
use super::facts::ObjectKind;
use super::module::OpenToken;
use super::objects::Object;
use super::public_key::PublicKey;
use crate::key_material::{Algorithm, Curve, Hash, Scheme};

/// `DigestInfo` of a SHA-256, up to the digest (RFC 8017, 9.2).
const SHA256_PREFIX: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// What the proof of all keys came to.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The key among the objects, and what it was shown to do.
    pub(super) shown: Vec<(usize, String)>,
    /// The key, and what does not hold.
    pub(super) problems: Vec<(usize, String)>,
    /// The key, and what could not be looked at.
    pub(super) notes: Vec<(usize, String)>,
}

/// The sentences alone.
pub(super) fn sentences(found: Vec<(usize, String)>) -> Vec<String> {
    found.into_iter().map(|(_, sentence)| sentence).collect()
}

/// Proves every private key among the objects, and writes into their facts what was proved.
pub(super) fn prove_all(token: &OpenToken, objects: &mut [Object]) -> Result<Verdict, TokenError> {
    let mut verdict = Verdict::default();
    for index in 0..objects.len() {
        if objects[index].facts.class != ObjectKind::PrivateKey {
            continue;
        }
        prove(token, objects, index, &mut verdict)?;
    }
    Ok(verdict)
}

fn prove(
    token: &OpenToken,
    objects: &mut [Object],
    index: usize,
    verdict: &mut Verdict,
) -> Result<(), TokenError> {
    let key = objects[index].clone();
    let words = key.facts.words();
    // Those that go by its identifier, and its own public part.
    let partners: Vec<usize> = (0..objects.len())
        .filter(|partner| {
            let facts = &objects[*partner].facts;
            let is_public = matches!(facts.class, ObjectKind::Certificate | ObjectKind::PublicKey);
            let same_id = !facts.id.is_empty() && facts.id == key.facts.id;
            let same_key =
                facts.spki_sha256.is_some() && facts.spki_sha256 == key.facts.spki_sha256;
            is_public && (same_id || same_key)
        })
        .collect();
    let own = key.public.as_ref();
    let first = partners
        .iter()
        .find_map(|partner| objects[*partner].public.as_ref());
    let Some(guess) = own.or(first).cloned() else {
        let why =
            "there is no certificate and no public key with its identifier, so nothing proves it";
        verdict.problems.push((index, format!("{words}: {why}")));
        return Ok(());
    };
    let facts = &mut objects[index].facts;
    facts.size_bits = facts.size_bits.or(guess.bits());
    facts.algorithm = Some(guess.algorithm().to_string());
    if facts.flag("sign") == Some(false) {
        facts.spki_sha256 = Some(guess.spki_sha256());
        let note = format!("{words} is not made for signing, and was not proved");
        verdict.notes.push((index, note));
        return Ok(());
    }
    if !can_sign_here(guess.algorithm()) {
        let note = format!(
            "{words} is of the kind {}, which is not proved in tokens",
            guess.algorithm()
        );
        verdict.notes.push((index, note));
        facts.spki_sha256 = Some(guess.spki_sha256());
        return Ok(());
    }
    let signed = match Signed::make(
        token,
        key.handle,
        guess.algorithm(),
        key.wants_pin_each_time(),
    ) {
        Ok(signed) => signed,
        Err(TokenError::Removed) => return Err(TokenError::Removed),
        Err(error) => {
            facts.proved = Some(false);
            let why = strongroom_core::error_chain(&error);
            let problem = format!("{words} does not sign: {why}");
            verdict.problems.push((index, problem));
            return Ok(());
        }
    };
    let mut proved = own
        .is_some_and(|own| signed.is_of(own))
        .then(|| own.cloned())
        .flatten();
    for partner in partners {
        let object = &mut objects[partner];
        let fits = object.public.as_ref().filter(|public| signed.is_of(public));
        object.facts.proved = Some(fits.is_some());
        let partner_words = object.facts.words();
        if let Some(public) = fits {
            let shown = format!("{words} signs what {partner_words} verifies");
            verdict.shown.push((index, shown));
            proved = Some(public.clone());
        } else {
            let problem = format!(
                "{words} does not belong to {partner_words}: its signature does not verify"
            );
            verdict.problems.push((index, problem));
        }
    }
    let facts = &mut objects[index].facts;
    facts.proved = Some(proved.is_some());
    if let Some(public) = proved {
        facts.spki_sha256 = Some(public.spki_sha256());
        objects[index].public = Some(public);
    }
    Ok(())
}

impl Object {
    /// Whether the token wants the PIN before each signature of this key.
    pub(super) fn wants_pin_each_time(&self) -> bool {
        self.facts.flag("always_authenticate") == Some(true)
    }
}

/// A nonce that a key has signed.
pub(super) struct Signed {
    scheme: Scheme,
    nonce: [u8; 32],
    signature: Vec<u8>,
}

impl Signed {
    /// Lets a key of this kind sign.
    pub(super) fn make(
        token: &OpenToken,
        key: ObjectHandle,
        algorithm: Algorithm,
        log_in_each_time: bool,
    ) -> Result<Self, TokenError> {
        let nonce = id::random::<32>()
            .map_err(|error| TokenError::Object(format!("there are no random bytes: {error}")))?;
        let (scheme, signature) = if log_in_each_time {
            sign_after_log_in(token, key, algorithm, &nonce)?
        } else {
            sign(token, key, algorithm, &nonce).map_err(TokenError::call("sign"))?
        };
        Ok(Self {
            scheme,
            nonce,
            signature,
        })
    }

    /// Whether this key has signed.
    pub(super) fn is_of(&self, public: &PublicKey) -> bool {
        public.verifies(self.scheme, &self.nonce, &self.signature)
    }
}

fn sign(
    token: &OpenToken,
    key: ObjectHandle,
    algorithm: Algorithm,
    nonce: &[u8],
) -> Result<(Scheme, Vec<u8>), Error> {
    let session = &token.session;
    let hashed = |algorithm| digest::digest(algorithm, nonce);
    let ecdsa = |algorithm, hash| {
        let signature = session.sign(&Mechanism::Ecdsa, key, hashed(algorithm).as_ref())?;
        Ok((Scheme::EcdsaRaw(hash), signature))
    };
    match algorithm {
        Algorithm::Rsa { .. } => {
            let pkcs1 = Scheme::RsaPkcs1(Hash::Sha256);
            let direct = session.sign(&Mechanism::Sha256RsaPkcs, key, nonce);
            if !is_unknown_mechanism(&direct) {
                return Ok((pkcs1, direct?));
            }
            let mut info = SHA256_PREFIX.to_vec();
            info.extend(hashed(&digest::SHA256).as_ref());
            let padded = session.sign(&Mechanism::RsaPkcs, key, &info);
            if !is_unknown_mechanism(&padded) {
                return Ok((pkcs1, padded?));
            }
            pss(token, key, nonce)
        }
        Algorithm::RsaPss { .. } => pss(token, key, nonce),
        Algorithm::Ecdsa(Curve::P256) => ecdsa(&digest::SHA256, Hash::Sha256),
        Algorithm::Ecdsa(Curve::P384) => ecdsa(&digest::SHA384, Hash::Sha384),
        Algorithm::Ecdsa(Curve::P521) => ecdsa(&digest::SHA512, Hash::Sha512),
        Algorithm::Ed25519 => Ok((Scheme::Ed25519, session.sign(&eddsa(), key, nonce)?)),
        Algorithm::MlDsa(_) | Algorithm::Other(..) => Err(Error::NotSupported),
    }
}

fn pss(token: &OpenToken, key: ObjectHandle, nonce: &[u8]) -> Result<(Scheme, Vec<u8>), Error> {
    let mechanism = Mechanism::Sha256RsaPkcsPss(PkcsPssParams {
        hash_alg: MechanismType::SHA256,
        mgf: PkcsMgfType::MGF1_SHA256,
        s_len: 32.into(),
    });
    let signature = token.session.sign(&mechanism, key, nonce)?;
    Ok((Scheme::RsaPss(Hash::Sha256), signature))
}

fn eddsa() -> Mechanism<'static> {
    Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519))
}

/// Whether a token is asked to sign with keys of an algorithm.
pub(super) fn can_sign_here(algorithm: Algorithm) -> bool {
    !matches!(algorithm, Algorithm::MlDsa(_) | Algorithm::Other(..))
}

/// The PIN goes between the beginning of the signature and its data, so the token must do the hash itself.
fn sign_after_log_in(
    token: &OpenToken,
    key: ObjectHandle,
    algorithm: Algorithm,
    nonce: &[u8],
) -> Result<(Scheme, Vec<u8>), TokenError> {
    let (mechanism, scheme) = match algorithm {
        Algorithm::Rsa { .. } => (Mechanism::Sha256RsaPkcs, Scheme::RsaPkcs1(Hash::Sha256)),
        Algorithm::Ecdsa(Curve::P256) => (Mechanism::EcdsaSha256, Scheme::EcdsaRaw(Hash::Sha256)),
        Algorithm::Ecdsa(Curve::P384) => (Mechanism::EcdsaSha384, Scheme::EcdsaRaw(Hash::Sha384)),
        Algorithm::Ecdsa(Curve::P521) => (Mechanism::EcdsaSha512, Scheme::EcdsaRaw(Hash::Sha512)),
        Algorithm::Ed25519 => (eddsa(), Scheme::Ed25519),
        Algorithm::RsaPss { .. } | Algorithm::MlDsa(_) | Algorithm::Other(..) => {
            return Err(TokenError::Object(format!(
                "keys of the kind {algorithm} that want the PIN each time are not asked to sign"
            )));
        }
    };
    let session = &token.session;
    session
        .sign_init(&mechanism, key)
        .map_err(TokenError::call("begin to sign"))?;
    token.log_in_again()?;
    session
        .sign_update(nonce)
        .map_err(TokenError::call("sign"))?;
    let signature = session.sign_final().map_err(TokenError::call("sign"))?;
    Ok((scheme, signature))
}

fn is_unknown_mechanism<T>(result: &Result<T, Error>) -> bool {
    matches!(
        result,
        Err(Error::Pkcs11(
            RvError::MechanismInvalid | RvError::MechanismParamInvalid,
            _
        ))
    )
}
