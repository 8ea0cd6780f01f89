//! Looks for secrets in a stream: private keys, tokens, passwords, known settings of CA products.
//!
//! - [`rules`] is the table of what is looked for; [`settings`], [`values`], [`texts`], [`heads`] and [`names`] say how it is matched.
//! - [`Scanner`] goes through a stream in memory that does not grow, wherever the stream is cut.
//!
//! It knows bytes, lines and the name that it is told, no files and no assets, and never gives away what it found: a [`Found`] has a rule and a line.

mod heads;
mod names;
mod rules;
mod settings;
mod texts;
mod values;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use zeroize::Zeroizing;

use self::rules::How;
pub use self::rules::{RULES, Rule};
use self::texts::Spot;

/// How many bytes before a place decide about it, at most.
const LOOK_BACK: usize = 1 << 10;
/// How many bytes from a place on decide about it, at most.
const LOOK_AHEAD: usize = 2 << 10;
/// How many bytes are held.
const WINDOW: usize = 64 << 10;
/// How many bytes of the beginning tell text from other content.
const HEAD: usize = 8 << 10;
/// How many places of a stream are told.
const FOUND_MAX: usize = 20;

/// Whether the name of a file says something of what is in it.
pub fn is_telling(name: &[u8]) -> bool {
    let setting = names::setting_name(name);
    setting.is_some_and(|name| settings::is_for_secrets(&name))
        || RULES.iter().any(|rule| rule.is_for(name))
}

/// Looks for secrets in one stream after another.
pub struct Scanner {
    window: Zeroizing<Vec<u8>>,
    /// Up to here the window was searched.
    searched: usize,
    /// Up to here the lines of the window were counted.
    counted: usize,
    /// The line that the last counted byte belongs to.
    line: u64,
    size_bytes: u64,
    content: Option<Content>,
    /// The beginning, and how much of it there is.
    head: Zeroizing<[u8; heads::LENGTH]>,
    /// Those names of the file that say something.
    names: Vec<Vec<u8>>,
    /// As much as is looked at of a file whose name says something.
    named: Zeroizing<Vec<u8>>,
    report: Report,
}

/// What the beginning of a stream says of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Text,
    /// Text with two bytes a letter.
    WideText,
    Binary,
    /// An `SQLite` database: an asset of class `database`, where passwords and tokens have their place.
    Database,
}

/// A secret and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it was found by.
    pub rule: &'static Rule,
    /// The line that it begins in, from 1; none where the content has no lines.
    pub line: Option<u64>,
}

/// What was found in a stream, in order; several places in one line that one rule finds count as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The first places.
    pub found: Vec<Found>,
    /// How many more there are.
    pub more: u64,
    last: Option<Found>,
}

impl Report {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn add(&mut self, rule: &'static Rule, line: Option<u64>) {
        let found = Found { rule, line };
        if self.found.contains(&found) || self.last == Some(found) {
            return;
        }
        if self.found.len() < FOUND_MAX {
            self.found.push(found);
        } else {
            self.more += 1;
            self.last = Some(found);
        }
    }
}

/// The texts that a rule may begin at, in one automaton.
struct Triggers {
    automaton: AhoCorasick,
    /// The rule of each text; none for the words in the names of settings.
    rules: Vec<Option<&'static Rule>>,
}

static TRIGGERS: LazyLock<Triggers> = LazyLock::new(|| {
    let mut texts: Vec<&[u8]> = Vec::new();
    let mut rules = Vec::new();
    for word in settings::WORDS {
        texts.push(word.as_bytes());
        rules.push(None);
    }
    for rule in RULES {
        if let How::Text { triggers, .. } = rule.how {
            texts.extend(triggers);
            rules.extend(triggers.iter().map(|_| Some(rule)));
        }
    }
    // Up to 64 texts, as they are written, are searched for many bytes at a time.
    let automaton = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .build(texts)
        .expect("a few dozen short texts");
    Triggers { automaton, rules }
});

impl Default for Scanner {
    fn default() -> Self {
        Self {
            window: Zeroizing::new(Vec::with_capacity(WINDOW)),
            searched: 0,
            counted: 0,
            line: 1,
            size_bytes: 0,
            content: None,
            head: Zeroizing::new([0; heads::LENGTH]),
            names: Vec::new(),
            named: Zeroizing::new(Vec::with_capacity(names::LOOK)),
            report: Report::default(),
        }
    }
}

impl Scanner {
    /// Begins the stream of a file with this name, without its directory; what was seen of another one is forgotten.
    pub fn begin(&mut self, name: &[u8]) {
        self.names.clear();
        self.also_called(name);
        self.named.clear();
        self.window.clear();
        self.searched = 0;
        self.counted = 0;
        self.line = 1;
        self.size_bytes = 0;
        self.content = None;
        self.head.fill(0);
        self.report = Report::default();
    }

    /// The file that was just begun has this name, too.
    pub fn also_called(&mut self, name: &[u8]) {
        if is_telling(name) {
            self.names.push(name.to_owned());
        }
    }

    /// Takes the next bytes.
    pub fn write(&mut self, mut bytes: &[u8]) {
        let begin = usize::try_from(self.size_bytes).unwrap_or(usize::MAX);
        if let Some(rest) = self.head.get_mut(begin..) {
            let length = rest.len().min(bytes.len());
            rest[..length].copy_from_slice(&bytes[..length]);
        }
        if !self.names.is_empty() {
            let length = (names::LOOK - self.named.len()).min(bytes.len());
            self.named.extend_from_slice(&bytes[..length]);
        }
        self.size_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = WINDOW - self.window.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            match self.content {
                Some(Content::Database) => return,
                Some(Content::WideText) => {
                    self.window.extend(now.iter().filter(|byte| **byte != 0));
                }
                _ => self.window.extend_from_slice(now),
            }
            bytes = later;
            if self.window.len() == WINDOW {
                self.search(false);
            }
        }
    }

    /// Takes zero bytes; nothing is found in them.
    pub fn hole(&mut self, length: u64) {
        let zeros = [0; LOOK_BACK + LOOK_AHEAD];
        // As many as could stand between two places that belong together.
        let seen = length.min(zeros.len() as u64);
        self.write(&zeros[..usize::try_from(seen).unwrap_or(zeros.len())]);
        self.size_bytes += length - seen;
    }

    /// Ends the stream and tells what was found.
    pub fn finish(&mut self) -> Report {
        self.search(true);
        self.window.clear();
        let length = self.size_bytes.min(self.head.len() as u64);
        let head = &self.head[..usize::try_from(length).unwrap_or(0)];
        for rule in RULES {
            if let How::Head(holds) = rule.how
                && holds(head, self.size_bytes)
            {
                self.report.add(rule, None);
            }
        }
        if !self.names.is_empty() {
            self.judge_names();
        }
        std::mem::take(&mut self.report)
    }

    fn search(&mut self, is_last: bool) {
        let content = *self.content.get_or_insert_with(|| content(&self.window));
        if content == Content::WideText && self.line == 1 && self.searched == 0 {
            // Only now it is known what the first bytes are.
            self.window.retain(|byte| *byte != 0);
            if self.window.len() < WINDOW && !is_last {
                return;
            }
        }
        let end = self.window.len();
        let limit = if is_last { end } else { end - LOOK_AHEAD };
        if content != Content::Database {
            let mut at = self.searched;
            let triggers = &*TRIGGERS;
            while at < limit {
                let input = Input::new(self.window.as_slice()).span(at..end);
                let Some(hit) = triggers.automaton.find(input) else {
                    break;
                };
                if hit.start() >= limit {
                    break;
                }
                at = hit.start() + 1;
                let is_text = content != Content::Binary;
                self.judge(
                    triggers.rules[hit.pattern().as_usize()],
                    hit.range(),
                    is_text,
                );
            }
        }
        let keep_from = limit.saturating_sub(LOOK_BACK);
        self.count_lines(keep_from.max(self.counted));
        let kept = end - keep_from;
        self.window.copy_within(keep_from.., 0);
        self.window.truncate(kept);
        self.searched = limit - keep_from;
        self.counted -= keep_from;
    }

    /// Decides about one place.
    fn judge(&mut self, rule: Option<&'static Rule>, at: std::ops::Range<usize>, is_text: bool) {
        let before = at.start.saturating_sub(LOOK_BACK);
        let after = (at.start + LOOK_AHEAD).min(self.window.len());
        let spot = Spot {
            before: &self.window[before..at.start],
            text: &self.window[at.clone()],
            here: &self.window[at.start..after.max(at.end)],
            after: &self.window[at.end..after.max(at.end)],
            head: &*self.head,
        };
        let rule = match rule {
            Some(rule) => {
                let How::Text {
                    holds,
                    also_in_binary,
                    ..
                } = rule.how
                else {
                    return;
                };
                ((is_text || also_in_binary) && holds(&spot)).then_some(rule)
            }
            None => is_text.then(|| settings::judge(&spot)).flatten(),
        };
        if let Some(rule) = rule {
            self.count_lines(at.start);
            let line = is_text.then_some(self.line);
            self.report.add(rule, line);
        }
    }

    /// Decides about what the names promise; a file of one line is a setting only where nothing else was found in it.
    fn judge_names(&mut self) {
        let is_text = self.content == Some(Content::Text);
        let mut line_of = |rule, at: usize| {
            let feeds = memchr::memchr_iter(b'\n', &self.named[..at]).count() as u64;
            self.report.add(rule, is_text.then_some(feeds + 1));
        };
        for rule in RULES {
            if let How::Name { find, .. } = rule.how
                && self.names.iter().any(|name| rule.is_for(name))
                && let Some(at) = find(&self.named)
            {
                line_of(rule, at);
            }
        }
        let is_whole = self.size_bytes == self.named.len() as u64;
        if is_text && is_whole && self.report.is_empty() {
            let mut names = self.names.iter();
            let rule = names.find_map(|name| names::setting(name, &self.named));
            if let Some(rule) = rule {
                self.report.add(rule, Some(1));
            }
        }
    }

    fn count_lines(&mut self, to: usize) {
        if to > self.counted {
            let fresh = &self.window[self.counted..to];
            self.line += memchr::memchr_iter(b'\n', fresh).count() as u64;
            self.counted = to;
        }
    }
}

fn content(head: &[u8]) -> Content {
    let head = &head[..head.len().min(HEAD)];
    if head.starts_with(b"SQLite format 3\0") {
        Content::Database
    } else if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        Content::WideText
    } else if memchr::memchr(0, head).is_some() {
        Content::Binary
    } else {
        Content::Text
    }
}
