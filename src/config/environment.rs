//! The environment variables that Reprise reads: a closed list, read in one place.

use std::fmt;
use std::path::PathBuf;

/// What the process environment says. Tests fill it in by hand.
#[derive(Clone)]
pub struct Environment {
    /// `REPRISE_CONFIG`: the configuration file, when the command line names none.
    pub config: Option<PathBuf>,
    /// `REPRISE_LOG`: what is logged; wins over `[log] level`.
    pub log: Option<String>,
    /// `REPRISE_UPSTREAM_URL`: wins over `[upstream] url`.
    pub upstream_url: Option<String>,
    /// `REPRISE_REDIS_URL`, or `REDIS_URL` without it: wins over `[redis] url`.
    pub redis_url: Option<String>,
    /// `REPRISE_REDIS_PASSWORD`: the password, unless `[redis]` says where else it is.
    pub redis_password: Option<Secret>,
    /// `REPRISE_IDENTITY_KEY`: the key of identity hashes, the same on all replicas.
    pub identity_key: Option<Secret>,
    /// `REPRISE_ADMIN_TOKEN`: what writes to the admin API must show.
    pub admin_token: Option<Secret>,
    /// Looks up a variable that the file names (`password_env`, `token_env`) and that is none of the above.
    pub named: fn(&str) -> Option<String>,
}

/// A text that is never shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Default for Environment {
    fn default() -> Self {
        Self {
            config: None,
            log: None,
            upstream_url: None,
            redis_url: None,
            redis_password: None,
            identity_key: None,
            admin_token: None,
            named: |_| None,
        }
    }
}

impl Environment {
    /// What the environment of this process says. A variable that is set to nothing counts as not set: that is
    /// what templates of deployments leave behind.
    #[must_use]
    pub fn from_process() -> Self {
        Self {
            config: variable("REPRISE_CONFIG").map(PathBuf::from),
            log: variable("REPRISE_LOG"),
            upstream_url: variable("REPRISE_UPSTREAM_URL"),
            redis_url: variable("REPRISE_REDIS_URL").or_else(|| variable("REDIS_URL")),
            redis_password: variable(REDIS_PASSWORD).map(Secret),
            identity_key: variable("REPRISE_IDENTITY_KEY").map(Secret),
            admin_token: variable(ADMIN_TOKEN).map(Secret),
            named: variable,
        }
    }

    /// The secret in the variable of this name.
    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        match name {
            REDIS_PASSWORD => self.redis_password.clone(),
            ADMIN_TOKEN => self.admin_token.clone(),
            other => (self.named)(other).map(Secret),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URLs: whoever sets REDIS_URL may have put a password in it.
        f.debug_struct("Environment")
            .field("config", &self.config)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

impl Secret {
    /// Keeps a text secret.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one who must send or compare it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The variable that `[redis] password_env` names by default.
pub(super) const REDIS_PASSWORD: &str = "REPRISE_REDIS_PASSWORD";

/// The variable that `[admin] token_env` names by default.
pub(super) const ADMIN_TOKEN: &str = "REPRISE_ADMIN_TOKEN";

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that owns the closed list of variables"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let environment = Environment {
            redis_password: Some(Secret::new("hunter2".into())),
            redis_url: Some("redis://:hunter2@r/3".into()),
            ..Environment::default()
        };
        let password = environment.secret(REDIS_PASSWORD).expect("a password");
        assert_eq!(password.expose(), "hunter2");
        assert!(!format!("{environment:?} {password:?}").contains("hunter2"));
        assert_eq!(environment.secret("OTHER"), None);
    }
}
