//! What replicas share: the log of drops, tier 2 and identity lookups, when there is a Redis to keep them in.

use std::sync::Arc;

use siphasher::sip::SipHasher24;
use std::hash::{Hash, Hasher};

use super::{Error, random};
use crate::cache::remote::{self, Remote};
use crate::cache::sweeper::{self, Sweeper};
use crate::coherence::{self, Coherence, Promise};
use crate::config::{self, Config};
use crate::identity::{Credential, IdentityKey};
use crate::metrics::Metrics;
use crate::policy::Mode;
use crate::proxy::Sessions;
use crate::redis::{self, Redis};

/// How many keys of tier 2 a second are looked at to free dead entries.
const SWEPT_PER_SECOND: u32 = 5_000;

/// The database of identity lookups on the server of tier 2, where they have no URL of their own.
const SESSIONS: u8 = 2;

/// What there is beyond this process's memory.
pub(super) struct Tiers {
    pub(super) coherence: Coherence,
    pub(super) remote: Option<Remote>,
    pub(super) sweeper: Option<Sweeper>,
}

/// Builds the log, here or in Redis, and tier 2 where it is configured.
pub(super) fn tiers(config: &Config, metrics: &Metrics) -> Result<Tiers, Error> {
    let rules = coherence_config(config);
    let counted = Arc::clone(&metrics.coherence);
    let Some(settings) = &config.redis else {
        let epoch = u64::from_be_bytes(random()?);
        return Ok(Tiers {
            coherence: Coherence::alone(rules, epoch, counted),
            remote: None,
            sweeper: None,
        });
    };
    let (setting, url) = match &config.coherence.url {
        Some(url) => ("[coherence] url", url.clone()),
        None => ("[redis] url", settings.url.clone()),
    };
    let place = coherence::Place {
        redis: redis_config(settings, url),
        metrics: metrics.redis("log"),
        name: format!("{{{}log}}", settings.prefix),
        fingerprint: fingerprint(config),
    };
    let coherence = Coherence::shared(rules, place, counted);
    let coherence = coherence.map_err(|reason| Error::Redis(setting, reason))?;
    let redis = Redis::new(
        redis_config(settings, settings.url.clone()),
        metrics.redis("cache"),
    );
    let redis = redis.map_err(|reason| Error::Redis("[redis] url", reason))?;
    let remote = Remote::new(
        redis.clone(),
        remote::Config {
            prefix: settings.prefix.clone(),
            rules: rules_digest(config),
            max_entry_size: usize::try_from(settings.max_entry_size).unwrap_or(usize::MAX),
        },
        Arc::clone(&metrics.remote),
    );
    let sweeper = Sweeper::new(
        redis,
        coherence.clone(),
        sweeper::Config {
            prefix: settings.prefix.clone(),
            rate: SWEPT_PER_SECOND,
        },
    );
    Ok(Tiers {
        coherence,
        remote: Some(remote),
        sweeper: Some(sweeper),
    })
}

/// The identity lookups of all replicas. Of a configuration that looks nobody up, there are none to share.
pub(super) fn sessions(config: &Config, metrics: &Metrics) -> Result<Option<Sessions>, Error> {
    let Some(settings) = &config.redis else {
        return Ok(None);
    };
    let (setting, url) = match &settings.session_url {
        Some(url) => ("[redis] session_url", Ok(url.clone())),
        None => ("[redis] url", redis::with_database(&settings.url, SESSIONS)),
    };
    let redis = url
        .and_then(|url| Redis::new(redis_config(settings, url), metrics.redis("sessions")))
        .map_err(|reason| Error::Redis(setting, reason))?;
    Ok(Some(Sessions::new(
        redis,
        &settings.prefix,
        rules_digest(config),
    )))
}

/// The promise of writes is the strictest that any route makes: nobody knows whose entries a write will reach.
fn coherence_config(config: &Config) -> coherence::Config {
    let promise = |mode: Mode| match mode {
        Mode::Bounded => Promise::Bounded,
        Mode::Strong => Promise::Strong,
        Mode::Strict => Promise::Strict,
    };
    let default = config.coherence.mode;
    let routes = config.rules.routes().iter();
    let strictest = routes
        .map(|route| promise(route.policy.coherence.unwrap_or(default)))
        .max();
    coherence::Config {
        promise: strictest.unwrap_or_else(|| promise(default)),
        lease: config.coherence.lease,
        intent_ttl: config.coherence.intent_ttl,
        origin_lag: config.coherence.origin_lag,
        forward: config.coherence.on_partition == config::OnPartition::Forward,
    }
}

fn redis_config(settings: &config::Redis, url: String) -> redis::Config {
    let password = match &settings.password {
        config::Password::None => redis::Password::None,
        config::Password::Given(secret) => redis::Password::Given(secret.expose().to_owned()),
        config::Password::File(path) => redis::Password::File(path.clone()),
    };
    redis::Config {
        url,
        password,
        command_timeout: settings.command_timeout,
    }
}

/// A hash of the identity key, so that replicas with different ones find out; not 0.
fn fingerprint(config: &Config) -> u64 {
    let plain = IdentityKey::plain();
    config.identity.key.as_ref().unwrap_or(&plain).fingerprint() | 1
}

/// A hash of everything that decides keys and tags: replicas with other rules do not share entries.
fn rules_digest(config: &Config) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x7265_7072_6973_6504, 0);
    config.rules.digest().hash(&mut hasher);
    config.query.sort.hash(&mut hasher);
    config.query.ignore.hash(&mut hasher);
    config.identity.lookup.hash(&mut hasher);
    config.identity.field.hash(&mut hasher);
    for credential in &config.identity.from {
        match credential {
            Credential::Header(name) => ("header", name.as_str()).hash(&mut hasher),
            Credential::Cookie(name) => ("cookie", name.as_str()).hash(&mut hasher),
        }
    }
    hasher.finish()
}
