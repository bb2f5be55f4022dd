//! A stand-in inside this process for what the shared log offers to purges: soft drops, bans, and announcements by token.
//! It goes when the shared log comes.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::record::Token;
use super::{Coherence, Unusable, Writes};
use crate::entry::{Certificate, Stamp};
use crate::glob::Glob;
use crate::key;
use crate::tag::{Tag, Tags};

/// How an entry that may be used stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Nothing was said about it.
    Good,
    /// It was purged softly.
    Softened,
}

/// What to drop.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Purge {
    /// What carries one of these.
    Tags(Tags),
    /// What carries one of these is stale from now on.
    Soften(Tags),
    /// What this glob matches.
    Ban(Box<str>),
}

/// How a drop ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Purged {
    /// Its place in the log; `None`: the shared log could not be reached, and it was dropped here only.
    pub position: Option<u64>,
    /// Which log.
    pub epoch: u64,
    /// How many replicas there are.
    pub members: u32,
    /// Whether all of them said so; else their leases have run out.
    pub acknowledged: bool,
    /// How long that took.
    pub waited: Duration,
}

/// Why an announcement, or its end, was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The shared log cannot be reached.
    Unreachable,
    /// There is no such announcement: never, or not any more.
    Unknown,
}

/// What tags cannot say, and what was announced by token.
#[derive(Debug, Default)]
pub(super) struct Extra {
    soft: HashMap<Tag, u64>,
    bans: Vec<(u64, Glob)>,
    opened: HashMap<u64, Tags>,
}

impl Coherence {
    /// Drops things now.
    #[expect(clippy::unused_async, reason = "the shared log will be waited for")]
    pub async fn purge(&self, what: Purge) -> Purged {
        let position = self.write(|table| {
            let position = match &what {
                Purge::Tags(tags) => table.drop_tags(tags),
                Purge::Soften(_) | Purge::Ban(_) => table.drop_tags(&[]),
            };
            let mut extra = self.extra_mut();
            match what {
                Purge::Tags(_) => {}
                Purge::Soften(tags) => {
                    extra
                        .soft
                        .extend(tags.into_iter().map(|tag| (tag, position)));
                }
                Purge::Ban(text) => match Glob::parse(&text) {
                    Ok(glob) => {
                        extra.bans.push((position, glob));
                        self.shared.bans.fetch_add(1, Ordering::Release);
                    }
                    // Too much, never too little.
                    Err(_) => {
                        table.drop_tags(&[Tag::all()]);
                    }
                },
            }
            position
        });
        self.purged(position)
    }

    /// Announces a write that does not pass through the proxy: its token, and the position of the announcement.
    ///
    /// # Errors
    ///
    /// Never, here.
    #[expect(clippy::unused_async, reason = "the shared log will be waited for")]
    pub async fn open(&self, tags: Tags, ttl: Option<Duration>) -> Result<(u64, u64), Refused> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| Refused::Unreachable)?;
        let token = u64::from_be_bytes(random) | 1 << 63;
        let deadline = Instant::now() + ttl.unwrap_or(self.shared.config.intent_ttl);
        let position = self.write(|table| {
            table.announce(Token(token), tags.clone(), deadline);
            self.extra_mut().opened.insert(token, tags);
            table.stamp().seq
        });
        Ok((token, position))
    }

    /// Ends an announced write. Committed without tags, it changed all that was announced.
    ///
    /// # Errors
    ///
    /// When there is no such announcement and nothing else is named.
    #[expect(clippy::unused_async, reason = "the shared log will be waited for")]
    pub async fn settle(&self, token: u64, committed: bool, tags: Tags) -> Result<Purged, Refused> {
        let announced = self.extra_mut().opened.remove(&token);
        let tags = match (announced, committed) {
            (Some(announced), true) if tags.is_empty() => announced,
            (Some(_), _) => tags,
            (None, true) if !tags.is_empty() => tags,
            (None, _) => return Err(Refused::Unknown),
        };
        let position = self.write(|table| {
            if committed {
                table.commit(Token(token), &tags, None)
            } else {
                table.close(Token(token));
                table.stamp().seq
            }
        });
        Ok(self.purged(position))
    }

    /// Whether what was stored under a full key with this stamp has been banned since.
    #[must_use]
    pub fn banned(&self, stamp: Stamp, key: &[u8]) -> bool {
        if self.shared.bans.load(Ordering::Acquire) == 0 {
            return false;
        }
        let Some(target) = key::target_of(key) else {
            return true;
        };
        let extra = self
            .shared
            .extra
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        extra.bans.iter().any(|(position, glob)| {
            *position > stamp.seq && glob.matches(target.path, target.query)
        })
    }

    pub(super) fn standing(&self, certificate: &Certificate) -> Standing {
        let extra = self
            .shared
            .extra
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let softened = certificate
            .tags
            .iter()
            .filter_map(|tag| extra.soft.get(tag))
            .any(|position| *position > certificate.stamp.seq);
        if softened {
            Standing::Softened
        } else {
            Standing::Good
        }
    }

    /// Whether a stored entry may be used, bans counted too.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub fn usable_as(
        &self,
        certificate: &Certificate,
        key: &[u8],
        writes: Writes,
    ) -> Result<Standing, Unusable> {
        if self.banned(certificate.stamp, key) {
            return Err(Unusable::Dropped);
        }
        self.usable(certificate, writes)
    }

    fn extra_mut(&self) -> std::sync::RwLockWriteGuard<'_, Extra> {
        self.shared
            .extra
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn purged(&self, position: u64) -> Purged {
        Purged {
            position: Some(position),
            epoch: self.stamp().epoch,
            members: 1,
            acknowledged: true,
            waited: Duration::ZERO,
        }
    }
}
