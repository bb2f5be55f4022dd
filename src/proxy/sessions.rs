//! Identity lookups that replicas share: one asks the app, the others find the answer in Redis.
//!
//! Under `{prefix}user:{hash of the credential}`, for the time that `[identity] ttl` allows from the moment the app was
//! asked. Every failure is a miss, and nothing waits longer than the deadline of a command. Whether the credential has been
//! ended since is not asked here: the caller asks it last, of the certificate that comes with the answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::identify::Known;
use super::known::{self, About, Answer};
use crate::entry::Certificate;
use crate::identity::Identity;
use crate::redis::Redis;

/// The answers of other replicas. A cheap handle.
#[derive(Clone, Debug)]
pub struct Sessions {
    redis: Redis,
    prefix: Arc<str>,
    rules: u64,
}

impl Sessions {
    /// Answers in this Redis. `rules` is a digest of all that decides who a credential is and what is asked about it.
    #[must_use]
    pub fn new(redis: Redis, prefix: &str, rules: u64) -> Self {
        Self {
            redis,
            prefix: prefix.into(),
            rules,
        }
    }

    /// What is known of a credential, and holds for at most this long since the app was asked.
    pub(super) async fn get(&self, credential: Identity, ttl: Duration) -> Option<Known> {
        let value = self.redis.get(&self.name(credential)).await.ok()??;
        let answer = known::decode(self.about(credential), &value)?;
        // A clock of another replica that is ahead of ours makes an answer young, never one that lasts longer.
        let age = Duration::from_millis(now_ms().saturating_sub(answer.asked_ms));
        let keep = ttl.checked_sub(age).filter(|keep| !keep.is_zero())?;
        Some(Known {
            id: answer.id.into(),
            certificate: Arc::new(Certificate::new(answer.stamp, answer.tags)),
            keep,
        })
    }

    /// Keeps an answer that the app has just given.
    pub(super) async fn put(&self, credential: Identity, known: &Known) {
        let answer = Answer {
            id: (*known.id).to_owned(),
            asked_ms: now_ms(),
            stamp: known.certificate.stamp,
            tags: known.certificate.tags.clone(),
        };
        let Some(value) = known::encode(self.about(credential), &answer) else {
            return;
        };
        let name = self.name(credential);
        if let Err(error) = self.redis.set(&name, value, known.keep).await {
            tracing::debug!(%error, "an identity lookup cannot be shared");
        }
    }

    fn about(&self, credential: Identity) -> About {
        About {
            rules: self.rules,
            credential,
        }
    }

    fn name(&self, credential: Identity) -> String {
        format!("{}user:{}", self.prefix, credential.to_hex())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the age of what another process wrote is told by this clock alone"
)]
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
