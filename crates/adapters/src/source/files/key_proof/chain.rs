//! The chain of a certificate: is each one valid now, did the next one sign it, and may it?

use jiff::Timestamp;

use super::quoted;
use crate::key_material::{Certificate, Issued};
use crate::source::files::findings::Quoted;

#[cfg(test)]
mod tests;

/// How long a chain is followed.
const CHAIN_MAX: usize = 16;

/// Says when a certificate or one above it is not valid now, where its chain breaks, and who in it may not sign certificates. A
/// chain that ends is none of them: roots are often left out.
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
    let mut seen = vec![at.sha256];
    let mut between = 0;
    while seen.len() <= CHAIN_MAX {
        let is_first = seen.len() == 1;
        let subject = if is_first {
            format!("the certificate {path}")
        } else {
            format!(
                "the certificate of {} in the chain of {path}",
                quoted(&at.subject)
            )
        };
        if now > at.not_after {
            notes.push(format!("{subject} expired on {}", at.not_after));
        } else if now < at.not_before {
            notes.push(format!("{subject} is not valid before {}", at.not_before));
        }
        let is_self_issued = at.is_self_issued();
        if is_self_issued && at.is_signed_by(at) != Issued::No {
            return;
        }
        if !is_first {
            check_issuer(&subject, at, between, notes);
            between += usize::from(!is_self_issued);
        }
        let all = behind.iter().chain(others);
        let by_name: Vec<&Certificate> = all
            .filter(|one| one.is_named_as_issuer_of(at) && !seen.contains(&one.sha256))
            .collect();
        if by_name.is_empty() && is_self_issued {
            // One that says so is a new key under the old one, or the other way round.
            if !at.is_by_another_key() {
                notes.push(format!(
                    "{subject} names itself as its issuer, and its own key did not sign it"
                ));
            }
            return;
        }
        if by_name.is_empty() {
            if is_first && !behind.is_empty() {
                notes.push(format!(
                    "the chain in {path} does not build: it has no certificate of {}, the issuer of the first",
                    quoted(&at.issuer)
                ));
            }
            return;
        }
        let issued = |answer| {
            by_name
                .iter()
                .filter(move |one| at.is_signed_by(one) == answer)
        };
        // A renewed one has the same name and the same key.
        let valid = issued(Issued::Yes).find(|one| one.is_valid_at(now));
        match valid.or_else(|| issued(Issued::Yes).next()) {
            Some(next) => at = next,
            None if issued(Issued::Unknown).next().is_some() => return,
            None if at.is_by_another_key() && is_self_issued => return,
            None => {
                notes.push(format!(
                    "the chain of {path} does not build: the key of {} did not sign the certificate of {}",
                    quoted(&at.issuer),
                    quoted(&at.subject)
                ));
                return;
            }
        }
        seen.push(at.sha256);
    }
}

/// Says why one that signed another, and is no root, may not have done so (RFC 5280, section 6.1.4).
fn check_issuer(subject: &str, at: &Certificate, between: usize, notes: &mut Vec<String>) {
    if let Some(why) = at.why_no_issuer() {
        notes.push(format!("{subject} may not sign certificates: {why}"));
    }
    let length = at.path_length().map(usize::from);
    if let Some(length) = length.filter(|length| between > *length) {
        notes.push(format!(
            "{subject} allows {length} CAs below it, and has {between}"
        ));
    }
}
