//! Properties: any quorum combines, fewer tell nothing, every change is found.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;

use super::dealer::{split, subsets};
use super::quorum::combine;
use super::*;
use crate::format::writer_key::WriterKey;

fn record(dealt: &Dealt, key: &WriterKey) -> CustodyRecord {
    let custodians: Vec<_> = (1..=dealt.shares.len())
        .map(|index| (format!("custodian-{index}"), None))
        .collect();
    let now = Timestamp::UNIX_EPOCH;
    CustodyRecord::new("ca", dealt, &custodians, now, "test", &key.signing).expect("described")
}

fn text(share: &Share) -> ShareText {
    ShareText {
        share: share.clone(),
        custodian: None,
    }
}

/// The same share with one bit of its value turned; its checksums are right.
fn forged(share: &Share) -> Share {
    let mut value = *share.value();
    value[7] ^= 1;
    Share::new(share.set(), share.threshold(), share.index(), &value)
}

fn numbers() -> impl Strategy<Value = (u8, usize)> {
    (1usize..=16).prop_flat_map(|n| (1..=u8::try_from(n).expect("small"), Just(n)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_quorum_in_any_order_opens((threshold, count) in numbers(), seed in any::<u64>()) {
        let dealt = deal(threshold, count).expect("dealt");
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|index| (*index as u64 + 1).wrapping_mul(seed | 1).rotate_left(17));
        let mut quorum = Quorum::of(&dealt.shares[0], None);
        for (given, index) in order.iter().take(usize::from(threshold)).enumerate() {
            match quorum.offer(text(&dealt.shares[*index])).expect("taken") {
                Accepted::Waiting { missing } => {
                    prop_assert_eq!(missing + given + 1, usize::from(threshold));
                }
                Accepted::Complete { identity, false_shares } => {
                    prop_assert_eq!(given + 1, usize::from(threshold));
                    prop_assert_eq!(identity.recipient(), dealt.recipient.clone());
                    prop_assert!(false_shares.is_empty());
                }
                Accepted::Disagree => prop_assert!(false, "good shares disagree"),
            }
        }
    }

    /// With one share too few, every secret is as possible as any other: for a wrong guess of the secret there is a
    /// last share that would give it.
    #[test]
    fn one_too_few_fit_every_secret(guess in any::<[u8; 32]>(), threshold in 2u8..6) {
        let dealt = deal(threshold, usize::from(threshold)).expect("dealt");
        let (last, known) = dealt.shares.split_last().expect("shares");
        // combine() is linear in each value: 0 and 1 in a byte of the last give the factor that it enters with.
        let with = |value: [u8; 32]| {
            let last = Share::new(last.set(), threshold, last.index(), &value);
            let mut all: Vec<&Share> = known.iter().collect();
            all.push(&last);
            *combine(&all).expect("combined").bytes()
        };
        let mut found = [0; 32];
        for candidate in 0..=255u8 {
            let secret = with([candidate; 32]);
            for (position, byte) in found.iter_mut().enumerate() {
                if secret[position] == guess[position] {
                    *byte = candidate;
                }
            }
        }
        prop_assert_eq!(with(found), guess);
    }

    #[test]
    fn both_forms_read_back((threshold, count) in numbers()) {
        let dealt = deal(threshold, count).expect("dealt");
        for share in &dealt.shares {
            for form in [share.to_line(), share.to_words()] {
                let again = parse_share(&form).expect("own text").share;
                prop_assert_eq!(again.to_bytes(), share.to_bytes());
                let lower = parse_share(&form.to_ascii_lowercase()).expect("lower case").share;
                prop_assert_eq!(lower.to_bytes(), share.to_bytes());
            }
        }
    }

    #[test]
    fn a_flipped_byte_is_found(position in 0usize..82, bits in 1u8..=255) {
        let dealt = deal(2, 3).expect("dealt");
        let mut line = dealt.shares[0].to_line().as_bytes().to_vec();
        line[position] ^= bits;
        let read = String::from_utf8(line).ok().map(|line| parse_share(&line));
        // White space in a line is how people break it; what is missing then is found too.
        prop_assert!(read.is_none_or(|read| read.is_err()));
    }

    #[test]
    fn nothing_read_panics(text in "\\PC{0,400}") {
        let _ = parse_share(&text);
    }

    #[test]
    fn a_changed_share_is_named(threshold in 1u8..5, extra in 0usize..3, bad in 0usize..8) {
        let key = WriterKey::generate().expect("random bytes");
        let dealt = deal(threshold, usize::from(threshold) + extra).expect("dealt");
        let bad = bad % dealt.shares.len();
        let changed = forged(&dealt.shares[bad]);
        let mut quorum = Quorum::of(&dealt.shares[0], Some(record(&dealt, &key)));
        let refused = quorum.offer(text(&changed)).expect_err("changed");
        let who = format!("the share of custodian-{}", bad + 1);
        prop_assert_eq!(refused, Refusal::Changed { who });
    }
}

proptest! {
    // Looking for the wrong word tries 67584 others.
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn a_wrong_word_is_found_and_its_place_told(position in 0usize..WORDS, step in 1usize..2048) {
        let dealt = deal(2, 3).expect("dealt");
        let words = dealt.shares[1].to_words();
        let mut words: Vec<&str> = words.split(' ').collect();
        let list = bip39::Language::English.word_list();
        let number = usize::from(read_word(words[position]).expect("a word"));
        words[position] = list[(number + step) % 2048];
        let error = parse_share(&words.join(" ")).expect_err("a wrong word");
        prop_assert_eq!(error, ShareError::WordChecksum(Some(position + 1)));
    }
}

#[test]
fn an_identity_is_the_bytes_that_age_spells() {
    let text = "AGE-SECRET-KEY-1RN7JKET8TGN080TS2FXFHEC6VU3DR7MMWZ6JP5ESZ4GN2HVM3SYQ85XYRQ";
    let (_, bytes) = bech32::decode(text).expect("bech32");
    let identity = SecretIdentity::from_slice(&bytes).expect("32 bytes");
    assert!(identity.is_spelt(text));
    let dealt = split(&identity, 3, 5).expect("split");
    assert_eq!(dealt.quorums, 10);
    assert_eq!(dealt.recipient, identity.recipient());
}

#[test]
fn the_worked_shares_of_the_format_combine() {
    let page = include_str!("../../../../docs/format.md");
    let identity = page
        .lines()
        .find(|line| line.starts_with("AGE-SECRET-KEY-12"));
    let (_, worked) = page.split_once("### Worked shares").expect("a section");
    let lines = worked
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("SRSHARE1"));
    let mut shares: Vec<Share> = lines
        .map(|line| parse_share(line).expect("a line").share)
        .collect();
    let mut rest = worked;
    while let Some(begin) = rest.find("absurd ") {
        let words: Vec<&str> = rest[begin..].split_whitespace().take(WORDS).collect();
        shares.push(parse_share(&words.join(" ")).expect("words").share);
        rest = &rest[begin + 7..];
    }
    let indices: Vec<u8> = shares.iter().map(Share::index).collect();
    assert_eq!(indices, [1, 2, 1, 3]);
    assert_eq!(shares[0].to_bytes(), shares[2].to_bytes());
    for pair in [[0, 1], [1, 3], [3, 0]] {
        let pair = pair.map(|index| &shares[index]);
        let found = combine(&pair).expect("combined");
        assert!(found.is_spelt(identity.expect("the identity of section 11")));
        assert_eq!(set_id(&found.recipient(), 2), shares[0].set());
    }
}

#[test]
fn impossible_numbers_are_refused() {
    for (threshold, custodians) in [(0, 1), (2, 1), (1, 0), (1, 17), (17, 17)] {
        deal(threshold, custodians).err().expect("refused");
    }
    assert_eq!(deal(8, 16).expect("dealt").quorums, 12870);
}

#[test]
fn shares_of_two_sets_differ_in_everything() {
    let sets: Vec<_> = (0..4).map(|_| deal(2, 3).expect("dealt")).collect();
    let names: BTreeSet<_> = sets.iter().map(|dealt| dealt.set).collect();
    let values: BTreeSet<_> = sets
        .iter()
        .flat_map(|dealt| dealt.shares.iter().map(|share| *share.value()))
        .collect();
    assert_eq!((names.len(), values.len()), (4, 12));
}

#[test]
fn each_wrong_share_is_told_apart() {
    let key = WriterKey::generate().expect("random bytes");
    let (dealt, other) = (deal(3, 5).expect("dealt"), deal(3, 5).expect("dealt"));
    let mut quorum = Quorum::of(&dealt.shares[0], Some(record(&dealt, &key)));
    quorum.offer(text(&dealt.shares[0])).expect("taken");
    let refused =
        |quorum: &mut Quorum, text: ShareText| quorum.offer(text).expect_err("refused").to_string();
    assert_eq!(
        refused(&mut quorum, text(&dealt.shares[0])),
        "the share of custodian-1 is there already"
    );
    assert_eq!(
        refused(&mut quorum, text(&other.shares[1])),
        format!("share 2 is of the set {}, not of {}", other.set, dealt.set)
    );
    let mut swapped = text(&dealt.shares[1]);
    swapped.custodian = Some("custodian-4".into());
    assert_eq!(
        refused(&mut quorum, swapped),
        "what is said to be the share of custodian-4 is the share of custodian-2"
    );
    let beyond = Share::new(dealt.set, 3, 9, dealt.shares[1].value());
    assert_eq!(
        refused(&mut quorum, text(&beyond)),
        "the set has no share 9"
    );
    assert_eq!(quorum.names(), ["the share of custodian-1"]);
}

#[test]
fn without_a_record_more_shares_find_the_false_one() {
    let dealt = deal(3, 5).expect("dealt");
    let mut quorum = Quorum::of(&dealt.shares[0], None);
    let mut offer = |share: &Share| quorum.offer(text(share));
    assert!(matches!(
        offer(&dealt.shares[0]),
        Ok(Accepted::Waiting { missing: 2 })
    ));
    assert!(matches!(
        offer(&forged(&dealt.shares[1])),
        Ok(Accepted::Waiting { missing: 1 })
    ));
    assert!(matches!(offer(&dealt.shares[2]), Ok(Accepted::Disagree)));
    assert!(matches!(
        offer(&dealt.shares[1]),
        Err(Refusal::Contradicts { .. })
    ));
    match offer(&dealt.shares[3]).expect("taken") {
        Accepted::Complete {
            identity,
            false_shares,
        } => {
            assert_eq!(identity.recipient(), dealt.recipient);
            assert_eq!(false_shares, ["share 2"]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_have_names_and_nothing_secret_shows() {
    let key = WriterKey::generate().expect("random bytes");
    let dealt = deal(2, 3).expect("dealt");
    let record = record(&dealt, &key);
    let file = dealt.shares[1].to_file(&record);
    let read = parse_share(&file).expect("own text");
    assert_eq!(read.custodian.as_deref(), Some("custodian-2"));
    let line = dealt.shares[1].to_line();
    assert!(is_share_text(&line) && is_share_text(&file) && !is_share_text("abandon"));
    let shown = format!("{read:?} {:?}", record.sign(&key.signing));
    assert!(!shown.contains(&line[20..40]), "{shown}");
}

#[test]
fn other_things_are_recognised() {
    for (text, expected) in [
        ("", "there is no share in it"),
        ("# only a comment\n", "there is no share in it"),
        (
            "AGE-SECRET-KEY-1HUNTER2",
            "it is not a share but an identity",
        ),
        (
            "age-encryption.org/v1\n",
            "it is not a share but a sealed file",
        ),
        (
            "age1hunter2",
            "it is not a share but a recipient, the public half of an identity",
        ),
        ("abandon hunter2", "word 2 is not in the list"),
        ("abandon ability able", "it has 3 words, a share has 33"),
        (
            "srshare1hunter2",
            "its checksum is wrong: a character is wrong, missing, or two changed places",
        ),
    ] {
        let error = parse_share(text).expect_err("refused").to_string();
        assert_eq!(error, expected);
    }
    let sheet = deal(1, 1).expect("dealt").shares[0].to_words();
    let numbered: Vec<String> = sheet
        .split(' ')
        .enumerate()
        .map(|(index, word)| format!("{}. {}", index + 1, word.get(..4).unwrap_or(word)))
        .collect();
    parse_share(&numbered.join("\n")).expect("numbers and four letters");
}

#[test]
fn records_and_statements_are_bound_to_their_keys() {
    let key = WriterKey::generate().expect("random bytes");
    let dealt = deal(2, 3).expect("dealt");
    let record = record(&dealt, &key);
    assert_eq!(
        CustodyRecord::open(&record.sign(&key.signing)).expect("opens"),
        record
    );
    for change in [
        |record: &mut CustodyRecord| record.threshold = 1,
        |record: &mut CustodyRecord| record.threshold = 9,
        |record: &mut CustodyRecord| record.recipient.push('q'),
        |record: &mut CustodyRecord| record.custodians[0].name = "custodian-2".into(),
        |record: &mut CustodyRecord| record.custodians[0].key.truncate(8),
    ] {
        let mut changed = record.clone();
        change(&mut changed);
        CustodyRecord::open(&changed.sign(&key.signing)).expect_err("refused");
    }
    let other = WriterKey::generate().expect("random bytes");
    CustodyRecord::open(&record.sign(&other.signing)).expect_err("another key");
    let mut revocation = Revocation {
        format: 1,
        set: dealt.set,
        time: Timestamp::UNIX_EPOCH,
        reason: "a sheet was seen".into(),
        tool: "test".into(),
        writer: key.signing.verifying_key().to_base64(),
    };
    let signed = revocation.sign(&key.signing);
    assert_eq!(Revocation::open(&signed).expect("opens"), revocation);
    revocation.writer = other.signing.verifying_key().to_base64();
    Revocation::open(&revocation.sign(&key.signing)).expect_err("another key");
    let rehearsal = Rehearsal {
        format: 1,
        set: dealt.set,
        index: 2,
        time: Timestamp::UNIX_EPOCH,
        tool: "test".into(),
    };
    let signed = rehearsal.sign(&dealt.shares[1]).expect("signed");
    assert_eq!(Rehearsal::open(&signed, &record).expect("opens"), rehearsal);
    let by_another = rehearsal.sign(&dealt.shares[0]).expect("signed");
    Rehearsal::open(&by_another, &record).expect_err("another share");
    assert_eq!(subsets(4, 2).count(), 6);
}
