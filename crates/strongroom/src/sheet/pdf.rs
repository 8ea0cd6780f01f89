//! A sheet as PDF, with the fonts that every reader brings: Helvetica and Courier.

use pdf_writer::{Content, Finish as _, Name, Pdf, Rect, Ref, Str, TextStr};
use zeroize::Zeroizing;

use super::Sheet;
use super::layout::{self, Font, HEIGHT, Mark, WIDTH};

const FONTS: [(Font, Name<'_>, Name<'_>); 3] = [
    (Font::Text, Name(b"T"), Name(b"Helvetica")),
    (Font::Bold, Name(b"B"), Name(b"Helvetica-Bold")),
    (Font::Code, Name(b"C"), Name(b"Courier")),
];
const CATALOG: Ref = Ref::new(1);
const PAGES: Ref = Ref::new(2);
const INFO: Ref = Ref::new(3);
const FIRST_FONT: i32 = 4;
const FIRST_PAGE: i32 = 10;

/// Renders a sheet.
pub(super) fn render(sheet: &Sheet) -> Zeroizing<Vec<u8>> {
    let pages = layout::pages(sheet);
    let count = i32::try_from(pages.len()).expect("a few pages");
    let mut pdf = Pdf::new();
    pdf.catalog(CATALOG).pages(PAGES);
    let page_ref = |index: i32| Ref::new(FIRST_PAGE + 2 * index);
    pdf.pages(PAGES).kids((0..count).map(page_ref)).count(count);
    pdf.document_info(INFO).title(TextStr(&sheet.title));
    for ((_, _, base), id) in FONTS.iter().zip(FIRST_FONT..) {
        pdf.type1_font(Ref::new(id))
            .base_font(*base)
            .encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    for (marks, index) in pages.iter().zip(0..) {
        let (page_id, content_id) = (page_ref(index), Ref::new(FIRST_PAGE + 2 * index + 1));
        let mut page = pdf.page(page_id);
        page.media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT));
        page.parent(PAGES);
        page.contents(content_id);
        let mut resources = page.resources();
        let mut fonts = resources.fonts();
        for ((_, name, _), id) in FONTS.iter().zip(FIRST_FONT..) {
            fonts.pair(*name, Ref::new(id));
        }
        fonts.finish();
        resources.finish();
        page.finish();
        let content = Zeroizing::new(draw(marks));
        pdf.stream(content_id, &content);
    }
    Zeroizing::new(pdf.finish())
}

fn draw(marks: &[Mark]) -> Vec<u8> {
    let mut content = Content::new();
    for mark in marks {
        match mark {
            Mark::Text {
                x,
                y,
                font,
                size,
                text,
            } => {
                let (_, name, _) = FONTS.iter().find(|one| one.0 == *font).expect("listed");
                content.set_fill_gray(0.0);
                content.begin_text();
                content.set_font(*name, *size);
                content.next_line(*x, HEIGHT - y);
                content.show(Str(&win_ansi(text)));
                content.end_text();
            }
            Mark::Fill {
                x,
                y,
                width,
                height,
                gray,
            } => {
                content.set_fill_gray(*gray);
                content.rect(*x, HEIGHT - y - height, *width, *height);
                content.fill_nonzero();
            }
            Mark::Frame {
                x,
                y,
                width,
                height,
            } => {
                content.set_line_width(1.2);
                content.rect(*x, HEIGHT - y - height, *width, *height);
                content.stroke();
            }
        }
    }
    content.finish().into_vec()
}

/// The encoding of the fonts; what it does not have is spelt as `\u{...}`.
fn win_ansi(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' '..='~' | '\u{a1}'..='\u{ff}' => {
                bytes.push(u8::try_from(u32::from(character)).expect("Latin-1"));
            }
            '\u{2013}' => bytes.push(0x96),
            '\u{2014}' => bytes.push(0x97),
            '\u{2018}' => bytes.push(0x91),
            '\u{2019}' => bytes.push(0x92),
            '\u{201c}' => bytes.push(0x93),
            '\u{201d}' => bytes.push(0x94),
            '\u{2026}' => bytes.push(0x85),
            '\u{20ac}' => bytes.push(0x80),
            other => bytes.extend(other.escape_unicode().to_string().bytes()),
        }
    }
    bytes
}
