//! The shared log as its users see it: what may be asked of it, and what it answers.
//!
//! Plain values, so that the same [`Call`]s go to the scripts in Redis, to the oracle that the scripts are compared with,
//! and to the simulated log of the model checker. Arguments and replies are text, one bulk string per reply: its first
//! line says how the call ended, and each further line is one record, open write or silent member.

use super::record::{Record, Token, parse_tags, parse_token};
use crate::tag::Tags;

/// Names one replica, for as long as it runs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Member(pub u64);

/// How a replica stands when it reads the log.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mode {
    /// `S`: its lease has not run out since it was last settled. It may still run out before the reply comes, and the call
    /// may be executed as late as that: then the reply gives no lease, and the next call is `L`.
    Settled,
    /// `U`: it has joined, and does not yet know whether everybody was away before.
    Probation,
    /// `L`: its lease had run out: a fence is appended, and what was stamped before it is dead for this replica.
    Lapsed,
    /// `G`: on probation, and its lease ran out or nobody bore witness: as `Lapsed`.
    Alone,
}

/// What may be asked of the log. Every call carries a fresh random `nonce`: the next epoch, if this call finds that Redis
/// has lost anything.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Call {
    /// Reads what was appended since, and proves that the replica was here.
    Sync {
        /// Who.
        member: Member,
        /// The epoch and position it has applied; none when it has not joined.
        known: Option<(u64, u64)>,
        /// How it stands.
        mode: Mode,
        /// Whether it has known this epoch for so long that no write from before it can still take place.
        quarantined: bool,
        /// A hash of the identity key, not 0: replicas with different ones would miss each other's drops.
        fingerprint: u64,
        /// Of this epoch, the newest [`News::reading`] whose reply came while the lease *that was there before it* still
        /// ran; 0 for none. Only this makes a reading a witness: a `Sync` may be executed long after it was sent.
        confirms: u64,
        /// See [`Call`].
        nonce: u64,
    },
    /// Says how far a replica has applied the log. Gives no lease.
    Ack {
        /// Who.
        member: Member,
        /// Of which log.
        epoch: u64,
        /// How far.
        applied: u64,
        /// See [`Call`].
        nonce: u64,
    },
    /// Announces a write. Repeating it changes nothing.
    Intent {
        /// The write.
        token: Token,
        /// In which log.
        epoch: u64,
        /// What it may change.
        tags: Tags,
        /// See [`Call`].
        nonce: u64,
    },
    /// Ends a write, or drops something without one. Repeating it drops again.
    Close {
        /// The write.
        token: Token,
        /// In which log.
        epoch: u64,
        /// A [`super::record::Change`]'s letter: `C`, `N`, `X`, `P`, `S`, `B`. What needs an announced write (the first
        /// three) and finds none is appended as `P`, except `X`, which is then nothing. The others end no write.
        kind: char,
        /// The change's payload.
        payload: String,
        /// See [`Call`].
        nonce: u64,
    },
    /// Reads old records, for a replica that has just joined.
    Page {
        /// Of which log.
        epoch: u64,
        /// From this number on.
        from: u64,
    },
    /// Removes a member that was not heard of since.
    Reap {
        /// Whom.
        member: Member,
        /// Its beat, as last seen: another one says that it lives.
        beat: u64,
        /// In which log the beat was seen: beats count anew in each.
        epoch: u64,
        /// See [`Call`].
        nonce: u64,
    },
    /// Removes a member that goes.
    Leave {
        /// Who.
        member: Member,
        /// See [`Call`].
        nonce: u64,
    },
}

/// The answer to [`Call::Sync`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Synced {
    /// The replica knows this log, and these are the records after its position.
    News(News),
    /// It does not, or records that it needs are gone, or it knows more than there is: it starts from here.
    Reset(Reset),
    /// Other replicas have another identity key.
    Foreign,
    /// The server does not tell what it is (`run_id`, `master_replid`), so a restart would go unnoticed.
    Unsupported,
}

/// What was appended since.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct News {
    /// The last record's number.
    pub tail: u64,
    /// How far every member has applied. Never goes back.
    pub acked: u64,
    /// The last fence.
    pub fence: u64,
    /// The number of this reading, if its mode was settled or lapsed; else 0. See `confirms` of [`Call::Sync`].
    pub reading: u64,
    /// The newest settled reading whose replica has said since that its lease held.
    pub confirmed: u64,
    /// The fence that ended the quarantine of this epoch; 0 while it lasts.
    pub quarantine: u64,
    /// How many replicas of the server have to have a record before it counts.
    pub copies: u32,
    /// How many members there are.
    pub members: u32,
    /// The members that were silent the longest, each with its last beat.
    pub silent: Vec<(Member, u64)>,
    /// The records, in order. Fewer than up to `tail` when there are many.
    pub records: Vec<Record>,
}

/// Where a replica that joins starts.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Reset {
    /// The epoch.
    pub epoch: u64,
    /// The last record's number: as if applied.
    pub tail: u64,
    /// The oldest record that is kept; 0 when none is.
    pub oldest: u64,
    /// The last fence.
    pub fence: u64,
    /// How many settled readings there were: a later one that is confirmed is a witness.
    pub readings: u64,
    /// As in [`News`].
    pub quarantine: u64,
    /// As in [`News`].
    pub copies: u32,
    /// Whether there was no other member: then a fence was appended, and it is `tail`.
    pub alone: bool,
    /// The announced writes that are open.
    pub open: Vec<(Token, Tags)>,
}

/// The answer to [`Call::Intent`] and [`Call::Close`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Appended {
    /// It is in the log.
    At {
        /// Its number; 0 when nothing had to be appended.
        seq: u64,
        /// Whether the announced write was open (of a `Close`).
        had: bool,
        /// How far every member has applied.
        acked: u64,
        /// As in [`News`].
        copies: u32,
    },
    /// The log is another one by now.
    Elsewhere {
        /// Its epoch; 0 when the server does not tell what it is.
        epoch: u64,
    },
}

/// The answer to [`Call::Page`]. The log may be trimmed meanwhile, and may even have lost everything: the reader looks
/// whether the numbers follow on each other, from where it asked up to the tail that it was told, and remembers nothing
/// from before a gap.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Paged {
    /// Old records.
    Records {
        /// Where to go on; 0 at the end.
        next: u64,
        /// The records, in order.
        records: Vec<Record>,
    },
    /// The log is another one by now.
    Elsewhere,
}

/// What a channel told.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Rung {
    /// A record was appended.
    Record {
        /// In which log.
        epoch: u64,
        /// The record.
        record: Record,
    },
    /// All members have applied this far.
    Acked {
        /// Of which log.
        epoch: u64,
        /// How far.
        acked: u64,
    },
    /// There is a new epoch.
    Epoch,
}

/// The words of one line.
struct Words<'a>(std::str::Split<'a, char>);

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        Self(line.split(' '))
    }

    fn text(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.text()?.parse().ok()
    }

    fn hex(&mut self) -> Option<u64> {
        u64::from_str_radix(self.text()?, 16).ok()
    }
}

impl Synced {
    /// Reads a reply: `O TAIL ACKED FENCE READING CONFIRMED QUARANTINE COPIES MEMBERS`,
    /// or `E EPOCH TAIL OLDEST FENCE READINGS QUARANTINE COPIES ALONE`, or `M`, or `U`; then lines `r` record,
    /// `o TOKEN TAGS`, `s MEMBER BEAT`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut first = Words::of(lines.next()?);
        match first.text()? {
            "O" => {
                let mut news = News {
                    tail: first.number()?,
                    acked: first.number()?,
                    fence: first.number()?,
                    reading: first.number()?,
                    confirmed: first.number()?,
                    quarantine: first.number()?,
                    copies: first.number()?,
                    members: first.number()?,
                    ..News::default()
                };
                for line in lines {
                    match line.split_once(' ')? {
                        ("r", rest) => news.records.push(Record::parse(rest)?),
                        ("s", rest) => {
                            let mut words = Words::of(rest);
                            news.silent.push((Member(words.hex()?), words.number()?));
                        }
                        _ => return None,
                    }
                }
                Some(Self::News(news))
            }
            "E" => {
                let mut reset = Reset {
                    epoch: first.hex()?,
                    tail: first.number()?,
                    oldest: first.number()?,
                    fence: first.number()?,
                    readings: first.number()?,
                    quarantine: first.number()?,
                    copies: first.number()?,
                    alone: first.text()? == "1",
                    open: Vec::new(),
                };
                for line in lines {
                    let mut words = Words::of(line.strip_prefix("o ")?);
                    let token = parse_token(words.text()?)?;
                    reset.open.push((token, parse_tags(words.text()?)?));
                }
                Some(Self::Reset(reset))
            }
            "M" => Some(Self::Foreign),
            "U" => Some(Self::Unsupported),
            _ => None,
        }
    }
}

impl Appended {
    /// Reads a reply: `O SEQ HAD ACKED COPIES` or `E EPOCH`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = Words::of(text.lines().next()?);
        match words.text()? {
            "O" => Some(Self::At {
                seq: words.number()?,
                had: words.text()? == "1",
                acked: words.number()?,
                copies: words.number()?,
            }),
            "E" => Some(Self::Elsewhere {
                epoch: words.hex()?,
            }),
            _ => None,
        }
    }
}

impl Paged {
    /// Reads a reply: `O NEXT` and lines `r` record, or `E`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut first = Words::of(lines.next()?);
        match first.text()? {
            "O" => {
                let next = first.number()?;
                let records = lines.map(|line| Record::parse(line.strip_prefix("r ")?));
                Some(Self::Records {
                    next,
                    records: records.collect::<Option<_>>()?,
                })
            }
            "E" => Some(Self::Elsewhere),
            _ => None,
        }
    }
}

impl Rung {
    /// Reads a message of the bell, `EPOCH SEQ KIND TOKEN PAYLOAD` (`EPOCH SEQ E - -` for a new epoch).
    #[must_use]
    pub fn parse_bell(text: &str) -> Option<Self> {
        let (epoch, record) = text.split_once(' ')?;
        let epoch = u64::from_str_radix(epoch, 16).ok()?;
        if record.split(' ').nth(1) == Some("E") {
            return Some(Self::Epoch);
        }
        Some(Self::Record {
            epoch,
            record: Record::parse(record)?,
        })
    }

    /// Reads a message about acknowledgements, `EPOCH ACKED`.
    #[must_use]
    pub fn parse_acks(text: &str) -> Option<Self> {
        let mut words = Words::of(text);
        Some(Self::Acked {
            epoch: words.hex()?,
            acked: words.number()?,
        })
    }
}
