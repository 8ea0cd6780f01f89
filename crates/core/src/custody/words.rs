//! A share as 33 English words (BIP-39 list), which can be written down and typed.

use bip39::Language;
use zeroize::Zeroizing;

use super::ShareError;
use super::share::{SHARE_BYTES, Share};
use crate::format::id::Hasher;

/// How many words a share has.
pub const WORDS: usize = 33;
const WORD_BITS: usize = 11;
const DOMAIN: &str = "strongroom custody words v1\n";
/// The words' bits rounded up to bytes: the share, 27 bits of checksum, 5 bits of zero.
const BYTES: usize = (WORDS * WORD_BITS).div_ceil(8);
/// So many letters tell a word from all others.
const LETTERS: usize = 4;

/// The numbers of the words.
pub(super) fn to_words(share: &Share) -> Zeroizing<String> {
    let bytes = with_checksum(&share.to_bytes());
    // The longest word has eight letters; one allocation that never moves.
    let mut text = Zeroizing::new(String::with_capacity(WORDS * 9));
    for position in 0..WORDS {
        let mut number = 0;
        for bit in position * WORD_BITS..(position + 1) * WORD_BITS {
            number = number << 1 | usize::from(bytes[bit / 8] >> (7 - bit % 8) & 1);
        }
        if position > 0 {
            text.push(' ');
        }
        text.push_str(Language::English.word_list()[number]);
    }
    text
}

/// The number of a word of the list; upper and lower case are the same, and the first four letters are enough.
pub fn read_word(word: &str) -> Option<u16> {
    let lower = Zeroizing::new(word.to_ascii_lowercase());
    if let Some(number) = Language::English.find_word(&lower) {
        return Some(number);
    }
    if lower.len() < LETTERS || !lower.is_ascii() {
        return None;
    }
    let mut found = Language::English.words_by_prefix_iter(&lower);
    match (found.next(), found.next()) {
        (Some(word), None) => Language::English.find_word(word),
        _ => None,
    }
}

/// Reads the words; tokens that are numbers, as they stand on a sheet, are skipped.
pub(super) fn from_words(text: &str) -> Result<Share, ShareError> {
    let mut numbers = Zeroizing::new(Vec::with_capacity(WORDS));
    let mut count = 0;
    for token in text.split_whitespace() {
        let is_number = |token: &str| {
            let digits = token.trim_end_matches(['.', ')', ':']);
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        if is_number(token) {
            continue;
        }
        count += 1;
        if count <= WORDS {
            numbers.push(read_word(token).ok_or(ShareError::UnknownWord(count))?);
        }
    }
    if count != WORDS {
        return Err(ShareError::WordCount(count));
    }
    decode(&numbers).ok_or_else(|| ShareError::WordChecksum(suspect(&numbers)))?
}

/// The share of so many words, if their checksum holds.
fn decode(numbers: &[u16]) -> Option<Result<Share, ShareError>> {
    let mut bytes = Zeroizing::new([0u8; BYTES]);
    for (position, number) in numbers.iter().enumerate() {
        for offset in 0..WORD_BITS {
            let bit = position * WORD_BITS + offset;
            let value = u8::try_from(number >> (WORD_BITS - 1 - offset) & 1).expect("one bit");
            bytes[bit / 8] |= value << (7 - bit % 8);
        }
    }
    let share = bytes.first_chunk::<SHARE_BYTES>().expect("it is longer");
    (*with_checksum(share) == *bytes).then(|| Share::from_bytes(share))
}

/// The only word that can be replaced by another so that all is well, if there is one.
fn suspect(numbers: &[u16]) -> Option<usize> {
    let mut found = None;
    let mut tried = Zeroizing::new(numbers.to_vec());
    for position in 0..numbers.len() {
        for number in 0..1 << WORD_BITS {
            tried[position] = number;
            if decode(&tried).is_some() && found.replace(position + 1).is_some() {
                return None;
            }
        }
        tried[position] = numbers[position];
    }
    found
}

fn with_checksum(share: &[u8; SHARE_BYTES]) -> Zeroizing<[u8; BYTES]> {
    let mut hasher = Hasher::new();
    hasher.update(DOMAIN.as_bytes());
    hasher.update(share);
    let digest = hasher.finish();
    let mut bytes = Zeroizing::new([0; BYTES]);
    bytes[..SHARE_BYTES].copy_from_slice(share);
    bytes[SHARE_BYTES..].copy_from_slice(&digest.as_bytes()[..BYTES - SHARE_BYTES]);
    // 363 bits are words, 5 are left.
    bytes[BYTES - 1] &= 0xff << (BYTES * 8 - WORDS * WORD_BITS);
    bytes
}
