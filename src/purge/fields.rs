//! A JSON object, read field by field, with errors that name the field.

use std::fmt;

use serde_json::{Map, Value};

/// Why a request cannot be carried out: which field, and what is wrong with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// `tags[1]`; empty when it is about the request as a whole.
    pub field: String,
    /// What is wrong, and what to write.
    pub reason: String,
}

impl Refusal {
    /// A refusal of what stands in one field.
    pub fn of(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self {
            field: field.into(),
            reason: reason.to_string(),
        }
    }

    /// A refusal of a request as a whole.
    pub fn whole(reason: impl fmt::Display) -> Self {
        Self::of("", reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.field, self.reason)
        }
    }
}

impl std::error::Error for Refusal {}

/// An object of which some fields have been read.
#[derive(Debug)]
pub(super) struct Fields {
    left: Map<String, Value>,
    known: Vec<&'static str>,
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Placed<T> {
    pub(super) place: String,
    pub(super) value: T,
}

impl Fields {
    pub(super) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let value = serde_json::from_slice(json)
            .map_err(|error| Refusal::whole(format_args!("this is not JSON: {error}")))?;
        Self::of(value).map_err(|found| {
            Refusal::whole(format_args!("expected an object ({{...}}), found {found}"))
        })
    }

    /// The fields of an object; or what the value is instead.
    pub(super) fn of(value: Value) -> Result<Self, &'static str> {
        match value {
            Value::Object(left) => Ok(Self {
                left,
                known: Vec::new(),
            }),
            other => Err(kind_of(&other)),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name).filter(|value| !value.is_null())
    }

    /// `true`, `false`, or not there.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    /// A text, or nothing.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a text", &other)),
        }
    }

    /// The items of a list that has two names, one for a single item. Each may hold one item or a list of them.
    pub(super) fn items(&mut self, names: [&'static str; 2]) -> Vec<Placed<Value>> {
        let mut items = Vec::new();
        for name in names {
            match self.take(name) {
                None => {}
                Some(Value::Array(list)) => {
                    let placed = list.into_iter().enumerate().map(|(index, value)| Placed {
                        place: format!("{name}[{index}]"),
                        value,
                    });
                    items.extend(placed);
                }
                Some(value) => items.push(Placed {
                    place: name.to_owned(),
                    value,
                }),
            }
        }
        items
    }

    /// The texts of such a list.
    pub(super) fn texts(
        &mut self,
        names: [&'static str; 2],
    ) -> Result<Vec<Placed<String>>, Refusal> {
        let texts = self.items(names).into_iter().map(Placed::text);
        texts.collect()
    }

    /// Refuses what nobody has asked for: a misspelt field must not make a purge silently smaller.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(unknown) => Err(Refusal::of(
                unknown,
                format_args!(
                    "there is no such field; there are {}",
                    self.known.join(", ")
                ),
            )),
        }
    }
}

impl Placed<Value> {
    /// The text that it must be.
    pub(super) fn text(self) -> Result<Placed<String>, Refusal> {
        match self.value {
            Value::String(value) if !value.is_empty() => Ok(Placed {
                place: self.place,
                value,
            }),
            Value::String(_) => Err(Refusal::of(self.place, "this text is empty")),
            other => Err(wrong(self.place, "a text", &other)),
        }
    }
}

fn wrong(place: impl Into<String>, expected: &str, found: &Value) -> Refusal {
    let found = kind_of(found);
    Refusal::of(place, format_args!("expected {expected}, found {found}"))
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
