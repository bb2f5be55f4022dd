//! Values in JSON, and requests of the admin API. Input: a path of steps; on the lines below it JSON.

use reprise::capture::{self, Source, Values};
use reprise::purge;
use reprise::tag::{Names, Tag, Template};
use serde_json::Value;

/// What holds for any steps and any JSON.
pub fn check(data: &[u8]) {
    let _ = purge::Request::parse(data);
    let _ = purge::Opening::parse(data);
    let _ = purge::Closing::parse(data);
    let end = data
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(data.len());
    let (first, json) = data.split_at(end);
    let Ok(steps) = str::from_utf8(first) else {
        return;
    };
    a_spelling_is_final(steps);
    let _ = purge::Request::parse(json);
    if let Ok(json) = serde_json::from_slice(json) {
        what_is_found_is_there(steps, &json);
        names_are_bounded(steps, &json);
    }
}

/// A value in the spelling that tags compare has no other, and a tag made of it is the tag of every spelling.
fn a_spelling_is_final(value: &str) {
    let Some(one) = capture::canonical(value) else {
        return;
    };
    assert_eq!(
        capture::canonical(&one).as_deref(),
        Some(&*one),
        "{value:?}"
    );
    // With a suffix or as a UUID with odd hyphens it is more than a spelling.
    let stem = value.split('.').next().unwrap_or_default();
    let digits = stem.bytes().filter(|byte| *byte != b'-');
    if digits.clone().count() == 32 && digits.clone().all(|byte| byte.is_ascii_hexdigit()) {
        return;
    }
    assert_eq!(
        Tag::named(&format!("x:{stem}")),
        Tag::named(&format!("x:{one}")),
        "{value:?}"
    );
}

/// Without a star there is one value, that which a JSON pointer finds.
fn what_is_found_is_there(steps: &str, json: &Value) {
    let source = Source::parse(&format!("body.{steps}"));
    let values = Values {
        body: Some(json),
        ..Values::default()
    };
    let found = values.find(&source);
    if let Some(found) = &found {
        assert!(!found.is_empty() && found.len() <= 256);
        let mut once = found.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), found.len(), "each value once");
    }
    if steps.split('.').any(|step| step == "*") || steps.contains(['~', '/', '+']) {
        return;
    }
    let leaf = steps.split('.').try_fold(json, |json, step| match json {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        Value::Object(fields) => fields.get(step),
        _ => None,
    });
    let text = match leaf {
        Some(Value::String(text)) => capture::canonical(text).map(|text| text.into_owned()),
        Some(Value::Number(number)) => {
            capture::plain(number).and_then(|text| Some(capture::canonical(&text)?.into_owned()))
        }
        _ => None,
    };
    assert_eq!(
        found.map(|found| found.into_vec()),
        text.map(|text| vec![text])
    );
}

/// However many values a body has: names are few, or the class stands for them.
fn names_are_bounded(steps: &str, json: &Value) {
    let text = format!("a:{{body.{steps}}}:{{body.{steps}}}:{{body.{steps}}}");
    let Ok(template) = Template::parse(&text) else {
        return;
    };
    let values = Values {
        body: Some(json),
        ..Values::default()
    };
    match template.expand(&values) {
        Names::Exact(names) => assert!(!names.is_empty() && names.len() <= 256, "{}", names.len()),
        Names::Class(class) => assert_eq!(class, "a:*"),
    }
}
