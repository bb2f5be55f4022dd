//! Announcements that may stand in the log though their writes are over.
//!
//! A call that ran out of time may still be carried out: a server that stood still goes through what had arrived. An
//! announcement that comes to the log so late, after its write was answered without it or refused, would keep its tags
//! uncached everywhere until it expires, and that may be a whole class of them. So the replica that made it remembers its
//! token for as long, and ends it when it turns up. What flows in: tokens of writes that are over. What flows out: those
//! that may be ended now. Nothing depends on it but the share of hits.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::clock::Time;
use super::record::Token;

/// How many are remembered; more expire like those of a replica that died.
const MOST: usize = 4096;

/// The tokens, each with the moment at which its write was over.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// A standard lock: held for a push or one pass.
    tokens: Mutex<Vec<(Token, Time)>>,
}

impl Orphans {
    /// Remembers a write that is over, and of whose announcement nobody knows what became of it.
    pub(super) fn note(&self, token: Token, now: Time) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() < MOST {
            tokens.push((token, now));
        }
    }

    /// Those that were over `lag` ago. Whatever is older than `ttl` has expired, and is forgotten.
    pub(super) fn settled(&self, now: Time, lag: Duration, ttl: Duration) -> Vec<Token> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|(_, over)| now < *over + lag + ttl);
        let settled = tokens.iter().filter(|(_, over)| now >= *over + lag);
        settled.map(|(token, _)| *token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_from_when_its_write_is_over_until_its_announcement_has_expired() {
        let (orphans, second) = (Orphans::default(), Duration::from_secs(1));
        let over = Time(0) + second;
        orphans.note(Token(7), over);
        let at = |seconds| orphans.settled(over + second * seconds, second * 2, second * 5);
        assert_eq!(at(1), []);
        assert_eq!((at(2), at(6)), (vec![Token(7)], vec![Token(7)]));
        assert_eq!((at(7), at(2)), (vec![], vec![]), "forgotten for good");
    }
}
