//! The dealer: makes an identity, splits it, and proves the shares before they leave.

use std::io::{Read as _, Write as _};

use blahaj::Sharks;
use zeroize::Zeroizing;

use super::CustodyError;
use super::quorum::combine;
use super::secret::SecretIdentity;
use super::share::{Share, are_numbers, set_id};
use crate::format::SetId;

const PROBE: &[u8] = b"sealed to the recipient, opened by a quorum";

/// An identity that was split. The identity itself is gone.
pub struct Dealt {
    /// The recipient, for configurations.
    pub recipient: String,
    /// The name of the set.
    pub set: SetId,
    /// The shares, one a custodian, in their order.
    pub shares: Vec<Share>,
    /// How many quorums were proved: all that there are.
    pub quorums: usize,
    /// Whether the system kept the identity out of swap.
    pub is_locked: bool,
}

/// Makes a new identity and splits it so that any `threshold` of the `custodians` shares open it.
///
/// Before this returns, every quorum has rebuilt the identity, and one of them has opened what was sealed to the recipient.
pub fn deal(threshold: u8, custodians: usize) -> Result<Dealt, CustodyError> {
    if !are_numbers(threshold, custodians) {
        return Err(CustodyError::Numbers {
            threshold,
            custodians,
        });
    }
    let identity = SecretIdentity::generate()?;
    split(&identity, threshold, custodians)
}

pub(super) fn split(
    identity: &SecretIdentity,
    threshold: u8,
    custodians: usize,
) -> Result<Dealt, CustodyError> {
    let recipient = identity.recipient();
    let set = set_id(&recipient, threshold);
    let dealer = Sharks(threshold).dealer(identity.bytes());
    let shares: Vec<Share> = dealer
        .take(custodians)
        .map(|dealt| {
            let mut value = Zeroizing::new([0; 32]);
            for (to, from) in value.iter_mut().zip(&dealt.y) {
                *to = from.0;
            }
            Share::new(set, threshold, dealt.x.0, &value)
        })
        .collect();
    let mut quorums = 0;
    for chosen in subsets(shares.len(), usize::from(threshold)) {
        let quorum: Vec<&Share> = chosen.iter().map(|&index| &shares[index]).collect();
        let again = combine(&quorum).ok_or(CustodyError::NotProved("a quorum gives nothing"))?;
        if again.bytes() != identity.bytes() {
            return Err(CustodyError::NotProved("a quorum gives another identity"));
        }
        if quorums == 0 {
            probe(&recipient, &again)?;
        }
        quorums += 1;
    }
    Ok(Dealt {
        recipient,
        set,
        shares,
        quorums,
        is_locked: identity.is_locked(),
    })
}

/// Seals a text to the recipient and opens it with what a quorum gave.
fn probe(recipient: &str, identity: &SecretIdentity) -> Result<(), CustodyError> {
    let failed = CustodyError::NotProved("a probe does not open");
    let round_trip = || {
        let recipient: age::x25519::Recipient = recipient.parse().ok()?;
        let recipients = std::iter::once(&recipient as &dyn age::Recipient);
        let mut sealed = Vec::new();
        let encryptor = age::Encryptor::with_recipients(recipients).ok()?;
        let mut writer = encryptor.wrap_output(&mut sealed).ok()?;
        writer.write_all(PROBE).ok()?;
        writer.finish().ok()?;
        let decryptor = age::Decryptor::new(sealed.as_slice()).ok()?;
        let identity = identity.to_identity();
        let identities = std::iter::once(&*identity as &dyn age::Identity);
        let mut opened = Vec::new();
        let mut reader = decryptor.decrypt(identities).ok()?;
        reader.read_to_end(&mut opened).ok()?;
        (opened == PROBE).then_some(())
    };
    round_trip().ok_or(failed)
}

/// All ways to choose `size` of `count` things, at most 16.
pub(super) fn subsets(count: usize, size: usize) -> impl Iterator<Item = Vec<usize>> {
    (0u32..1 << count)
        .filter(move |mask| mask.count_ones() as usize == size)
        .map(move |mask| (0..count).filter(|bit| mask >> bit & 1 == 1).collect())
}
