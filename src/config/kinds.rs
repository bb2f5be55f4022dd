//! The kinds of values: how a text, a number or a list of the file becomes a type.
//!
//! Each function reads one [`Value`], reports what is wrong with it and how to write it, and gives `None` then.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderName;
use ipnet::IpNet;
use toml::de::DeValue;

use crate::config::findings::suggest;
use crate::config::reader::Value;
use crate::config::settings::MaxSize;
use crate::headers::coding::Coding;
use crate::identity::Credential;
use crate::policy::Cookies;
use crate::units;
use crate::upstream::Target;

/// A duration: `"5m"`.
pub(super) fn duration(value: Value<'_>) -> Option<Duration> {
    const EXAMPLES: &str = "\"250ms\", \"30s\", \"5m\" or \"1h30m\"";
    let text = match value.get() {
        DeValue::Integer(number) => {
            let message = format!("`{}` is a duration and needs a unit", value.key());
            return value.reject(message, format!("write \"{number}s\" for seconds"));
        }
        _ => value.text("a duration", EXAMPLES)?,
    };
    let parsed = units::parse_duration(text);
    or_report(value, parsed, &format!("write {EXAMPLES}"))
}

/// A duration that is not zero.
pub(super) fn positive_duration(value: Value<'_>) -> Option<Duration> {
    let duration = duration(value)?;
    if duration.is_zero() {
        let message = format!("`{}` cannot be zero: every request would fail", value.key());
        return value.reject(message, "write a duration such as \"10s\"");
    }
    Some(duration)
}

/// A size: `"64KiB"`.
pub(super) fn size(value: Value<'_>) -> Option<u64> {
    const EXAMPLES: &str = "\"64KiB\" or \"256MiB\"";
    let text = match value.get() {
        DeValue::Integer(number) => {
            let message = format!("`{}` is a size and needs a unit", value.key());
            return value.reject(message, format!("write \"{number}B\" for bytes"));
        }
        _ => value.text("a size", EXAMPLES)?,
    };
    let parsed = units::parse_size(text);
    or_report(value, parsed, &format!("write {EXAMPLES}"))
}

/// A size, or `"auto"`.
pub(super) fn max_size(value: Value<'_>) -> Option<MaxSize> {
    match value.get().as_str() {
        Some("auto") => Some(MaxSize::Auto),
        _ => size(value).map(MaxSize::Bytes),
    }
}

/// `true` or `false`.
pub(super) fn boolean(value: Value<'_>) -> Option<bool> {
    match value.get().as_bool() {
        Some(boolean) => Some(boolean),
        None => value.expected("true or false", "true or false, without quotes"),
    }
}

/// A whole number in a range.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl Fn(Value<'_>) -> Option<T>
where
    T: Copy + Display + PartialOrd + TryFrom<i64>,
{
    move |value| {
        let (low, high) = (range.start(), range.end());
        let example = format!("a whole number from {low} to {high}");
        let DeValue::Integer(integer) = value.get() else {
            return value.expected("a whole number", &example);
        };
        let parsed = i64::from_str_radix(integer.as_str(), integer.radix());
        match parsed.ok().and_then(|number| T::try_from(number).ok()) {
            Some(number) if range.contains(&number) => Some(number),
            Some(_) | None => value.reject(
                format!("`{}` cannot be {integer}", value.key()),
                format!("write {example}"),
            ),
        }
    }
}

/// A share of a whole: 0.0 to 1.0.
pub(super) fn share(value: Value<'_>) -> Option<f64> {
    let text = match value.get() {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) => integer.as_str(),
        _ => return value.expected("a share", "a number from 0.0 to 1.0"),
    };
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Some(share),
        Ok(_) | Err(_) => value.reject(
            format!(
                "`{}` is a share of a whole and cannot be {text}",
                value.key()
            ),
            "write a number from 0.0 to 1.0",
        ),
    }
}

/// One of a few words.
pub(super) fn word<T: Clone>(words: &[(&str, T)]) -> impl Fn(Value<'_>) -> Option<T> {
    move |value| {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let text = value.text("a word", &format!("\"{}\"", names.join("\" or \"")))?;
        match words.iter().find(|(name, _)| *name == text) {
            Some((_, meaning)) => Some(meaning.clone()),
            None => value.reject(
                format!("`{}` cannot be \"{text}\"", value.key()),
                suggest(text, &names),
            ),
        }
    }
}

/// Any text that is not empty.
pub(super) fn text(value: Value<'_>) -> Option<String> {
    let text = value.text("a text", "it in quotes")?;
    if text.trim().is_empty() {
        let message = format!("`{}` is empty", value.key());
        return value.reject(message, "fill it in, or remove the line");
    }
    Some(text.to_owned())
}

/// A path in the file system.
pub(super) fn file(value: Value<'_>) -> Option<PathBuf> {
    text(value).map(PathBuf::from)
}

/// A path of the app: `/api/users/me/`.
pub(super) fn app_path(value: Value<'_>) -> Option<String> {
    let text = value.text("a path of the app", "\"/api/...\"")?;
    if !text.starts_with('/') || text.contains(char::is_whitespace) {
        let message = format!("`{}`: \"{text}\" is no path of the app", value.key());
        return value.reject(
            message,
            "write a path that begins with \"/\", without a host",
        );
    }
    Some(text.to_owned())
}

/// A JSON pointer (RFC 6901): `/data/id`.
pub(super) fn pointer(value: Value<'_>) -> Option<String> {
    let text = value.text("a JSON pointer", "\"/id\"")?;
    if !text.is_empty() && !text.starts_with('/') {
        let message = format!("`{}`: \"{text}\" is no JSON pointer", value.key());
        let steps = text.trim_start_matches("$.").replace('.', "/");
        return value.reject(message, format!("write \"/{steps}\""));
    }
    Some(text.to_owned())
}

/// Something that is written as a text and knows how to be read from one.
pub(super) fn parsed<T>(value: Value<'_>) -> Option<T>
where
    T: FromStr<Err: Display>,
{
    let example = "\"0.0.0.0:8080\" or \"unix:/run/reprise.sock\"";
    let parsed = value.text("an address", example)?.parse();
    or_report(value, parsed, &format!("write {example}"))
}

/// Where the app is.
pub(super) fn target(value: Value<'_>) -> Option<Target> {
    let example = "\"http://127.0.0.1:8000\", \"https://...\" or \"unix:/run/gunicorn.sock\"";
    let parsed = Target::parse(value.text("a URL", example)?);
    or_report(value, parsed, &format!("write {example}"))
}

/// The name of a request or response field.
pub(super) fn header(value: Value<'_>) -> Option<HeaderName> {
    let text = value.text("the name of a header", "\"Accept\"")?;
    match HeaderName::from_str(text) {
        Ok(name) if text != "*" => Some(name),
        Ok(_) | Err(_) => value.reject(
            format!("`{}`: \"{text}\" is no name of a header", value.key()),
            "write a name such as \"Accept-Language\"",
        ),
    }
}

/// A network: `"10.0.0.0/8"`, or one address.
pub(super) fn network(value: Value<'_>) -> Option<IpNet> {
    let text = value.text("a network", "\"10.0.0.0/8\"")?;
    let lone = || text.parse::<IpAddr>().map(IpNet::from);
    match text.parse::<IpNet>().or_else(|_| lone()) {
        Ok(network) => Some(network),
        Err(_) => value.reject(
            format!("`{}`: \"{text}\" is no network", value.key()),
            "write an address and a prefix length, such as \"10.0.0.0/8\" or \"fd00::/8\"",
        ),
    }
}

/// A status to which a lifetime can apply.
pub(super) fn status(value: Value<'_>) -> Option<StatusCode> {
    let code = number(200..=599_u16)(value)?;
    match code {
        206 => value.reject(
            "206 is a part of an answer and is never stored",
            "remove it: ranges are served from the whole answer",
        ),
        304 => value.reject(
            "304 refreshes a stored answer and is none itself",
            "remove it",
        ),
        _ => StatusCode::from_u16(code).ok(),
    }
}

/// Which cookies matter: `"all"`, or a list of names.
pub(super) fn cookies(value: Value<'_>) -> Option<Cookies> {
    if value.get().as_str() == Some("all") {
        return Some(Cookies::All);
    }
    let example = "\"all\", or a list such as [\"sessionid\"]";
    let items = value.items(false, "\"all\" or a list of cookies", example)?;
    every(items, cookie).map(Cookies::Only)
}

fn cookie(value: Value<'_>) -> Option<String> {
    let name = value.text("the name of a cookie", "\"sessionid\"")?;
    if is_token(name) {
        return Some(name.to_owned());
    }
    let message = format!("`{}`: \"{name}\" is no name of a cookie", value.key());
    value.reject(message, "write the name alone, such as \"sessionid\"")
}

/// A credential: `"header:Authorization"`, `"cookie:sessionid"`.
pub(super) fn credential(value: Value<'_>) -> Option<Credential> {
    let example = "\"header:Authorization\" or \"cookie:sessionid\"";
    let text = value.text("a credential", example)?;
    let parsed = match text.split_once(':') {
        Some(("header", name)) => HeaderName::from_str(name).ok().map(Credential::Header),
        Some(("cookie", name)) if is_token(name) => Some(Credential::Cookie(name.to_owned())),
        Some(_) | None => None,
    };
    let reject = || {
        let message = format!("`{}`: \"{text}\" is no credential", value.key());
        value.reject(message, format!("write {example}"))
    };
    parsed.or_else(reject)
}

/// A query parameter that is no part of a key: a name, or a prefix and `*`.
pub(super) fn parameter(value: Value<'_>) -> Option<String> {
    let text = text(value)?;
    if text.trim_end_matches('*').contains('*') || text.contains("**") {
        let message = format!("`{}`: \"{text}\" has a * before its end", value.key());
        return value.reject(
            message,
            "write a name, or a prefix and one *, such as \"utm_*\"",
        );
    }
    Some(text)
}

/// A content coding.
pub(super) fn coding(value: Value<'_>) -> Option<Coding> {
    word(&[
        ("zstd", Coding::Zstd),
        ("br", Coding::Br),
        ("gzip", Coding::Gzip),
    ])(value)
}

/// A media type: `application/json`, or `text/*`.
pub(super) fn media_type(value: Value<'_>) -> Option<String> {
    let text = value.text("a media type", "\"application/json\"")?;
    let valid = text.split_once('/').is_some_and(|(main, sub)| {
        is_token(main) && main != "*" && (sub == "*" || (is_token(sub) && !sub.contains('*')))
    });
    if valid {
        return Some(text.to_ascii_lowercase());
    }
    let message = format!("`{}`: \"{text}\" is no media type", value.key());
    value.reject(
        message,
        "write \"application/json\", or \"text/*\" for all of a kind",
    )
}

/// A level of the log.
pub(super) fn level(value: Value<'_>) -> Option<String> {
    let words = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
    word(&words)(value).map(str::to_owned)
}

/// A list whose items are all of one kind.
pub(super) fn list<T>(
    parse: impl Fn(Value<'_>) -> Option<T>,
) -> impl Fn(Value<'_>) -> Option<Vec<T>> {
    move |value| every(value.items(false, "a list", "it in [brackets]")?, &parse)
}

/// A list, or its only item without brackets.
pub(super) fn one_or_more<T>(
    parse: impl Fn(Value<'_>) -> Option<T>,
) -> impl Fn(Value<'_>) -> Option<Vec<T>> {
    move |value| {
        let items = value.items(
            true,
            "a text or a list",
            "it in quotes, or several in [brackets]",
        )?;
        if items.is_empty() {
            let message = format!("`{}` is an empty list", value.key());
            return value.reject(message, "name at least one");
        }
        every(items, &parse)
    }
}

/// Reads every item, so that each wrong one is reported; `None` when there was one.
fn every<'a, T>(items: Vec<Value<'a>>, parse: impl Fn(Value<'a>) -> Option<T>) -> Option<Vec<T>> {
    let read: Vec<Option<T>> = items.into_iter().map(parse).collect();
    read.into_iter().collect()
}

/// Reports a failure in its own words; what it says after a colon is the help, if it says how to write it.
pub(super) fn or_report<T, E: Display>(
    value: Value<'_>,
    parsed: Result<T, E>,
    help: &str,
) -> Option<T> {
    let error = match parsed {
        Ok(parsed) => return Some(parsed),
        Err(error) => error.to_string(),
    };
    let (problem, help) = match error.split_once(": write ") {
        Some((problem, rest)) => (problem, format!("write {rest}")),
        None => (error.as_str(), help.to_owned()),
    };
    value.reject(format!("`{}`: {problem}", value.key()), help)
}

/// Whether a text is a token of RFC 9110 §5.6.2, which names of cookies and the halves of media types are.
fn is_token(text: &str) -> bool {
    let mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || mark(byte))
}
