//! Where the parts of a sheet come to lie on A4 pages, in points, from the upper left corner.

use super::{Block, Sheet, Step, qr};

pub(super) const WIDTH: f32 = 595.0;
pub(super) const HEIGHT: f32 = 842.0;
const MARGIN: f32 = 57.0;
const BOTTOM: f32 = HEIGHT - 62.0;
const TEXT: f32 = 10.5;
const CODE: f32 = 8.5;
const WORD: f32 = 12.0;
/// The width of every character of Courier, for a size of 1.
const COURIER: f32 = 0.6;
const INDENT: f32 = 22.0;
const QR_SIZE: f32 = 156.0;

/// One of the fonts that every reader of PDF brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Font {
    Text,
    Bold,
    Code,
}

/// Something drawn.
pub(super) enum Mark {
    /// A text; `y` is its base line.
    Text {
        x: f32,
        y: f32,
        font: Font,
        size: f32,
        text: String,
    },
    /// A filled rectangle; 0 is black.
    Fill {
        x: f32,
        y: f32,
        width: f32,
        height: f32,
        gray: f32,
    },
    /// An empty rectangle.
    Frame {
        x: f32,
        y: f32,
        width: f32,
        height: f32,
    },
}

/// The marks of each page.
pub(super) fn pages(sheet: &Sheet) -> Vec<Vec<Mark>> {
    let mut layout = Layout {
        pages: vec![Vec::new()],
        y: MARGIN,
    };
    for line in wrap(&sheet.title, Font::Bold, 18.0, WIDTH - 2.0 * MARGIN) {
        layout.line(MARGIN, Font::Bold, 18.0, line);
    }
    layout.paragraph(&sheet.subtitle, MARGIN, Font::Text);
    layout.y += 8.0;
    for block in &sheet.blocks {
        layout.block(block);
    }
    let count = layout.pages.len();
    for (index, page) in layout.pages.iter_mut().enumerate() {
        page.push(Mark::Text {
            x: MARGIN,
            y: HEIGHT - 36.0,
            font: Font::Text,
            size: 8.0,
            text: format!("{} - page {} of {count}", sheet.title, index + 1),
        });
    }
    layout.pages
}

struct Layout {
    pages: Vec<Vec<Mark>>,
    y: f32,
}

impl Layout {
    fn block(&mut self, block: &Block) {
        match block {
            Block::Heading(text) => {
                self.room(60.0);
                self.y += 10.0;
                for line in wrap(text, Font::Bold, 12.5, WIDTH - 2.0 * MARGIN) {
                    self.line(MARGIN, Font::Bold, 12.5, line);
                }
                let y = self.y - 1.0;
                self.fill(MARGIN, y, WIDTH - 2.0 * MARGIN, 0.5, 0.5);
                self.y += 5.0;
            }
            Block::Paragraph(text) => {
                self.paragraph(text, MARGIN, Font::Text);
                self.y += 4.0;
            }
            Block::Notice(text) => self.notice(text),
            Block::Steps(steps) => self.steps(steps),
            Block::Table { head, rows } => self.table(head, rows),
            Block::Code(text) => self.code(text, MARGIN),
            Block::Literal(text) => {
                let columns = columns(CODE, WIDTH - 2.0 * MARGIN);
                for line in pieces(text, columns) {
                    self.line(MARGIN, Font::Code, CODE, line);
                }
                self.y += 4.0;
            }
            Block::Words(words) => self.words(words),
            Block::Qr { text, caption } => self.qr(text, caption),
            Block::PageBreak => self.new_page(),
        }
    }

    /// Begins a page when less than this is left of the present one.
    fn room(&mut self, height: f32) {
        if self.y + height > BOTTOM {
            self.new_page();
        }
    }

    fn new_page(&mut self) {
        self.pages.push(Vec::new());
        self.y = MARGIN;
    }

    fn draw(&mut self, mark: Mark) {
        self.pages
            .last_mut()
            .expect("there is a first page")
            .push(mark);
    }

    fn fill(&mut self, x: f32, y: f32, width: f32, height: f32, gray: f32) {
        self.draw(Mark::Fill {
            x,
            y,
            width,
            height,
            gray,
        });
    }

    fn put(&mut self, x: f32, font: Font, size: f32, text: String) {
        let y = self.y + size;
        self.draw(Mark::Text {
            x,
            y,
            font,
            size,
            text,
        });
    }

    /// Writes one line and goes to the next.
    fn line(&mut self, x: f32, font: Font, size: f32, text: String) {
        self.room(size * 1.4);
        self.put(x, font, size, text);
        self.y += size * 1.4;
    }

    fn paragraph(&mut self, text: &str, x: f32, font: Font) {
        for line in wrap(text, font, TEXT, WIDTH - MARGIN - x) {
            self.line(x, font, TEXT, line);
        }
    }

    fn notice(&mut self, text: &str) {
        let lines = wrap(text, Font::Bold, TEXT, WIDTH - 2.0 * MARGIN - 20.0);
        let height = f32::from(small(lines.len())) * TEXT * 1.4 + 14.0;
        self.room(height + 8.0);
        let frame = Mark::Frame {
            x: MARGIN,
            y: self.y,
            width: WIDTH - 2.0 * MARGIN,
            height,
        };
        self.draw(frame);
        self.y += 6.0;
        for line in lines {
            self.line(MARGIN + 10.0, Font::Bold, TEXT, line);
        }
        self.y += 16.0;
    }

    fn steps(&mut self, steps: &[Step]) {
        for (index, step) in steps.iter().enumerate() {
            self.room(TEXT * 3.0);
            self.put(MARGIN, Font::Bold, TEXT, format!("{}.", index + 1));
            self.paragraph(&step.text, MARGIN + INDENT, Font::Text);
            if let Some(code) = &step.code {
                self.code(code, MARGIN + INDENT);
            }
            self.y += 3.0;
        }
    }

    fn table(&mut self, head: &[String], rows: &[Vec<String>]) {
        let count = rows.iter().map(Vec::len).max().unwrap_or(0).max(head.len());
        let all = WIDTH - 2.0 * MARGIN;
        let widest = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let cells = cells.map(|cell| width(cell, Font::Text, TEXT));
            let head = head.get(column).map(|cell| width(cell, Font::Bold, TEXT));
            cells.chain(head).fold(0.0, f32::max) + 12.0
        };
        let mut left = all;
        let mut widths = Vec::new();
        for column in 0..count {
            let rest = f32::from(small(count - column));
            let wanted = if column + 1 == count {
                left
            } else {
                widest(column)
            };
            let taken = wanted.min(left - (rest - 1.0) * 70.0).max(40.0);
            widths.push(taken);
            left -= taken;
        }
        if !head.is_empty() {
            self.row(head, &widths, Font::Bold);
        }
        for row in rows {
            self.row(row, &widths, Font::Text);
        }
        self.y += 6.0;
    }

    fn row(&mut self, cells: &[String], widths: &[f32], font: Font) {
        let cells: Vec<Vec<String>> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| wrap(cell, font, TEXT, width - 8.0))
            .collect();
        let lines = cells.iter().map(Vec::len).max().unwrap_or(0);
        let height = f32::from(small(lines)) * TEXT * 1.4 + 3.0;
        self.room(height);
        let top = self.y;
        let mut x = MARGIN;
        for (cell, width) in cells.into_iter().zip(widths) {
            self.y = top;
            for line in cell {
                self.put(x, font, TEXT, line);
                self.y += TEXT * 1.4;
            }
            x += width;
        }
        self.y = top + height;
        let y = self.y - 2.0;
        self.fill(MARGIN, y, WIDTH - 2.0 * MARGIN, 0.4, 0.75);
    }

    fn code(&mut self, text: &str, x: f32) {
        let columns = columns(CODE, WIDTH - MARGIN - x - 12.0);
        let lines: Vec<String> = text
            .lines()
            .flat_map(|line| break_command(line, columns))
            .collect();
        self.y += 2.0;
        for line in lines {
            self.room(CODE * 1.4);
            let y = self.y;
            self.fill(x, y, WIDTH - MARGIN - x, CODE * 1.4 + 0.5, 0.94);
            self.line(x + 6.0, Font::Code, CODE, line);
        }
        self.y += 5.0;
    }

    fn words(&mut self, words: &[impl AsRef<str>]) {
        const COLUMNS: usize = 3;
        let rows = words.len().div_ceil(COLUMNS);
        let step = WORD * 1.6;
        self.room(f32::from(small(rows)) * step + 10.0);
        let top = self.y + 4.0;
        let column_width = (WIDTH - 2.0 * MARGIN) / f32::from(small(COLUMNS));
        for (index, word) in words.iter().enumerate() {
            let (column, row) = (index / rows, index % rows);
            let x = MARGIN + f32::from(small(column)) * column_width;
            self.y = top + f32::from(small(row)) * step;
            self.put(x, Font::Text, 8.0, format!("{:>2}", index + 1));
            self.put(x + 18.0, Font::Code, WORD, word.as_ref().to_owned());
        }
        self.y = top + f32::from(small(rows)) * step + 6.0;
    }

    fn qr(&mut self, text: &str, caption: &str) {
        self.room(QR_SIZE + 8.0);
        let top = self.y;
        if let Some(code) = qr::encode(text) {
            let module = QR_SIZE / f32::from(small(code.width + 2 * qr::QUIET));
            let at = |modules: usize| f32::from(small(modules + qr::QUIET)) * module;
            for (column, row, length) in code.runs {
                let width = f32::from(small(length)) * module;
                self.fill(MARGIN + at(column), top + at(row), width, module, 0.0);
            }
        }
        let x = MARGIN + QR_SIZE + 14.0;
        let lines = wrap(caption, Font::Text, TEXT, WIDTH - MARGIN - x);
        self.y = top + (QR_SIZE - f32::from(small(lines.len())) * TEXT * 1.4) / 2.0;
        for line in lines {
            self.put(x, Font::Text, TEXT, line);
            self.y += TEXT * 1.4;
        }
        self.y = top + QR_SIZE + 6.0;
    }
}

/// Breaks a text into lines at spaces; a word that is too long is broken anywhere.
fn wrap(text: &str, font: Font, size: f32, room: f32) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let mut word = word;
            let longer = |line: &str| width(line, font, size) + width(" ", font, size);
            if !line.is_empty() && longer(&line) + width(word, font, size) > room {
                lines.push(std::mem::take(&mut line));
            }
            while width(word, font, size) > room {
                let fits = |end: &usize| width(&word[..*end], font, size) <= room;
                let ends = word
                    .char_indices()
                    .map(|(start, one)| start + one.len_utf8());
                let Some(end) = ends.take_while(|end| fits(end)).last() else {
                    break;
                };
                lines.push(word[..end].to_owned());
                word = &word[end..];
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// How many characters of Courier fit.
fn columns(size: f32, room: f32) -> usize {
    let mut columns = 1;
    while f32::from(small(columns + 1)) * COURIER * size <= room {
        columns += 1;
    }
    columns
}

/// A text in pieces of so many characters.
fn pieces(text: &str, columns: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks(columns)
        .map(|piece| piece.iter().collect())
        .collect()
}

/// Breaks a command so that a shell puts it together again; a word that is too long is broken anywhere.
fn break_command(line: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest: Vec<char> = line.chars().collect();
    while rest.len() > columns {
        let indent = if lines.is_empty() { 0 } else { 4 };
        let at = rest[..columns - 1].iter().rposition(|one| *one == ' ');
        if let Some(at) = at.filter(|at| *at > indent) {
            let tail = rest.split_off(at + 1);
            lines.push(rest.iter().chain(&['\\']).collect());
            rest = "    ".chars().chain(tail).collect();
        } else {
            let tail = rest.split_off(columns);
            lines.push(rest.iter().collect());
            rest = tail;
        }
    }
    lines.push(rest.iter().collect());
    lines
}

fn small(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// The width of a text in points.
pub(super) fn width(text: &str, font: Font, size: f32) -> f32 {
    let sum: f32 = text
        .chars()
        .map(|one| match font {
            Font::Code => COURIER * 1000.0,
            Font::Text => helvetica(one),
            // Helvetica-Bold is wider by less than this.
            Font::Bold => helvetica(one) * 1.1,
        })
        .sum();
    sum * size / 1000.0
}

/// The widths of Helvetica from the space on (Adobe Font Metrics), in thousandths.
const HELVETICA: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667,
    611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

fn helvetica(character: char) -> f32 {
    let index = (character as usize).checked_sub(' ' as usize);
    let width = index.and_then(|index| HELVETICA.get(index));
    // Letters with accents are hardly wider than this.
    f32::from(*width.unwrap_or(&667))
}
