//! What the file may already say and what is not in effect yet: one list, so that nothing is silently ignored.
//!
//! A row goes when the feature comes.

use toml::de::DeTable;

/// What is not in effect yet: the table, and what happens instead.
const NOT_YET: [(&str, &str); 4] = [
    ("monitor", "nothing is counted or logged by it"),
    ("warm", "nothing is fetched ahead"),
    ("trace", "nothing is exported"),
    ("reload", "a restart reads the file again"),
];

/// One sentence for each thing in the file that is not in effect yet.
pub(super) fn notices(root: &DeTable<'_>) -> Vec<String> {
    let said = NOT_YET
        .iter()
        .filter(|(table, _)| root.contains_key(*table));
    said.map(|(table, instead)| format!("[{table}] is not in effect yet: {instead}"))
        .collect()
}
