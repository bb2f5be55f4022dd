//! Walking the parsed file: sections with known keys, and findings that collect instead of stopping.
//!
//! A [`Section`] remembers which keys were asked for, so that the code which reads a table *is* the list of its
//! keys: what is left over at [`Section::finish`] is unknown, and the nearest known key is suggested.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::findings::{Findings, suggest};

/// One table of the file, or its absence.
#[derive(Debug)]
pub(super) struct Section<'a> {
    findings: &'a Findings,
    /// What messages call it: `[server]`.
    name: String,
    table: Option<&'a DeTable<'a>>,
    place: Range<usize>,
    known: RefCell<Vec<&'static str>>,
    /// Whether a key of it was wrong, so that what depends on all of them need not be said.
    wrong: Cell<bool>,
}

/// One value of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    findings: &'a Findings,
    value: &'a Spanned<DeValue<'a>>,
    /// The key it stands under, for messages.
    key: &'static str,
}

impl<'a> Section<'a> {
    /// The file itself.
    pub(super) fn root(findings: &'a Findings, table: &'a DeTable<'a>) -> Self {
        Self::new(findings, "the file".into(), Some(table), 0..0)
    }

    fn new(
        findings: &'a Findings,
        name: String,
        table: Option<&'a DeTable<'a>>,
        place: Range<usize>,
    ) -> Self {
        Self {
            findings,
            name,
            table,
            place,
            known: RefCell::default(),
            wrong: Cell::new(false),
        }
    }

    pub(super) const fn findings(&self) -> &'a Findings {
        self.findings
    }

    /// Whether the file has this table.
    pub(super) const fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether some key of it could not be read.
    pub(super) const fn is_wrong(&self) -> bool {
        self.wrong.get()
    }

    /// Whether the file has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Where a key's value stands; the table's head without it.
    pub(super) fn place_of(&self, key: &str) -> Range<usize> {
        self.table
            .and_then(|table| table.get(key))
            .map_or_else(|| self.place.clone(), Spanned::span)
    }

    /// Where a key of one of the tables in this one stands, if it does.
    pub(super) fn place_in(&self, table: &str, key: &str) -> Option<Range<usize>> {
        let table = self.table?.get(table)?.get_ref().as_table()?;
        table.get(key).map(Spanned::span)
    }

    /// The value of a key, which is known from now on.
    pub(super) fn value(&self, key: &'static str) -> Option<Value<'a>> {
        self.known.borrow_mut().push(key);
        let value = self.table?.get(key)?;
        Some(Value {
            findings: self.findings,
            value,
            key,
        })
    }

    /// Reads a key; `None` when it is absent or wrong.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let parsed = parse(value);
        self.wrong.set(self.wrong.get() || parsed.is_none());
        parsed
    }

    /// Reads a key over a default, which stays when the key is absent or wrong.
    pub(super) fn set<T>(
        &self,
        key: &'static str,
        target: &mut T,
        parse: impl FnOnce(Value<'a>) -> Option<T>,
    ) {
        if let Some(value) = self.read(key, parse) {
            *target = value;
        }
    }

    /// The table under a key, or one without keys.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let value = self.value(key);
        let table = value.and_then(|value| value.table());
        let place = value.map_or(0..0, |value| value.place());
        Self::new(self.findings, format!("[{key}]"), table, place)
    }

    /// The tables under a key that may stand several times.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.value.get_ref() else {
            let message = format!("`{key}` may stand several times and takes two brackets");
            value.reject::<()>(message, format!("write [[{key}]]"));
            return Vec::new();
        };
        let tables = items.iter().filter_map(|item| {
            let table = value.with(item).table()?;
            let name = format!("[[{key}]]");
            Some(Self::new(self.findings, name, Some(table), item.span()))
        });
        tables.collect()
    }

    /// Every key of a table whose keys are the operator's own, in the order of the file.
    pub(super) fn entries(&self, key: &'static str) -> Vec<(&'a str, Range<usize>, Value<'a>)> {
        let table = self.table.into_iter().flatten();
        let mut entries: Vec<_> = table
            .map(|(name, value)| {
                let value = Value {
                    findings: self.findings,
                    value,
                    key,
                };
                (name.get_ref().as_ref(), name.span(), value)
            })
            .collect();
        entries.sort_by_key(|(_, place, _)| place.start);
        entries
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let message = format!("{} has no key `{name}`", self.name);
            let unknown = self.findings.error(message).at(key.span());
            self.findings.add(unknown.help(suggest(name, &known)));
        }
    }
}

impl<'a> Value<'a> {
    pub(super) const fn key(self) -> &'static str {
        self.key
    }

    pub(super) const fn findings(self) -> &'a Findings {
        self.findings
    }

    pub(super) fn place(self) -> Range<usize> {
        self.value.span()
    }

    pub(super) fn get(self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// Another value under the same key: an item of a list.
    fn with(self, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { value, ..self }
    }

    /// Reports it as wrong. Always `None`, so that a parser can end with it.
    pub(super) fn reject<T>(
        self,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        let error = self.findings.error(message).at(self.place());
        self.findings.add(error.help(help));
        None
    }

    /// The text of a string; anything else is reported with how to write it.
    pub(super) fn text(self, kind: &str, example: &str) -> Option<&'a str> {
        match self.get().as_str() {
            Some(text) => Some(text),
            None => self.expected(kind, example),
        }
    }

    /// Reports that something of another type was expected.
    pub(super) fn expected<T>(self, kind: &str, example: &str) -> Option<T> {
        let message = format!("`{}` is {kind}, not {}", self.key, type_of(self.get()));
        self.reject(message, format!("write {example}"))
    }

    /// The items of a list; a single string counts as a list of one when `lone` says so.
    pub(super) fn items(self, lone: bool, kind: &str, example: &str) -> Option<Vec<Self>> {
        match self.get() {
            DeValue::Array(items) => Some(items.iter().map(|item| self.with(item)).collect()),
            DeValue::String(_) if lone => Some(vec![self]),
            _ => self.expected(kind, example),
        }
    }

    fn table(self) -> Option<&'a DeTable<'a>> {
        let key = self.key;
        match self.get() {
            DeValue::Table(table) => Some(table),
            DeValue::Array(_) => self.reject(
                format!("`{key}` stands once and takes one pair of brackets"),
                format!("write [{key}]"),
            ),
            other => self.reject(
                format!("`{key}` is a table, not {}", type_of(other)),
                format!("write [{key}] on a line of its own, and its keys below"),
            ),
        }
    }

    /// The table in a value that is one.
    pub(super) fn as_section(self, name: &str) -> Option<Section<'a>> {
        let table = self.get().as_table()?;
        let name = name.to_owned();
        Some(Section::new(self.findings, name, Some(table), self.place()))
    }
}

/// What a type of TOML is called in messages.
fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
