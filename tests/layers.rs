//! The import table of the architecture, as a test: a module may use only what is listed for it.
//!
//! The order is the order of `src/lib.rs`: vocabulary, rules, owners, request path, control path. Nobody imports
//! `config` but `app` and `cli`; storage does not decide (`cache` knows no `policy`), rules do not fetch (`policy` knows
//! no `cache`), and `server` knows neither `proxy` nor `admin`: they are handed to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const TABLE: &[(&str, &[&str])] = &[
    // Vocabulary
    ("capture", &[]),
    ("entry", &["headers", "key", "tag"]),
    ("glob", &[]),
    ("headers", &[]),
    ("identity", &["headers"]),
    ("key", &["glob", "headers", "identity"]),
    ("pattern", &["capture", "headers"]),
    ("tag", &["capture", "pattern"]),
    ("units", &[]),
    // Rules
    ("outcome", &["key", "policy"]),
    ("policy", &["entry", "headers", "key"]),
    (
        "purge",
        &["glob", "key", "pattern", "route", "tag", "units"],
    ),
    ("route", &["capture", "pattern", "policy", "tag"]),
    // Owners
    ("body", &[]),
    (
        "cache",
        &["coherence", "entry", "key", "metrics", "redis", "tag"],
    ),
    (
        "coherence",
        &["entry", "glob", "key", "metrics", "redis", "tag"],
    ),
    ("metrics", &["outcome", "policy"]),
    ("redis", &["metrics"]),
    ("server", &["body", "metrics"]),
    ("upstream", &["body"]),
    // Request path
    ("respond", &["body", "entry", "headers", "policy"]),
    (
        "fill",
        &[
            "body",
            "cache",
            "coherence",
            "entry",
            "headers",
            "identity",
            "key",
            "metrics",
            "policy",
            "respond",
            "route",
            "tag",
            "upstream",
        ],
    ),
    (
        "proxy",
        &[
            "body",
            "cache",
            "capture",
            "coherence",
            "entry",
            "fill",
            "headers",
            "identity",
            "key",
            "metrics",
            "outcome",
            "pattern",
            "policy",
            "purge",
            "redis",
            "respond",
            "route",
            "server",
            "tag",
            "units",
            "upstream",
        ],
    ),
    // Control path
    ("demo", &["body"]),
    (
        "admin",
        &["body", "coherence", "metrics", "proxy", "purge", "server"],
    ),
    (
        "config",
        &[
            "capture", "headers", "identity", "key", "pattern", "policy", "redis", "respond",
            "route", "server", "tag", "units", "upstream",
        ],
    ),
    (
        "app",
        &[
            "admin",
            "cache",
            "coherence",
            "config",
            "fill",
            "identity",
            "key",
            "metrics",
            "outcome",
            "policy",
            "proxy",
            "redis",
            "server",
            "upstream",
        ],
    ),
    (
        "cli",
        &[
            "app", "body", "config", "demo", "server", "units", "upstream",
        ],
    ),
];

/// What the vocabulary, the rules and `respond` must do without.
const IMPURE: &[&str] = &["tokio", "hyper", "hyper_util", "moka", "fred", "rustls"];
const PURE: &[&str] = &[
    "capture", "entry", "glob", "headers", "identity", "key", "pattern", "tag", "units", "outcome",
    "policy", "purge", "route",
];

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (module, allowed) in TABLE {
        for file in sources_of(module) {
            for used in crate_paths_in(&file) {
                if used != *module && !allowed.contains(&used.as_str()) {
                    wrong.push(format!(
                        "{}: `{module}` may not use `{used}`",
                        file.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_lists_every_module_and_only_what_is_used() {
    let modules: BTreeSet<String> = modules();
    let listed: BTreeSet<String> = TABLE
        .iter()
        .map(|(module, _)| (*module).to_owned())
        .collect();
    assert_eq!(modules, listed);
    for (module, allowed) in TABLE {
        let used: BTreeSet<String> = sources_of(module)
            .iter()
            .flat_map(|file| crate_paths_in(file))
            .collect();
        let idle: Vec<_> = allowed
            .iter()
            .filter(|name| !used.contains(**name))
            .collect();
        assert!(
            idle.is_empty(),
            "`{module}` is allowed to use {idle:?} and does not"
        );
    }
}

#[test]
fn no_two_modules_need_each_other() {
    let uses = |module: &str| {
        let row = TABLE.iter().find(|(name, _)| *name == module);
        row.map_or(&[][..], |(_, allowed)| *allowed)
    };
    for (module, _) in TABLE {
        let mut reached = BTreeSet::new();
        let mut waiting: Vec<&str> = uses(module).to_vec();
        while let Some(next) = waiting.pop() {
            if reached.insert(next) {
                waiting.extend(uses(next));
            }
        }
        assert!(
            !reached.contains(module),
            "`{module}` needs itself, through {reached:?}"
        );
    }
}

#[test]
fn the_pure_modules_do_no_io() {
    for module in PURE {
        for file in sources_of(module) {
            let text = production(&file);
            for name in IMPURE {
                let used = text.contains(&format!("{name}::"));
                assert!(
                    !used,
                    "{}: `{module}` is pure and may not use `{name}`",
                    file.display()
                );
            }
        }
    }
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The modules that `src/` holds, by their files.
fn modules() -> BTreeSet<String> {
    let entries = fs::read_dir(source_root()).expect("src");
    let names = entries.map(|entry| entry.expect("an entry").path());
    names
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|name| name != "lib" && name != "main")
        .collect()
}

/// The files of a module: `name.rs`, or everything under `name/`.
fn sources_of(module: &str) -> Vec<PathBuf> {
    let single = source_root().join(format!("{module}.rs"));
    if single.exists() {
        return vec![single];
    }
    let mut files = Vec::new();
    let mut folders = vec![source_root().join(module)];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// A file without its tests and comments.
fn production(file: &Path) -> String {
    let is_test = file.file_stem().is_some_and(|stem| stem == "tests");
    if is_test {
        return String::new();
    }
    let text = fs::read_to_string(file).expect("a source");
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The modules that a file names as `crate::module`.
fn crate_paths_in(file: &Path) -> Vec<String> {
    let text = production(file);
    let after = text
        .match_indices("crate::")
        .map(|(at, found)| &text[at + found.len()..]);
    after
        .filter_map(|rest| {
            rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
        })
        .filter(|name| modules().contains(*name))
        .map(str::to_owned)
        .collect()
}
