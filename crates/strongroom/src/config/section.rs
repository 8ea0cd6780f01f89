//! One table of the configuration, read key by key; what is not asked for is unknown.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problems;
use super::suggest::did_you_mean;

/// A table with its place in the file.
pub(super) struct Section<'a, 'i> {
    label: String,
    span: Range<usize>,
    table: &'a DeTable<'i>,
    problems: &'a Problems<'a>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a, 'i> Section<'a, 'i> {
    /// `label` says in messages which table it is; empty for the document itself.
    pub(super) fn new(
        label: impl Into<String>,
        span: Range<usize>,
        table: &'a DeTable<'i>,
        problems: &'a Problems<'a>,
    ) -> Self {
        Self {
            label: label.into(),
            span,
            table,
            problems,
            known: RefCell::default(),
        }
    }

    /// The place of its header.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Reports a fault of this table.
    pub(super) fn report(
        &self,
        span: &Range<usize>,
        what: impl AsRef<str>,
        hint: impl Into<String>,
    ) {
        self.problems
            .report(span, self.message(what.as_ref()), hint);
    }

    /// A message that begins with the label.
    pub(super) fn message(&self, what: &str) -> String {
        match self.label.as_str() {
            "" => what.to_owned(),
            label => format!("{label}: {what}"),
        }
    }

    /// A key's value, whatever it is.
    pub(super) fn value(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.table.get(key)
    }

    /// A table by its key.
    pub(super) fn table(&self, key: &'static str) -> Option<(Range<usize>, &'a DeTable<'i>)> {
        let value = self.value(key)?;
        let table = self.typed(key, value, "a table", DeValue::as_table)?;
        Some((value.span(), table))
    }

    /// A table inside this one, to be read key by key, too.
    pub(super) fn inner(
        &self,
        key: &'static str,
        span: Range<usize>,
        table: &'a DeTable<'i>,
    ) -> Section<'a, 'i> {
        Section::new(self.message(key), span, table, self.problems)
    }

    /// The tables inside a table, in the order of the file, with the places of their names.
    pub(super) fn tables(
        &self,
        key: &'static str,
    ) -> Vec<(Range<usize>, &'a str, Range<usize>, &'a DeTable<'i>)> {
        let Some((_, tables)) = self.table(key) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name, value) in tables {
            let (place, name): (_, &str) = (name.span(), name.get_ref());
            match value.get_ref().as_table() {
                Some(table) => found.push((place, name, value.span(), table)),
                None => self.report(
                    &place,
                    format!("{key} is not a table of tables"),
                    format!("Write a header [{key}.NAME] above the keys."),
                ),
            }
        }
        found.sort_by_key(|(place, ..)| place.start);
        found
    }

    /// A string that is not empty.
    pub(super) fn string(&self, key: &'static str) -> Option<Spanned<String>> {
        let value = self.value(key)?;
        let text = self.typed(key, value, "a string", DeValue::as_str)?;
        self.not_empty(key, value.span(), text)
    }

    /// A string that must be there.
    pub(super) fn required(&self, key: &'static str, hint: &str) -> Option<Spanned<String>> {
        self.demand(key, hint);
        self.string(key)
    }

    /// Strings, none of them empty; the outer place is the whole array's.
    pub(super) fn strings(&self, key: &'static str) -> Option<Spanned<Vec<Spanned<String>>>> {
        let value = self.value(key)?;
        let array = self.typed(key, value, "an array of strings", DeValue::as_array)?;
        let mut strings = Vec::new();
        for element in array {
            let text = self.typed(key, element, "an array of strings", DeValue::as_str);
            strings.extend(text.and_then(|text| self.not_empty(key, element.span(), text)));
        }
        // A faulty element must not make the array look empty.
        (strings.len() == array.len()).then(|| Spanned::new(value.span(), strings))
    }

    /// Strings that must be there, at least one.
    pub(super) fn required_strings(
        &self,
        key: &'static str,
        hint: &str,
    ) -> Option<Spanned<Vec<Spanned<String>>>> {
        self.demand(key, hint);
        let strings = self.strings(key)?;
        if strings.get_ref().is_empty() {
            self.report(&strings.span(), format!("\"{key}\" is empty"), hint);
            return None;
        }
        Some(strings)
    }

    /// True or false.
    pub(super) fn boolean(&self, key: &'static str) -> Option<Spanned<bool>> {
        let value = self.value(key)?;
        let boolean = self.typed(key, value, "true or false", DeValue::as_bool)?;
        Some(Spanned::new(value.span(), boolean))
    }

    /// An integer.
    pub(super) fn integer(&self, key: &'static str) -> Option<Spanned<i64>> {
        let value = self.value(key)?;
        let integer = self.typed(key, value, "an integer", |value| {
            let integer = value.as_integer()?;
            i64::from_str_radix(integer.as_str(), integer.radix()).ok()
        })?;
        Some(Spanned::new(value.span(), integer))
    }

    /// Reports every key that nothing asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let hint = did_you_mean(name, &known);
                self.report(&key.span(), format!("unknown key \"{name}\""), hint);
            }
        }
    }

    fn demand(&self, key: &'static str, hint: &str) {
        if !self.table.contains_key(key) {
            self.report(&self.span, format!("\"{key}\" is missing"), hint);
        }
    }

    fn not_empty(
        &self,
        key: &'static str,
        span: Range<usize>,
        text: &str,
    ) -> Option<Spanned<String>> {
        if text.trim().is_empty() {
            self.report(
                &span,
                format!("\"{key}\" is empty"),
                "Fill it in, or take the key out.",
            );
            return None;
        }
        if text.contains('\0') {
            self.report(&span, format!("\"{key}\" contains a NUL character"), "");
            return None;
        }
        Some(Spanned::new(span, text.to_owned()))
    }

    fn typed<T>(
        &self,
        key: &'static str,
        value: &'a Spanned<DeValue<'i>>,
        expected: &str,
        read: impl FnOnce(&'a DeValue<'i>) -> Option<T>,
    ) -> Option<T> {
        let read = read(value.get_ref());
        if read.is_none() {
            let found = kind_of(value.get_ref());
            self.report(
                &value.span(),
                format!("\"{key}\" must be {expected}, not {found}"),
                "",
            );
        }
        read
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "this integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
