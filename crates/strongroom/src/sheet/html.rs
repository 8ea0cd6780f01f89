//! A sheet as HTML: one file, no script, nothing fetched.

use std::fmt::Write as _;

use zeroize::Zeroizing;

use super::{Block, Sheet, qr};

/// Black on white, as a printer has it.
const STYLE: &str = "\
@page { size: A4; margin: 20mm }
body { font: 11pt/1.45 Helvetica, Arial, sans-serif; color: #000; background: #fff; max-width: 170mm; margin: 20mm auto }
h1 { font-size: 20pt; margin: 0 } .subtitle { margin: 2mm 0 8mm; color: #444 }
h2 { font-size: 13pt; margin: 7mm 0 2mm; border-bottom: 0.5pt solid #888; break-after: avoid }
p { margin: 2mm 0 } .notice { border: 1.5pt solid #000; padding: 3mm 4mm; font-weight: bold }
table { border-collapse: collapse; width: 100%; margin: 2mm 0 } td, th { text-align: left; vertical-align: top; padding: 1mm 4mm 1mm 0; border-bottom: 0.5pt solid #ccc }
td:first-child { white-space: nowrap } td { overflow-wrap: anywhere }
pre, code.literal, .words { font-family: 'Courier New', Courier, monospace } pre { font-size: 9pt; background: #f2f2f2; padding: 2mm 3mm; white-space: pre-wrap; overflow-wrap: anywhere; margin: 2mm 0 }
code.literal { display: block; font-size: 9pt; overflow-wrap: anywhere; margin: 2mm 0 }
.words { columns: 3; font-size: 12pt; margin: 3mm 0 3mm 10mm; padding: 0 } .words li { padding: 0.4mm 2mm; margin: 0 !important; break-inside: avoid }
.qr { display: flex; align-items: center; gap: 8mm; break-inside: avoid; margin: 3mm 0 } .qr svg { width: 55mm; height: 55mm; flex: none }
li { margin: 1.5mm 0 } .new-page { break-before: page }
";

/// Renders a sheet.
pub(super) fn render(sheet: &Sheet) -> Zeroizing<String> {
    // Room for all of it: a text that moves leaves itself behind.
    let mut out = Zeroizing::new(String::with_capacity(256 << 10));
    out.push_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>");
    escape(&mut out, &sheet.title);
    out.push_str("</title>\n<style>\n");
    out.push_str(STYLE);
    out.push_str("</style>\n</head>\n<body>\n");
    element(&mut out, "h1", &sheet.title);
    out.push_str("<p class=\"subtitle\">");
    escape(&mut out, &sheet.subtitle);
    out.push_str("</p>\n");
    for block in &sheet.blocks {
        render_block(&mut out, block);
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn render_block(out: &mut String, block: &Block) {
    match block {
        Block::Heading(text) => element(out, "h2", text),
        Block::Paragraph(text) => element(out, "p", text),
        Block::Notice(text) => {
            out.push_str("<p class=\"notice\">");
            escape(out, text);
            out.push_str("</p>\n");
        }
        Block::Steps(steps) => {
            out.push_str("<ol>\n");
            for step in steps {
                out.push_str("<li>");
                escape(out, &step.text);
                if let Some(code) = &step.code {
                    element(out, "pre", code);
                }
                out.push_str("</li>\n");
            }
            out.push_str("</ol>\n");
        }
        Block::Table { head, rows } => table(out, head, rows),
        Block::Code(text) => element(out, "pre", text),
        Block::Literal(text) => {
            out.push_str("<code class=\"literal\">");
            escape(out, text);
            out.push_str("</code>\n");
        }
        Block::Words(words) => {
            out.push_str("<ol class=\"words\">\n");
            for word in words {
                element(out, "li", word);
            }
            out.push_str("</ol>\n");
        }
        Block::Qr { text, caption } => code(out, text, caption),
        Block::PageBreak => out.push_str("<div class=\"new-page\"></div>\n"),
    }
}

fn table(out: &mut String, head: &[String], rows: &[Vec<String>]) {
    out.push_str("<table>\n");
    let mut row = |cells: &[String], name: &str| {
        out.push_str("<tr>");
        for cell in cells {
            let _ = write!(out, "<{name}>");
            escape(out, cell);
            let _ = write!(out, "</{name}>");
        }
        out.push_str("</tr>\n");
    };
    if !head.is_empty() {
        row(head, "th");
    }
    for cells in rows {
        row(cells, "td");
    }
    out.push_str("</table>\n");
}

fn code(out: &mut String, text: &str, caption: &str) {
    out.push_str("<div class=\"qr\">");
    if let Some(code) = qr::encode(text) {
        let size = code.width + 2 * qr::QUIET;
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {size} {size}\" shape-rendering=\"crispEdges\"><path d=\""
        );
        for (column, row, length) in code.runs {
            let (x, y) = (column + qr::QUIET, row + qr::QUIET);
            let _ = write!(out, "M{x} {y}h{length}v1h-{length}z");
        }
        out.push_str("\"/></svg>");
    }
    element(out, "p", caption);
    out.push_str("</div>\n");
}

fn element(out: &mut String, name: &str, text: &str) {
    let _ = write!(out, "<{name}>");
    escape(out, text);
    let _ = writeln!(out, "</{name}>");
}

fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
}
