//! The configuration file. Input: its text; or, after a line `url`, the end of a URL that has a password.

use reprise::config::{self, Diagnostic, Environment, Failure, Severity};

const SECRET: &str = "hunter2";

/// Any text is a configuration, or is told where it is none.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    match text.strip_prefix("url\n") {
        None => drop(is_loaded_or_explained(text)),
        Some(end) => passwords_are_not_shown(end),
    }
}

/// Everything that was said of a text.
fn is_loaded_or_explained(text: &str) -> String {
    let mut said = String::new();
    let found = match config::parse("proxy.toml", text, &Environment::default()) {
        Ok(loaded) => {
            said.push_str(&format!(
                "{:?} {}",
                loaded.config,
                loaded.notices.join("\n")
            ));
            assert!(
                loaded
                    .warnings
                    .iter()
                    .all(|one| one.severity() == Severity::Warning)
            );
            loaded.warnings
        }
        Err(Failure::Invalid(found)) => {
            assert!(found.iter().any(|one| one.severity() == Severity::Error));
            found
        }
        Err(Failure::Unreadable(error, _)) => panic!("nothing is read from a file: {error}"),
    };
    for one in &found {
        its_place_is_in_the_text(one, text);
        said.push_str(&one.render(false));
        assert!(!one.render(true).is_empty() && !one.message().is_empty());
    }
    let places: Vec<_> = found.iter().filter_map(Diagnostic::position).collect();
    assert!(places.is_sorted(), "in the order of the file");
    said
}

fn its_place_is_in_the_text(one: &Diagnostic, text: &str) {
    let Some((line, column)) = one.position() else {
        return;
    };
    let found = text.split('\n').nth(line - 1).expect("the line is there");
    assert!(column >= 1 && column <= found.chars().count() + 1);
}

/// A URL with a password, right or wrong, in each place that takes one.
fn passwords_are_not_shown(end: &str) {
    // What ends the text, the user information or the place of the password makes another text of it.
    let end: String = end
        .chars()
        .filter(|c| {
            !c.is_control() && !matches!(c, '"' | '\'' | '\\' | '@' | '/' | '?' | '#' | ':')
        })
        .collect();
    for (table, scheme) in [
        ("upstream", "http"),
        ("redis", "redis"),
        ("redis", "rediss"),
    ] {
        for end in [&end[..], "host:1/3"] {
            let text = format!("[{table}]\nurl = \"{scheme}://u:{SECRET}@{end}\"\nother = {end}\n");
            let said = is_loaded_or_explained(&text);
            assert!(!said.contains(SECRET), "{said}");
        }
    }
}
