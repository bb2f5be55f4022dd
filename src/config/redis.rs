//! `[redis]`: where it is, and where its password comes from.

use crate::config::environment::{self, Environment, Secret};
use crate::config::kinds;
use crate::config::reader::{Section, Value};
use crate::config::settings::{Password, Redis};
use crate::redis;

/// Reads `[redis]`; without the table there is none.
pub(super) fn read(root: &Section<'_>, environment: &Environment) -> Option<Redis> {
    let section = root.section("redis");
    let mut redis = Redis::default();
    section.set("url", &mut redis.url, redis_url);
    section.set("prefix", &mut redis.prefix, kinds::text);
    section.set("session_url", &mut redis.session_url, optional_redis_url);
    section.set(
        "command_timeout",
        &mut redis.command_timeout,
        kinds::positive_duration,
    );
    section.set("max_entry_size", &mut redis.max_entry_size, kinds::size);
    redis.password = password(&section, environment);
    section.finish();
    if let Some(url) = &environment.redis_url {
        let (url, inside) = without_password(url);
        redis.url = url;
        redis.password = inside.map_or(redis.password, Password::Given);
    }
    section.is_present().then_some(redis)
}

fn password(section: &Section<'_>, environment: &Environment) -> Password {
    let variable = section.read("password_env", kinds::text);
    let file = section.read("password_file", kinds::file);
    if section.has("password_env") && section.has("password_file") {
        let message =
            "the password comes from `password_env` or from `password_file`, not from both";
        let error = section
            .findings()
            .error(message)
            .at(section.place_of("password_file"));
        let error = error.beside(section.place_of("password_env"), "the other one");
        section.findings().add(error.help("remove one of the two"));
    }
    if let Some(file) = file {
        return Password::File(file);
    }
    let variable = variable.as_deref().unwrap_or(environment::REDIS_PASSWORD);
    environment
        .secret(variable)
        .map_or(Password::None, Password::Given)
}

fn redis_url(value: Value<'_>) -> Option<String> {
    let text = value.text("a URL", "\"redis://127.0.0.1:6379/3\"")?;
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    if !REDIS_SCHEMES.contains(&scheme) {
        let message = format!("`{}` is no URL of a Redis", value.key());
        let schemes = REDIS_SCHEMES.join("://, ");
        return value.reject(message, format!("begin it with one of {schemes}://"));
    }
    if without_password(text).1.is_some() {
        let message = format!(
            "`{}` has a password in it: files are copied and shown",
            value.key()
        );
        return value.reject(message, "remove it, and use password_env or password_file");
    }
    if let Err(reason) = redis::check_url(text) {
        let message = format!("`{}` is no URL of a Redis: {reason}", value.key());
        return value.reject(message, "such as \"redis://127.0.0.1:6379/3\"");
    }
    Some(text.to_owned())
}

const REDIS_SCHEMES: [&str; 7] = [
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
    "redis+unix",
];

/// A URL of a Redis, or nothing.
pub(super) fn optional_redis_url(value: Value<'_>) -> Option<Option<String>> {
    match value.get().as_str() {
        Some("") => Some(None),
        _ => redis_url(value).map(Some),
    }
}

/// A URL without the password in it, and that password. In the environment it may stand there: that is what hosting
/// platforms put into `REDIS_URL`.
fn without_password(url: &str) -> (String, Option<Secret>) {
    let parts = || {
        let (scheme, rest) = url.split_once("://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        // A password may have a slash in it, and then the host comes after that.
        let at = rest
            .rfind('@')
            .filter(|at| *at < end || !rest[..end].contains('@'))?;
        let (user, password) = rest[..at].split_once(':')?;
        let at_host = if user.is_empty() { at + 1 } else { at };
        Some((
            format!("{scheme}://{user}{}", &rest[at_host..]),
            password.to_owned(),
        ))
    };
    match parts() {
        Some((url, password)) => (url, Some(Secret::new(password))),
        None => (url.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_taken_out_of_a_url() {
        for (url, rest, password) in [
            ("redis://127.0.0.1:6379/3", "redis://127.0.0.1:6379/3", None),
            ("redis://:pw@r:6379/3", "redis://r:6379/3", Some("pw")),
            ("rediss://me:p:w@r/3", "rediss://me@r/3", Some("p:w")),
            ("redis://:p/w@r/3", "redis://r/3", Some("p/w")),
            ("redis://:p@w@r/3", "redis://r/3", Some("p@w")),
            ("redis://me@r/3", "redis://me@r/3", None),
            ("redis://r/3?x=a@b", "redis://r/3?x=a@b", None),
        ] {
            let (left, found) = without_password(url);
            assert_eq!(
                (left.as_str(), found.as_ref().map(Secret::expose)),
                (rest, password)
            );
        }
    }
}
