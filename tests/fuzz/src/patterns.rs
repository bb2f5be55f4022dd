//! Path patterns, globs and templates of tags. Input, one a line: a pattern (or glob, or template), another, a path, a
//! query, and values for captures.

use std::borrow::Cow;

use reprise::capture::{Source, Values};
use reprise::glob::Glob;
use reprise::pattern::{Pattern, Segment};
use reprise::tag::{Names, Tag, Template};

use crate::input::{decoded, lines};

/// What holds for any patterns and any path.
pub fn check(data: &[u8]) {
    let texts: Vec<&str> = lines(data)
        .filter_map(|line| str::from_utf8(line).ok())
        .collect();
    let text = |index: usize| texts.get(index).copied().unwrap_or_default();
    let (one, other, path) = (text(0), text(1), text(2));
    a_pattern_matches_what_its_segments_say(one, path);
    one_pattern_covers_another(one, other, path);
    a_glob_matches_what_its_stars_say(one, path, text(3));
    a_glob_matches_what_its_stars_say(one, other, "");
    a_template_knows_its_names(one, &texts[texts.len().min(4)..]);
    let _ = Tag::named(one);
}

fn a_pattern_matches_what_its_segments_say(text: &str, path: &str) {
    let Ok(pattern) = Pattern::parse(text) else {
        return;
    };
    assert_eq!(Pattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern));
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let segments = pattern.segments();
    let fits = if pattern.is_open() {
        parts.len() >= segments.len()
    } else {
        parts.len() == segments.len()
    };
    let alike = segments
        .iter()
        .zip(&parts)
        .all(|(segment, part)| match segment {
            Segment::Literal(text) => text == part,
            Segment::Any | Segment::Capture(_) => true,
        });
    let found = pattern.matches(path);
    assert_eq!(found.is_some(), fits && alike, "{text} on {path}");
    let Some(captures) = found else {
        return;
    };
    let named = segments
        .iter()
        .zip(&parts)
        .filter_map(|(segment, part)| match segment {
            Segment::Capture(name) => Some((name.as_str(), *part)),
            Segment::Literal(_) | Segment::Any => None,
        });
    let named: Vec<_> = named
        .map(|(name, part)| {
            (
                name,
                String::from_utf8(decoded(part)).unwrap_or(part.to_owned()),
            )
        })
        .collect();
    let captures: Vec<_> = captures
        .into_iter()
        .map(|(name, value)| (name, value.into_owned()))
        .collect();
    assert_eq!(captures, named);
    assert!(
        pattern.reaches(path).is_some(),
        "a drop reaches what a read finds"
    );
}

fn one_pattern_covers_another(one: &str, other: &str, path: &str) {
    let (Ok(one), Ok(other)) = (Pattern::parse(one), Pattern::parse(other)) else {
        return;
    };
    assert!(one.covers(&one));
    if one.covers(&other) && other.matches(path).is_some() {
        assert!(one.matches(path).is_some(), "{one} and {other} on {path}");
    }
}

fn a_glob_matches_what_its_stars_say(text: &str, path: &str, query: &str) {
    let Ok(glob) = Glob::parse(text) else {
        return;
    };
    assert_eq!(Glob::parse(&glob.to_string()).as_ref(), Ok(&glob));
    let whole = if text.contains('?') && !query.is_empty() {
        format!("{path}?{query}")
    } else {
        path.to_owned()
    };
    let expected = by_table(text.as_bytes(), whole.as_bytes());
    let found = glob.matches(path, query);
    // A query is matched in another order, too.
    let may_be_more = !query.is_empty() && text.contains('?');
    assert!(
        found == expected || (found && may_be_more),
        "{text} on {whole}"
    );
}

/// By the rule for each pair of beginnings.
fn by_table(glob: &[u8], text: &[u8]) -> bool {
    let mut row: Vec<bool> = vec![false; text.len() + 1];
    row[0] = true;
    for byte in glob {
        let above = row.clone();
        row[0] = above[0] && *byte == b'*';
        for at in 1..=text.len() {
            row[at] = match byte {
                b'*' => above[at] || row[at - 1],
                byte => above[at - 1] && text[at - 1] == *byte,
            };
        }
    }
    row[text.len()]
}

/// Every name that a template gives is one that it matches, and its class meets it.
fn a_template_knows_its_names(text: &str, values: &[&str]) {
    let Ok(template) = Template::parse(text) else {
        return;
    };
    assert_eq!(Template::parse(template.as_str()).as_ref(), Ok(&template));
    let sources = template.sources().filter_map(|source| match source {
        Source::Path(name) => Some(name.as_str()),
        Source::User | Source::Body(_) | Source::Response(_) => None,
    });
    let path: Vec<(&str, Cow<'_, str>)> = sources
        .zip(values)
        .map(|(name, value)| (name, Cow::Borrowed(*value)))
        .collect();
    let filled = Values {
        path: &path,
        user: Some("user"),
        ..Values::default()
    };
    let class = template.class();
    assert_eq!(class.is_some(), template.sources().next().is_some());
    if let Some(class) = &class {
        assert!(template.matches(class).is_some(), "its own class");
    }
    match template.expand(&filled) {
        Names::Class(found) => assert_eq!(Some(found), class),
        Names::Exact(names) => {
            for name in names.iter().filter(|name| !name.ends_with('*')) {
                let captured = template.matches(name);
                let captured = captured.unwrap_or_else(|| panic!("{text} gave {name}"));
                what_was_captured_is_what_was_filled_in(&template, &captured, &filled, name);
            }
        }
    }
}

/// Relations fill in what a name's template captured: another value would drop too little.
fn what_was_captured_is_what_was_filled_in(
    template: &Template,
    captured: &[(&str, &str)],
    filled: &Values<'_>,
    name: &str,
) {
    for (capture, value) in captured {
        let first = template
            .sources()
            .any(|source| *source == Source::Path((*capture).to_owned()));
        assert!(first, "{capture} is none of {template}");
        let found = filled
            .find(&Source::Path((*capture).to_owned()))
            .expect("it was filled in");
        assert_eq!(
            found.as_slice(),
            [*value],
            "{capture} of {template} in {name}"
        );
    }
}
