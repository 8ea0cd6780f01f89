//! The chain of a certificate: is each one valid now, and did the next one sign it?

use jiff::Timestamp;

use super::quoted;
use crate::key_material::{Certificate, Issued};
use crate::source::files::findings::Quoted;

/// How long a chain is followed.
const CHAIN_MAX: usize = 16;

/// Says when a certificate or one above it is not valid now, and where its chain breaks. A chain that ends is none of them: roots
/// are often left out.
pub(super) fn check(
    path: &Quoted<'_>,
    own: &[Certificate],
    others: &[Certificate],
    now: Timestamp,
    notes: &mut Vec<String>,
) {
    let Some((mut at, behind)) = own.split_first() else {
        return;
    };
    for step in 0..CHAIN_MAX {
        let subject = match step {
            0 => format!("the certificate {path}"),
            _ => format!(
                "the certificate of {} in the chain of {path}",
                quoted(&at.subject)
            ),
        };
        if now > at.not_after {
            notes.push(format!("{subject} expired on {}", at.not_after));
        } else if now < at.not_before {
            notes.push(format!("{subject} is not valid before {}", at.not_before));
        }
        if at.is_self_issued() {
            if at.is_signed_by(at) == Issued::No {
                notes.push(format!(
                    "{subject} names itself as its issuer, and its own key did not sign it"
                ));
            }
            return;
        }
        let mut by_name = behind
            .iter()
            .chain(others)
            .filter(|one| one.subject == at.issuer)
            .peekable();
        if by_name.peek().is_none() {
            if step == 0 && !behind.is_empty() {
                notes.push(format!(
                    "the chain in {path} does not build: it has no certificate of {}, the issuer of the first",
                    quoted(&at.issuer)
                ));
            }
            return;
        }
        let mut is_unknown = false;
        let signer = by_name.find(|one| {
            let issued = at.is_signed_by(one);
            is_unknown |= issued == Issued::Unknown;
            issued == Issued::Yes
        });
        match signer {
            Some(next) => at = next,
            None if is_unknown => return,
            None => {
                notes.push(format!(
                    "the chain of {path} does not build: the key of {} did not sign the certificate of {}",
                    quoted(&at.issuer),
                    quoted(&at.subject)
                ));
                return;
            }
        }
    }
}
