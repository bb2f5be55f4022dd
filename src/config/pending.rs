//! What the file may already say and what is not in effect yet: one list, so that nothing is silently ignored.
//!
//! A row goes when the feature comes.

use toml::de::{DeTable, DeValue};

/// When a row is announced.
#[derive(Clone, Copy, Debug)]
enum When {
    /// The table stands in the file.
    Table,
    /// This key stands there, with another value than this default.
    Key(&'static str, &'static str),
    /// This key stands there with this value.
    Is(&'static str, &'static str),
}

/// What is not in effect yet: the table, when it matters, what happens instead.
const NOT_YET: [(&str, When, &str); 10] = [
    ("redis", When::Table, "memory only"),
    (
        "coherence",
        When::Key("lease", "1s"),
        "a single process needs none",
    ),
    (
        "coherence",
        When::Key("on_partition", "forward"),
        "there is no Redis to be cut off from",
    ),
    (
        "coherence",
        When::Key("url", ""),
        "the log is in this process",
    ),
    ("monitor", When::Table, "nothing is counted or logged by it"),
    ("warm", When::Table, "nothing is fetched ahead"),
    ("trace", When::Table, "nothing is exported"),
    ("reload", When::Table, "a restart reads the file again"),
    (
        "cache",
        When::Is("coalesce", "cluster"),
        "each replica fetches for itself, as with \"replica\"",
    ),
    (
        "route",
        When::Is("coalesce", "cluster"),
        "each replica fetches for itself, as with \"replica\"",
    ),
];

/// One sentence for each thing in the file that is not in effect yet.
pub(super) fn notices(root: &DeTable<'_>) -> Vec<String> {
    let said = NOT_YET.iter().filter(|(table, when, _)| {
        let tables: Vec<&DeTable<'_>> = match root.get(*table).map(|value| value.get_ref()) {
            Some(DeValue::Table(table)) => vec![table],
            Some(DeValue::Array(list)) => list
                .iter()
                .filter_map(|item| item.get_ref().as_table())
                .collect(),
            Some(_) | None => Vec::new(),
        };
        tables.into_iter().any(|table| when.is_so(table))
    });
    said.map(|(table, when, instead)| {
        format!("{} is not in effect yet: {instead}", when.name(table))
    })
    .collect()
}

impl When {
    fn is_so(self, table: &DeTable<'_>) -> bool {
        let value = |key| table.get(key).map(|value| plain(value.get_ref()));
        match self {
            Self::Table => true,
            Self::Key(key, default) => value(key).is_some_and(|value| value != default),
            Self::Is(key, wanted) => value(key).is_some_and(|value| value == wanted),
        }
    }

    fn name(self, table: &str) -> String {
        match self {
            Self::Table => format!("[{table}]"),
            Self::Key(key, _) => format!("[{table}] {key}"),
            Self::Is(key, value) if table == "route" => format!("[[route]] {key} = \"{value}\""),
            Self::Is(key, value) => format!("[{table}] {key} = \"{value}\""),
        }
    }
}

fn plain(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            String::new()
        }
    }
}
