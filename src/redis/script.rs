//! A script that runs inside Redis: its text, and the hash by which Redis knows it.

use std::fmt;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// A script. Make it once: its hash is computed here.
pub struct Script {
    /// What it is called in errors and in the log.
    pub name: &'static str,
    pub(super) text: String,
    pub(super) hash: String,
}

impl Script {
    /// A script with this text.
    #[must_use]
    pub fn new(name: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let hash = sum
            .as_ref()
            .iter()
            .fold(String::new(), |hash, byte| hash + &format!("{byte:02x}"));
        Self { name, text, hash }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_that_redis_computes() {
        let script = Script::new("one", "return 1");
        assert_eq!(script.hash, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
