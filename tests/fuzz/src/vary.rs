//! Vary and the variants it selects. Input: lines of Vary; after an empty line the fields of one request; after another
//! those of a second.

use http::header::{self, HeaderMap, HeaderName};
use reprise::key::{self, Cookies, Variant, VariantRules};

use crate::input::{elements, field, message, parts, texts};

const RULES: VariantRules<'static> = VariantRules {
    ignore: &[],
    always: &[],
    cookies: &Cookies::All,
    credentials: &[],
    covered: false,
    cookies_covered: false,
};

/// What holds for any Vary and any two requests.
pub fn check(data: &[u8]) {
    let [vary, one, other] = parts(data);
    let (vary, one, other) = (field("vary", vary), message(one), message(other));
    let names = key::vary(&vary);
    assert_eq!(names, plainly(&vary));
    let Some(names) = names else {
        return;
    };
    let variant = Variant::of(&names, &one, &RULES);
    assert!(
        variant.matches(&one, &RULES),
        "a request selects its own variant"
    );
    let mut backwards = names.clone();
    backwards.reverse();
    backwards.extend(names.iter().cloned());
    assert_eq!(Variant::of(&backwards, &one, &RULES), variant);

    let second = Variant::of(&names, &other, &RULES);
    assert_eq!(variant.matches(&other, &RULES), variant == second);
    assert_eq!(second.matches(&one, &RULES), variant == second);
    if variant == second {
        for name in &names {
            alike(name, &one, &other);
        }
    }
    let fields = variant
        .fields()
        .map(|(name, value)| (name.clone(), value.into()));
    assert_eq!(Variant::from_fields(fields.collect()), Some(variant));
}

/// RFC 9110 §12.5.5: names, or `*`, which is none that can be known; nor is what is no name.
fn plainly(vary: &HeaderMap) -> Option<Vec<HeaderName>> {
    let lines = texts(vary, "vary")?;
    let all = lines.iter().flat_map(|line| elements(line, true));
    all.map(|element| match element.as_str() {
        "*" => None,
        name => HeaderName::from_bytes(name.as_bytes()).ok(),
    })
    .collect()
}

/// What selects one variant differs in blanks and case at most: nothing an app could choose its answer by.
fn alike(name: &HeaderName, one: &HeaderMap, other: &HeaderMap) {
    if *name == header::ACCEPT_ENCODING || *name == header::COOKIE {
        return;
    }
    assert_eq!(one.contains_key(name), other.contains_key(name), "{name}");
    let bare = |headers: &HeaderMap| {
        let lines: Vec<&[u8]> = headers
            .get_all(name)
            .iter()
            .map(|line| line.as_bytes())
            .collect();
        let mut text = lines.join(&b',');
        text.retain(|byte| !byte.is_ascii_whitespace());
        text.make_ascii_lowercase();
        text
    };
    assert_eq!(bare(one), bare(other), "{name}");
}
