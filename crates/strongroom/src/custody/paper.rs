//! The sheet of paper for a custodian without an identity of his own.

use strongroom_core::custody::{CustodyRecord, Share};
use zeroize::Zeroizing;

use crate::report::when;
use crate::sheet::{Block, Sheet, Step};

/// The sheet for one share.
pub(crate) fn paper_sheet(share: &Share, record: &CustodyRecord) -> Sheet {
    let custodian = record.custodian(share.index());
    let custodian = custodian
        .map_or("?", |custodian| &custodian.name)
        .to_owned();
    let (needed, count) = (record.threshold, record.custodians.len());
    let words = share.to_words();
    let words = words.split(' ').map(|word| Zeroizing::new(word.to_owned()));
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let others = record.custodians.iter().map(|one| one.name.as_str());
    let others: Vec<&str> = others.filter(|name| *name != custodian).collect();
    Sheet {
        title: format!("Share of the identity {} for {custodian}", record.name),
        subtitle: format!("Share {} of {count}. Any {needed} of them open.", share.index()),
        blocks: vec![
            Block::Notice(format!(
                "Secret. Any {needed} of the {count} shares together open the backups of a certificate authority. Keep this sheet \
                 where only you get at it, in a sealed envelope, and tell the others when it is lost or was seen."
            )),
            Block::Table {
                head: vec![],
                rows: vec![
                    row("What", "One share of the private key that opens backups made with Strongroom. Alone it opens nothing and tells nothing.".into()),
                    row("Custodian", custodian),
                    row("Set", format!("{}, made {}", record.set, when(record.created))),
                    row("Needed", format!("{needed} of {count} shares")),
                    row("Others", others.join(", ")),
                ],
            },
            Block::Paragraph("It opens what is sealed to this recipient:".into()),
            Block::Literal(Zeroizing::new(record.recipient.clone())),
            Block::Heading("The share, to be scanned".into()),
            Block::Qr {
                text: share.to_line(),
                caption: "The QR code holds one line of text, SRSHARE1 and 74 characters more, the last six of them a checksum. \
                          Scan it with a device that sends nothing anywhere; save the line as a file."
                    .into(),
            },
            Block::PageBreak,
            Block::Heading("The same share, to be typed".into()),
            Block::Words(words.collect()),
            Block::Paragraph(
                "The words are of the BIP-39 English list; the first four letters of each are enough. A checksum is among them: \
                 a wrong word is found, and its place told."
                    .into(),
            ),
            Block::Heading("At 3 a.m., when backups must be opened".into()),
            Block::Steps(vec![
                Step::new(format!(
                    "Somebody runs a restore that waits for {needed} shares and tells you the path of its socket. Ask who it is, \
                     and for what; your taking part is put on record."
                )),
                Step::new("Log in to that machine and give your share. You are asked for it; nothing you type is shown.")
                    .code("strongroom custody combine --socket PATH"),
                Step::new(
                    "Put the sheet back into a new sealed envelope. If anybody has seen the words, a new set must be made: \
                     strongroom custody create, then custody rotate.",
                ),
            ]),
            Block::Heading("Twice a year".into()),
            Block::Steps(vec![
                Step::new("Show that you can read it: on a machine that you trust, with the custody record, a file without secrets.")
                    .code("strongroom custody rehearse --record FILE --out rehearsal.json"),
                Step::new("Send the file rehearsal.json to whoever runs the backups. It proves that you have the share, and does not hold it."),
            ]),
            Block::Heading("Without Strongroom".into()),
            Block::Paragraph(
                "The form of shares is specified in docs/format.md, section 13. The script tools/reader.py, with the file words.txt beside it, \
                 puts them together and restores; each share in a file of its own, as line or as words."
                    .into(),
            ),
            Block::Code(format!(
                "python3 reader.py restore REPOSITORY --label latest --out DIRECTORY --share{}",
                " FILE".repeat(usize::from(needed))
            )),
        ],
    }
}
