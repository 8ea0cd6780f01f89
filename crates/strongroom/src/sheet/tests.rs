//! What a sheet looks like to those who read it: people, browsers, scanners.

use super::layout::{Font, Mark, pages, width};
use super::*;

fn sheet(blocks: Vec<Block>) -> Sheet {
    Sheet {
        title: "A <sheet> & more".into(),
        subtitle: "for tests".into(),
        blocks,
    }
}

fn texts(sheet: &Sheet) -> Vec<Vec<String>> {
    let of = |mark: &Mark| match mark {
        Mark::Text { text, .. } => Some(text.clone()),
        _ => None,
    };
    let pages = pages(sheet);
    pages
        .iter()
        .map(|page| page.iter().filter_map(of).collect())
        .collect()
}

#[test]
fn text_stays_inside_the_page() {
    let long = "recipient age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq end ".repeat(3);
    let sheet = sheet(vec![
        Block::Heading(long.clone()),
        Block::Paragraph(long.clone()),
        Block::Notice(long.clone()),
        Block::Steps(vec![Step::new(long.clone()).code(long.clone())]),
        Block::Table {
            head: vec!["one".into(), "two".into()],
            rows: vec![vec![long.clone(), long.clone()]; 30],
        },
        Block::Literal(Zeroizing::new(long.replace(' ', ""))),
        Block::Code(long),
    ]);
    let pages = pages(&sheet);
    assert!(pages.len() > 2);
    for mark in pages.iter().flatten() {
        if let Mark::Text {
            x,
            y,
            font,
            size,
            text,
        } = mark
        {
            assert!(x + width(text, *font, *size) <= 595.0 - 50.0, "{text}");
            assert!(*y < 842.0 - 30.0, "{text}");
        }
    }
    assert!(width("iii", Font::Text, 10.0) < width("mmm", Font::Text, 10.0));
}

#[test]
fn a_broken_command_is_one_command() {
    let command = format!(
        "strongroom restore {}--apply",
        "--share FILE.share ".repeat(12)
    );
    let pages = texts(&sheet(vec![Block::Code(command.clone())]));
    let lines: Vec<&String> = pages[0]
        .iter()
        .filter(|line| line.contains("share"))
        .collect();
    assert!(lines.len() > 1, "{lines:?}");
    let joined: String = lines
        .iter()
        .map(|line| line.trim_start().trim_end_matches('\\'))
        .collect();
    assert_eq!(joined, command);
    assert!(
        lines[..lines.len() - 1]
            .iter()
            .all(|line| line.ends_with(" \\"))
    );
}

#[test]
fn steps_and_words_are_numbered_and_pages_counted() {
    let sheet = sheet(vec![
        Block::Steps(vec![Step::new("first"), Step::new("second")]),
        Block::PageBreak,
        Block::Words(
            (0..33)
                .map(|index| Zeroizing::new(format!("word{index}")))
                .collect(),
        ),
    ]);
    let pages = texts(&sheet);
    assert!(pages[0].contains(&"2.".to_owned()));
    assert!(pages[1].contains(&"33".to_owned()) && pages[1].contains(&"word32".to_owned()));
    assert_eq!(
        pages[1].last().expect("a foot"),
        "A <sheet> & more - page 2 of 2"
    );
}

#[test]
fn html_is_one_file_and_escaped() {
    let html = sheet(vec![
        Block::Paragraph("<script>alert(\"x\")</script>".into()),
        Block::Qr {
            text: Zeroizing::new("SRSHARE1QQ".into()),
            caption: "scan it".into(),
        },
    ])
    .to_html();
    assert!(
        html.contains("&lt;script&gt;alert(&quot;x&quot;)"),
        "{}",
        &**html
    );
    assert!(html.contains("A &lt;sheet&gt; &amp; more") && html.contains("<svg "));
    for foreign in [
        "<script", "http://", "https://", "url(", "@import", "<link", "<img",
    ] {
        assert!(!html.contains(foreign), "{foreign}");
    }
}

#[test]
fn files_are_private_and_never_replaced() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().expect("a directory");
    let stem = directory.path().join("paper");
    let one = sheet(vec![Block::Paragraph("\u{e9}\u{142}".into())]);
    let [html, pdf] = one.write(&stem).expect("written");
    for path in [&html, &pdf] {
        let mode = std::fs::metadata(path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let bytes = std::fs::read(&pdf).expect("readable");
    assert!(bytes.starts_with(b"%PDF-"));
    // The writer spells strings beyond ASCII in hexadecimal: \xe9, then "\u{142}".
    let text = String::from_utf8_lossy(&bytes).to_ascii_uppercase();
    assert!(text.contains("<E95C757B3134327D>"), "{text}");
    let refused = one.write(&stem).expect_err("refused");
    assert_eq!(refused.exit, Exit::Refused);
    assert_eq!(std::fs::read(&pdf).expect("readable"), bytes);
}
