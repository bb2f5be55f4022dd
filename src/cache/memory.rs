//! Tier 1: this process's memory.
//!
//! One slot per primary key holds its variants, the newest first, so that a lookup is one hash probe whatever `Vary`
//! says. The tier is weighed in bytes and bounded by them; it decides nothing about freshness or drops.
//!
//! Of moka's ways, these matter: `expire_after_update` must return the new lifetime, since the default keeps the old
//! deadline; maintenance runs only when the cache is used, so [`Memory::maintain`] is called by a ticker; its
//! `get_with` and its predicate invalidation are not used (the first ties a fill to its caller, the second makes every
//! read pay for every purge).

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use moka::ops::compute::Op;
use moka::sync::Cache;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::entry::Entry;

/// How many variants one key may have; one more drops the oldest.
const MAX_VARIANTS: usize = 16;

/// How many slots are walked through in one go.
const BATCH: usize = 256;

/// The entries of one primary key.
#[derive(Debug)]
pub struct Slot {
    entries: SmallVec<[Arc<Entry>; 1]>,
    /// How long the slot is worth keeping, from when it was put.
    keep: Duration,
}

impl Slot {
    /// The variants, the newest first.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }
}

/// The memory tier.
#[derive(Clone, Debug)]
pub struct Memory {
    slots: Cache<u128, Arc<Slot>, KeyIsHash>,
}

impl Memory {
    /// A tier of at most `max_size` bytes. `evicted` is told of each slot that capacity or time removed; it must be
    /// quick and must not panic.
    pub fn new(max_size: u64, evicted: impl Fn(Eviction) + Send + Sync + 'static) -> Self {
        let slots = Cache::builder()
            .max_capacity(max_size)
            .weigher(|_, slot: &Arc<Slot>| {
                let bytes: usize = slot.entries.iter().map(|entry| entry.weight()).sum();
                u32::try_from(bytes).unwrap_or(u32::MAX).max(1)
            })
            .expire_after(KeepFor)
            .eviction_listener(move |_, _, cause| match cause {
                moka::notification::RemovalCause::Size => evicted(Eviction::Size),
                moka::notification::RemovalCause::Expired => evicted(Eviction::Expired),
                moka::notification::RemovalCause::Explicit
                | moka::notification::RemovalCause::Replaced => {}
            })
            .build_with_hasher(KeyIsHash);
        Self { slots }
    }

    /// The slot of a primary key.
    #[must_use]
    pub fn get(&self, hash: u128) -> Option<Arc<Slot>> {
        self.slots.get(&hash)
    }

    /// Puts an entry into its slot, in place of the one it succeeds: the one of the same key and variant.
    pub fn put(&self, hash: u128, entry: &Arc<Entry>, keep: Duration) {
        self.slots.entry(hash).and_upsert_with(|old| {
            let mut slot = Slot {
                entries: SmallVec::from_iter([Arc::clone(entry)]),
                keep,
            };
            if let Some(old) = old {
                let old = old.into_value();
                // A foreign key under the same hash would be a collision: the newcomer has the slot to itself.
                let others = old
                    .entries()
                    .filter(|other| other.key == entry.key && other.variant != entry.variant);
                slot.entries.extend(others.take(MAX_VARIANTS - 1).cloned());
                if slot.entries.len() > 1 {
                    slot.keep = slot.keep.max(old.keep);
                }
            }
            Arc::new(slot)
        });
    }

    /// Takes an entry out, if it is still there.
    pub fn remove(&self, hash: u128, entry: &Arc<Entry>) {
        self.slots.entry(hash).and_compute_with(|old| {
            let Some(old) = old else {
                return Op::Nop;
            };
            let old = old.into_value();
            let entries: SmallVec<[Arc<Entry>; 1]> = old
                .entries()
                .filter(|other| !Arc::ptr_eq(other, entry))
                .cloned()
                .collect();
            if entries.len() == old.entries.len() {
                Op::Nop
            } else if entries.is_empty() {
                Op::Remove
            } else {
                Op::Put(Arc::new(Slot {
                    entries,
                    keep: old.keep,
                }))
            }
        });
    }

    /// Weighs a slot anew, after one of its entries got another encoding.
    pub fn reweigh(&self, hash: u128) {
        self.slots.entry(hash).and_compute_with(|old| match old {
            Some(old) => {
                let old = old.into_value();
                Op::Put(Arc::new(Slot {
                    entries: old.entries.clone(),
                    keep: old.keep,
                }))
            }
            None => Op::Nop,
        });
    }

    /// Shows every entry to `visit`, until this time at the latest; whether it was all of them. It takes at most half of
    /// one core, and blocks its thread: not for the reactor's. Entries that come meanwhile may be left out.
    pub fn walk(&self, until: Instant, mut visit: impl FnMut(u128, &Arc<Entry>)) -> bool {
        let mut began = Instant::now();
        for (index, (hash, slot)) in self.slots.iter().enumerate() {
            slot.entries().for_each(|entry| visit(*hash, entry));
            if index % BATCH == BATCH - 1 {
                let now = Instant::now();
                if now >= until {
                    return false;
                }
                // Hits go before: as long as the batch took, others have the core.
                std::thread::sleep(now - began);
                began = Instant::now();
            }
        }
        true
    }

    /// Enforces size and time, which otherwise happens only when the cache is used.
    pub fn maintain(&self) {
        self.slots.run_pending_tasks();
    }

    /// How many keys there are, as of the last maintenance.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.slots.entry_count()
    }

    /// How many bytes they take, as of the last maintenance.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.slots.weighted_size()
    }
}

/// Why a slot went without being asked to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Eviction {
    /// There was no room.
    Size,
    /// Its last window had passed.
    Expired,
}

struct KeepFor;

impl moka::Expiry<u128, Arc<Slot>> for KeepFor {
    fn expire_after_create(&self, _: &u128, slot: &Arc<Slot>, _: MokaInstant) -> Option<Duration> {
        Some(slot.keep)
    }

    fn expire_after_update(
        &self,
        _: &u128,
        slot: &Arc<Slot>,
        _: MokaInstant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(slot.keep)
    }
}

#[expect(
    clippy::disallowed_types,
    reason = "moka's Expiry names it in its signatures; it is not read"
)]
type MokaInstant = std::time::Instant;

/// Keys are keyed 128-bit hashes already; hashing them again would buy nothing.
#[derive(Clone, Copy, Debug, Default)]
struct KeyIsHash;

impl BuildHasher for KeyIsHash {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(0)
    }
}

struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(5) ^ u64::from_le_bytes(word);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves are taken on purpose"
    )]
    fn write_u128(&mut self, hash: u128) {
        self.0 ^= (hash as u64) ^ ((hash >> 64) as u64);
    }
}
