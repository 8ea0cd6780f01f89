//! Secrets that are whole files: told by their first bytes and their length.

/// How many first bytes are kept.
pub(super) const LENGTH: usize = 32;

/// One private key in DER that fills the file: PKCS#8 (RFC 5958), plain or encrypted, PKCS#1 (RFC 8017), SEC 1 (RFC 5915).
pub(super) fn is_der_key(head: &[u8], size_bytes: u64) -> bool {
    let Some(content) = sequence(head, size_bytes) else {
        return false;
    };
    // A version, then the algorithm, a long modulus, or the key itself.
    let plain: [&[u8]; 4] = [
        &[0x02, 0x01, 0x00, 0x30],
        &[0x02, 0x01, 0x01, 0x30],
        &[0x02, 0x01, 0x00, 0x02, 0x82],
        &[0x02, 0x01, 0x01, 0x04],
    ];
    // id-PBES2, and the older schemes of PKCS#5 and PKCS#12.
    let encrypted: [&[u8]; 2] = [
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05],
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01],
    ];
    let algorithm = match content {
        [0x30, length, 0x06, _, rest @ ..] if *length < 0x80 => Some(rest),
        [0x30, 0x81, _, 0x06, _, rest @ ..] => Some(rest),
        _ => None,
    };
    plain.iter().any(|begin| content.starts_with(begin))
        || algorithm.is_some_and(|object| encrypted.iter().any(|id| object.starts_with(id)))
}

/// The beginning of the content of a SEQUENCE that is as long as the file.
fn sequence(head: &[u8], size_bytes: u64) -> Option<&[u8]> {
    let (header, length) = match head {
        [0x30, length @ 0..=0x7f, ..] => (2, u64::from(*length)),
        [0x30, 0x81, length, ..] => (3, u64::from(*length)),
        [0x30, 0x82, high, low, ..] => (4, u64::from(*high) << 8 | u64::from(*low)),
        _ => return None,
    };
    (length + header as u64 == size_bytes).then(|| &head[header..])
}

/// A keytab of MIT Kerberos, version 2: an entry with a principal of few parts.
pub(super) fn is_keytab(head: &[u8], size_bytes: u64) -> bool {
    match head {
        [0x05, 0x02, 0, 0, high, low, 0, parts @ 1..=4, ..] => {
            let entry = u64::from(*high) << 8 | u64::from(*low);
            entry >= 20 && entry + 6 <= size_bytes && *parts > 0
        }
        _ => false,
    }
}

/// A database of `KeePass`, version 1 or 2.
pub(super) fn is_keepass(head: &[u8], _: u64) -> bool {
    matches!(
        head,
        [0x03, 0xd9, 0xa2, 0x9a, 0x65..=0x67, 0xfb, 0x4b, 0xb5, ..]
    )
}
