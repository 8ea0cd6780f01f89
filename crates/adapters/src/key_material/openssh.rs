//! Private keys as OpenSSH writes them (PROTOCOL.key): the public half is in the clear even when they are encrypted.

use aws_lc_rs::signature as library;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair};
use der::asn1::UintRef;
use der::{Encode as _, Sequence};
use ssh_key::private::{EcdsaKeypair, KeypairData, RsaKeypair};
use ssh_key::public::{EcdsaPublicKey, KeyData};
use ssh_key::{Kdf, Mpint};
use zeroize::Zeroizing;

use super::algorithm::Curve;
use super::{Closed, KeyMaterialError, Password, PrivateKey, PublicKey};

/// How many rounds of bcrypt are made at most: some seconds. OpenSSH makes 16 or 24.
const ROUNDS_MAX: u32 = 1024;

/// A private key of OpenSSH.
pub(super) struct OpensshKey(ssh_key::PrivateKey);

impl OpensshKey {
    /// Reads what stands between the lines of the PEM block.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, KeyMaterialError> {
        ssh_key::PrivateKey::from_bytes(bytes)
            .map(Self)
            .map_err(|_| KeyMaterialError::PrivateKey)
    }

    /// Whether a password is needed.
    pub(super) fn is_encrypted(&self) -> bool {
        self.0.is_encrypted()
    }

    /// What OpenSSH calls the algorithm.
    pub(super) fn algorithm(&self) -> String {
        self.0.algorithm().to_string()
    }

    /// The public half, where it is a key that certificates have.
    pub(super) fn public_key(&self) -> Option<PublicKey> {
        let key = match self.0.public_key().key_data() {
            KeyData::Rsa(key) => {
                PublicKey::from_rsa(key.n.as_positive_bytes()?, key.e.as_positive_bytes()?)
            }
            KeyData::Ed25519(key) => PublicKey::from_ed25519(&key.0),
            KeyData::Ecdsa(key) => {
                let curve = match key {
                    EcdsaPublicKey::NistP256(_) => Curve::P256,
                    EcdsaPublicKey::NistP384(_) => Curve::P384,
                    EcdsaPublicKey::NistP521(_) => Curve::P521,
                };
                PublicKey::from_point(curve, key.as_sec1_bytes())
            }
            _ => return None,
        };
        key.ok()
    }

    /// The key, which is none that signs here in the second error.
    pub(super) fn open(
        &self,
        password: Option<&Password>,
    ) -> Result<Result<PrivateKey, KeyMaterialError>, Closed> {
        let opened;
        let key = if self.is_encrypted() {
            if matches!(self.0.kdf(), Kdf::Bcrypt { rounds, .. } if *rounds > ROUNDS_MAX) {
                return Err(Closed::Costly);
            }
            let password = password.ok_or(Closed::NoPassword)?;
            opened = self
                .0
                .decrypt(password.bytes())
                .map_err(|_| Closed::WrongPassword)?;
            &opened
        } else {
            &self.0
        };
        let wrong = || KeyMaterialError::PrivateKey;
        Ok(match key.key_data() {
            KeypairData::Ed25519(pair) => {
                let seed = Zeroizing::new(pair.private.to_bytes());
                Ed25519KeyPair::from_seed_and_public_key(&*seed, &pair.public.0)
                    .map_err(|_| wrong())
                    .and_then(PrivateKey::from_ed25519)
            }
            KeypairData::Ecdsa(pair) => {
                let (curve, scheme) = match pair {
                    EcdsaKeypair::NistP256 { .. } => {
                        (Curve::P256, &library::ECDSA_P256_SHA256_ASN1_SIGNING)
                    }
                    EcdsaKeypair::NistP384 { .. } => {
                        (Curve::P384, &library::ECDSA_P384_SHA384_ASN1_SIGNING)
                    }
                    EcdsaKeypair::NistP521 { .. } => {
                        (Curve::P521, &library::ECDSA_P521_SHA512_ASN1_SIGNING)
                    }
                };
                let (private, public) = (pair.private_key_bytes(), pair.public_key_bytes());
                EcdsaKeyPair::from_private_key_and_public_key(scheme, private, public)
                    .map_err(|_| wrong())
                    .and_then(|pair| PrivateKey::from_ecdsa(pair, curve))
            }
            KeypairData::Rsa(pair) => pkcs1(pair)
                .ok_or_else(wrong)
                .and_then(|der| PrivateKey::from_pkcs1(&der)),
            _ => Err(KeyMaterialError::Unprovable(format!(
                "{} of OpenSSH",
                self.algorithm()
            ))),
        })
    }
}

/// `RSAPrivateKey` (RFC 8017, A.1.2).
#[derive(Sequence)]
struct RsaParts<'a> {
    version: u8,
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
    private_exponent: UintRef<'a>,
    prime1: UintRef<'a>,
    prime2: UintRef<'a>,
    exponent1: UintRef<'a>,
    exponent2: UintRef<'a>,
    coefficient: UintRef<'a>,
}

/// The key in PKCS#1, which has two numbers more.
fn pkcs1(pair: &RsaKeypair) -> Option<Zeroizing<Vec<u8>>> {
    let (public, private) = (&pair.public, &pair.private);
    let d = private.d.as_positive_bytes()?;
    let exponent = |prime: &Mpint| Some(modulo_one_less(d, prime.as_positive_bytes()?));
    let (exponent1, exponent2) = (exponent(&private.p)?, exponent(&private.q)?);
    let parts = RsaParts {
        version: 0,
        modulus: uint(&public.n)?,
        public_exponent: uint(&public.e)?,
        private_exponent: uint(&private.d)?,
        prime1: uint(&private.p)?,
        prime2: uint(&private.q)?,
        exponent1: UintRef::new(&exponent1).ok()?,
        exponent2: UintRef::new(&exponent2).ok()?,
        coefficient: uint(&private.iqmp)?,
    };
    parts.to_der().ok().map(Zeroizing::new)
}

fn uint(number: &Mpint) -> Option<UintRef<'_>> {
    UintRef::new(number.as_positive_bytes()?).ok()
}

/// `number mod (prime - 1)` for an odd prime, bit by bit, in memory that is wiped; most significant byte first.
fn modulo_one_less(number: &[u8], prime: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut modulus = Zeroizing::new(prime.to_vec());
    // An even "prime" is none: the library that takes the key refuses it, whatever comes out here.
    if let Some(last) = modulus.last_mut() {
        *last &= 0xfe;
    }
    // One byte more than the modulus, for the bit that is shifted out.
    let mut rest = Zeroizing::new(vec![0_u8; modulus.len() + 1]);
    for bit in number
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1))
    {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            let out = *byte >> 7;
            *byte = *byte << 1 | carry;
            carry = out;
        }
        if rest[0] != 0 || rest[1..] >= modulus[..] {
            let mut borrow = 0_i16;
            for (index, byte) in rest.iter_mut().enumerate().rev() {
                let less = index.checked_sub(1).map_or(0, |index| modulus[index]);
                let difference = i16::from(*byte) - i16::from(less) - borrow;
                borrow = i16::from(difference < 0);
                *byte = difference.rem_euclid(256).try_into().unwrap_or(0);
            }
        }
    }
    rest
}
