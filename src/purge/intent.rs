//! Announcements of writes that do not pass through the proxy, and their ends.

use std::time::Duration;

use super::fields::Fields;
use super::{Refusal, Wanted};
use crate::units;

/// A request to announce a write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opening {
    /// What it may change.
    pub wanted: Wanted,
    /// The longest time after which it may still take place; `None`: that of `[coherence]`.
    pub ttl: Option<Duration>,
}

/// A request to end an announced write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Closing {
    /// The write.
    pub token: u64,
    /// Whether it took place.
    pub committed: bool,
    /// What it changed; nothing said: what was announced.
    pub wanted: Wanted,
}

impl Opening {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// The first thing in it that cannot be understood, by its field.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields::parse(json)?;
        let wanted = Wanted::read(&mut fields, false)?;
        let ttl = fields.text("ttl")?;
        fields.finish()?;
        if wanted == Wanted::default() {
            let reason = "nothing to announce: give tags, paths, routes, keys, or \"all\": true";
            return Err(Refusal::whole(reason));
        }
        let ttl = ttl.map(|text| units::parse_duration(&text)).transpose();
        let ttl = ttl.map_err(|error| Refusal::of("ttl", error))?;
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Refusal::of("ttl", "a write takes longer than no time"));
        }
        Ok(Self { wanted, ttl })
    }
}

impl Closing {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// The first thing in it that cannot be understood, by its field.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields::parse(json)?;
        let wanted = Wanted::read(&mut fields, false)?;
        let token = fields.text("token")?;
        let committed = fields.flag("committed")?;
        fields.finish()?;
        let token = token.ok_or_else(|| Refusal::of("token", "it is missing"))?;
        let token = parse_token(&token)
            .ok_or_else(|| Refusal::of("token", "this is none that an announcement answers"))?;
        // Neither is a safe guess: one drops what did not change, the other keeps what did.
        let committed = committed
            .ok_or_else(|| Refusal::of("committed", "say whether the write took place"))?;
        if !committed && wanted != Wanted::default() {
            return Err(Refusal::of(
                "committed",
                "a write that did not take place changed nothing: leave out what it would have",
            ));
        }
        Ok(Self {
            token,
            committed,
            wanted,
        })
    }
}

/// Sixteen hex digits.
fn parse_token(text: &str) -> Option<u64> {
    let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}
