//! Following the shared log: the thread that reads it, and the calls that writers make.
//!
//! The reader has a thread and a connection of its own, so that a flood of requests delays neither its lease nor its
//! acknowledgements. It drives a [`Replica`]: what is rung, answered or due goes in, and what comes out is done in order.
//! Writers call the log from wherever they run, over another connection, and look at what the reader sees.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::clock::Time;
use super::log::{Appended, Call, Member, Paged, Rung, Synced};
use super::record::{Change, Token};
use super::replica::{Effect, Event, Refusal, Replica, Sight, Timing};
use super::script;
use super::view::View;
use super::write::{Do, Input, Write};
use crate::metrics::CoherenceMetrics;
use crate::redis::{self, Heard, Redis, Script, Subscription};
use crate::tag::Tags;

/// How long a call to the log may take, if the lease leaves that much time.
const CALL_TIMEOUT: Duration = Duration::from_millis(200);

/// How long a writer waits for the bell to reach the reader beside it before it has the log read.
const BELL: Duration = Duration::from_millis(5);

/// Where the shared log is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The Redis that keeps it.
    pub redis: redis::Config,
    /// What that connection counts.
    pub metrics: Arc<crate::metrics::RedisMetrics>,
    /// What its keys begin with, such as `{reprise:log}`.
    pub name: String,
    /// A hash of the identity key, not 0: replicas with another one would miss drops.
    pub fingerprint: u64,
}

/// How a replica stands, for people.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// What writers see.
    pub sight: Sight,
    /// Why the log, though it answers, cannot be used.
    pub refused: Option<Refusal>,
    /// Whether a witness is waited for.
    pub on_probation: bool,
    /// How many replicas there are.
    pub members: u32,
    /// The last record's number, as last heard.
    pub tail: u64,
}

/// The handle on the reader, and the writers' connection.
#[derive(Debug)]
pub(super) struct Following {
    caller: Caller,
    status: watch::Receiver<Status>,
    nudges: mpsc::UnboundedSender<Nudge>,
    view: Arc<View>,
}

/// What others want of the reader.
#[derive(Debug)]
enum Nudge {
    /// Read the log.
    Read,
    /// Serve nothing until everything older is fenced off.
    Lapse,
    /// Go; and say when it is done.
    Leave(oneshot::Sender<()>),
}

/// Makes calls.
#[derive(Clone, Debug)]
struct Caller {
    redis: Redis,
    keys: Arc<[String; 5]>,
    scripts: Arc<Scripts>,
    within: Duration,
}

#[derive(Debug)]
struct Scripts {
    sync: Script,
    ack: Script,
    intent: Script,
    close: Script,
    page: Script,
    reap: Script,
    leave: Script,
}

impl Scripts {
    fn new() -> Self {
        let (member, token, nonce, epoch) = (Member(0), Token(0), 0, 0);
        let of = |call: &Call| Script::new(script::name(call), script::text(call));
        Self {
            sync: of(&Call::Sync {
                member,
                known: None,
                mode: super::log::Mode::Probation,
                quarantined: false,
                fingerprint: 0,
                confirms: 0,
                nonce,
            }),
            ack: of(&Call::Ack {
                member,
                epoch,
                applied: 0,
                nonce,
            }),
            intent: of(&Call::Intent {
                token,
                epoch,
                tags: Tags::new(),
                nonce,
            }),
            close: of(&Call::Close {
                token,
                epoch,
                kind: 'P',
                payload: String::new(),
                nonce,
            }),
            page: of(&Call::Page { epoch, from: 0 }),
            reap: of(&Call::Reap {
                member,
                beat: 0,
                epoch,
                nonce,
            }),
            leave: of(&Call::Leave { member, nonce }),
        }
    }

    const fn of(&self, call: &Call) -> &Script {
        match call {
            Call::Sync { .. } => &self.sync,
            Call::Ack { .. } => &self.ack,
            Call::Intent { .. } => &self.intent,
            Call::Close { .. } => &self.close,
            Call::Page { .. } => &self.page,
            Call::Reap { .. } => &self.reap,
            Call::Leave { .. } => &self.leave,
        }
    }
}

impl Caller {
    fn new(place: &Place, within: Duration) -> Result<Self, String> {
        let config = redis::Config {
            command_timeout: within,
            ..place.redis.clone()
        };
        Ok(Self {
            redis: Redis::new(config, Arc::clone(&place.metrics))?,
            keys: Arc::new(script::keys(&place.name)),
            scripts: Arc::new(Scripts::new()),
            within,
        })
    }

    /// Asks the log; the reply's text, or `None` when there is none. What the server's replicas have to hold before it
    /// counts is `copies` of the reply.
    async fn call(&self, mut call: Call, copies: impl Fn(&str) -> u32) -> Option<String> {
        draw_nonce(&mut call);
        let script = self.scripts.of(&call);
        let ran = self
            .redis
            .run_here(script, self.keys.as_slice(), script::arguments(&call))
            .await;
        let ran = match ran {
            Ok(ran) => ran,
            Err(error) => {
                tracing::debug!(call = script.name, %error, "the shared log did not answer");
                return None;
            }
        };
        let text = std::str::from_utf8(&ran.reply).ok()?.to_owned();
        let copies = copies(&text);
        if copies > 0 {
            let have = ran.wait_for_copies(copies, self.within).await.ok()?;
            if have < copies {
                tracing::debug!(copies, have, "not every replica of Redis has the log");
                return None;
            }
        }
        Some(text)
    }

    async fn sync(&self, call: Call) -> Option<Synced> {
        let copies = |text: &str| match Synced::parse(text) {
            Some(Synced::News(news)) => news.copies,
            Some(Synced::Reset(reset)) => reset.copies,
            Some(Synced::Foreign | Synced::Unsupported) | None => 0,
        };
        let text = self.call(call, copies).await?;
        let synced = Synced::parse(&text);
        if synced.is_none() {
            tracing::warn!("the shared log answered what cannot be read");
        }
        synced
    }

    async fn append(&self, call: Call) -> Option<Appended> {
        let copies = |text: &str| match Appended::parse(text) {
            Some(Appended::At { copies, .. }) => copies,
            Some(Appended::Elsewhere { .. }) | None => 0,
        };
        Appended::parse(&self.call(call, copies).await?)
    }
}

/// A fresh epoch, should this call find that Redis has lost anything.
fn draw_nonce(call: &mut Call) {
    let mut random = [0; 8];
    // Without randomness the clock has to do; two nonces are never compared but for being the same.
    if getrandom::fill(&mut random).is_err() {
        random = Time::now().0.to_be_bytes();
    }
    match call {
        Call::Sync { nonce, .. }
        | Call::Ack { nonce, .. }
        | Call::Intent { nonce, .. }
        | Call::Close { nonce, .. }
        | Call::Reap { nonce, .. }
        | Call::Leave { nonce, .. } => *nonce = u64::from_be_bytes(random) | 1,
        Call::Page { .. } => {}
    }
}

impl Following {
    /// Begins to follow a log, on a thread of its own.
    pub(super) fn begin(
        place: Place,
        timing: Timing,
        view: Arc<View>,
        metrics: Arc<CoherenceMetrics>,
    ) -> Result<Self, String> {
        let within = CALL_TIMEOUT
            .min(timing.every)
            .max(Duration::from_millis(20));
        let caller = Caller::new(&place, within)?;
        let (sender, status) = watch::channel(Status::default());
        let (nudges, nudged) = mpsc::unbounded_channel();
        let mut member = [0; 8];
        getrandom::fill(&mut member).map_err(|error| format!("no randomness: {error}"))?;
        let member = Member(u64::from_be_bytes(member) | 1);
        let reader = Reader {
            replica: Replica::new(timing, member, place.fingerprint),
            member,
            view: Arc::clone(&view),
            status: sender,
            metrics,
            calls: JoinSet::new(),
            epoch: None,
            telling: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime for the shared log: {error}"))?;
        std::thread::Builder::new()
            .name("reprise-lease".to_owned())
            .spawn(move || runtime.block_on(reader.run(place, within, nudged)))
            .map_err(|error| format!("no thread for the shared log: {error}"))?;
        Ok(Self {
            caller,
            status,
            nudges,
            view,
        })
    }

    /// Takes a write as far as it goes: until it is to be forwarded, answered or refused.
    pub(super) async fn drive(&self, write: &mut Write, input: Input) -> Do {
        let mut status = self.status.clone();
        let mut input = input;
        let mut nudged = false;
        loop {
            let sight = status.borrow_and_update().sight;
            let now = Time::now();
            match write.step(now, &sight, input) {
                Do::Call(call) => {
                    input = match self.caller.append(call).await {
                        Some(appended) => Input::Appended(appended),
                        None => Input::Failed,
                    };
                }
                Do::Wait(until) => {
                    let patience = until.since(now);
                    // The bell tells the reader; if it does not come soon, the log is read.
                    let patience = if nudged { patience } else { patience.min(BELL) };
                    match tokio::time::timeout(patience, status.changed()).await {
                        Ok(Ok(())) => {}
                        // The reader has left: only time will tell.
                        Ok(Err(_)) => tokio::time::sleep(patience.min(CALL_TIMEOUT)).await,
                        Err(_) if nudged => {}
                        Err(_) => {
                            nudged = true;
                            let _ = self.nudges.send(Nudge::Read);
                        }
                    }
                    input = Input::Look;
                }
                done @ (Do::Forward | Do::Answer(_) | Do::Refuse) => return done,
            }
        }
    }

    /// Ends an announcement whose time is over.
    /// Whether it is ended now; if not, it is tried again with the next tick, here or by another replica.
    pub(super) async fn expire(&self, token: Token) -> bool {
        let Some(epoch) = self.status.borrow().sight.epoch else {
            return false;
        };
        let call = Call::Close {
            token,
            epoch,
            kind: Change::Expire(Tags::new()).kind(),
            payload: Change::Expire(Tags::new()).payload(),
            nonce: 0,
        };
        let ended = self.caller.append(call).await;
        matches!(ended, Some(Appended::At { .. }))
    }

    /// Notes a drop that the log did not take: it is told before this replica serves from its cache again.
    pub(super) fn journal(&self, tags: Tags) {
        if tags.is_empty() {
            return;
        }
        self.view.note(tags, || {
            let _ = self.nudges.send(Nudge::Lapse);
        });
    }

    /// How the replica stands.
    pub(super) fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Waits until this replica has applied a place in the log.
    pub(super) async fn catch_up(&self, epoch: u64, seq: u64, within: Duration) -> bool {
        let mut status = self.status.clone();
        let holds = |status: &Status| {
            // Of another epoch nothing stored here is used, or everything was asked for since.
            status
                .sight
                .epoch
                .is_some_and(|known| known != epoch || status.sight.applied >= seq)
        };
        if holds(&status.borrow_and_update()) {
            return true;
        }
        let _ = self.nudges.send(Nudge::Read);
        tokio::time::timeout(within, status.wait_for(holds))
            .await
            .is_ok_and(|held| held.is_ok())
    }

    /// Stops serving from the cache, and leaves the log.
    pub(super) async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.nudges.send(Nudge::Leave(done)).is_ok() {
            let _ = tokio::time::timeout(CALL_TIMEOUT * 2, left).await;
        }
    }
}

/// The reader.
struct Reader {
    replica: Replica,
    member: Member,
    view: Arc<View>,
    status: watch::Sender<Status>,
    metrics: Arc<CoherenceMetrics>,
    calls: JoinSet<Done>,
    epoch: Option<u64>,
    /// The journal is being told.
    telling: bool,
}

/// How a call of the reader's ended.
enum Done {
    Event(Event),
    /// So many drops of the journal have been told, or not.
    Told(Option<usize>),
    Nothing,
}

impl Reader {
    async fn run(
        mut self,
        place: Place,
        within: Duration,
        mut nudges: mpsc::UnboundedReceiver<Nudge>,
    ) {
        let caller = match Caller::new(&place, within) {
            Ok(caller) => caller,
            // The writers' connection was made of the same place.
            Err(error) => return tracing::error!(error, "the shared log cannot be followed"),
        };
        let (bell, acks) = (script::bell(&place.name), script::acks(&place.name));
        let mut heard = caller.redis.subscribe(vec![bell, acks.clone()]);
        loop {
            let Some(event) = self.next(&mut heard, &acks, &mut nudges, &caller).await else {
                return;
            };
            let mut effects = Vec::new();
            self.replica.step(Time::now(), event, &mut effects);
            for effect in effects {
                self.perform(effect, &caller);
            }
            self.tell();
        }
    }

    /// The next thing that happens; `None` at the end.
    async fn next(
        &mut self,
        heard: &mut Subscription,
        acks: &str,
        nudges: &mut mpsc::UnboundedReceiver<Nudge>,
        caller: &Caller,
    ) -> Option<Event> {
        loop {
            let wait = self.replica.next().since(Time::now());
            tokio::select! {
                // What takes the lease away comes first.
                biased;
                nudge = nudges.recv() => return match nudge {
                    Some(Nudge::Read) => Some(Event::Nudge),
                    Some(Nudge::Lapse) => Some(Event::Lapse),
                    Some(Nudge::Leave(done)) => {
                        self.leave(caller).await;
                        let _ = done.send(());
                        None
                    }
                    None => {
                        self.leave(caller).await;
                        None
                    }
                },
                rung = heard.recv() => match rung {
                    Heard::Message { channel, text } if channel == acks => {
                        if let Some(rung) = Rung::parse_acks(&text) {
                            return Some(Event::Rung(rung));
                        }
                    }
                    Heard::Message { text, .. } => {
                        return Some(Rung::parse_bell(&text).map_or(Event::Nudge, Event::Rung));
                    }
                    Heard::Lagged | Heard::Reconnected => return Some(Event::Nudge),
                },
                Some(done) = self.calls.join_next(), if !self.calls.is_empty() => match done {
                    Ok(Done::Event(event)) => return Some(event),
                    Ok(Done::Told(told)) => {
                        self.telling = false;
                        self.view.told(told.unwrap_or(0));
                    }
                    Ok(Done::Nothing) => {}
                    // A call that panicked has no answer: as one that failed.
                    Err(_) => return Some(Event::Unread),
                },
                () = tokio::time::sleep(wait) => return Some(Event::Tick),
            }
        }
    }

    fn perform(&mut self, effect: Effect, caller: &Caller) {
        match effect {
            Effect::Call(call) => self.call(call, caller),
            Effect::Apply(record) => self.view.change(|table| table.apply(&record, Time::now())),
            Effect::Begin { epoch, seq, open } => {
                self.count_epoch(epoch);
                self.view
                    .change(|table| table.begin(epoch, seq, open, Time::now()));
            }
            Effect::Recall(records) => self.view.change(|table| table.recall(&records)),
            Effect::Floor(fence) => self.view.change(|table| table.set_fence(fence)),
            Effect::StrictFloor(fence) => self.view.change(|table| table.set_strict_fence(fence)),
            Effect::Lease(until) => {
                self.view.grant(until);
                if until != Time::NEVER {
                    self.tell_journal(caller);
                }
            }
        }
    }

    fn call(&mut self, call: Call, caller: &Caller) {
        let caller = caller.clone();
        match call {
            Call::Sync { .. } => self.calls.spawn(async move {
                let synced = caller.sync(call).await;
                Done::Event(synced.map_or(Event::Unread, Event::Synced))
            }),
            Call::Ack { .. } => self.calls.spawn(async move {
                let reply = caller.call(call, |_| 0).await;
                Done::Event(Event::Acked(reply.map(|text| text == "O")))
            }),
            Call::Page { epoch, from } => self.calls.spawn(async move {
                let reply = caller.call(call, |_| 0).await;
                let paged = reply.as_deref().and_then(Paged::parse);
                Done::Event(Event::Paged { epoch, from, paged })
            }),
            Call::Intent { .. } | Call::Close { .. } | Call::Reap { .. } | Call::Leave { .. } => {
                self.calls.spawn(async move {
                    caller.call(call, |_| 0).await;
                    Done::Nothing
                })
            }
        };
    }

    /// Tells the drops that the log did not take when they happened. Until then no lease is published.
    fn tell_journal(&mut self, caller: &Caller) {
        let Some((change, count)) = self.view.untold().filter(|_| !self.telling) else {
            return;
        };
        let Some(epoch) = self.replica.sight().epoch else {
            return;
        };
        let call = Call::Close {
            token: Token(0),
            epoch,
            kind: change.kind(),
            payload: change.payload(),
            nonce: 0,
        };
        let caller = caller.clone();
        self.telling = true;
        self.calls.spawn(async move {
            let told = matches!(caller.append(call).await, Some(Appended::At { .. }));
            Done::Told(told.then_some(count))
        });
    }

    async fn leave(&mut self, caller: &Caller) {
        self.view.grant(Time::NEVER);
        let member = self.member;
        let leave = caller.call(Call::Leave { member, nonce: 0 }, |_| 0);
        let _ = tokio::time::timeout(CALL_TIMEOUT, leave).await;
    }

    fn count_epoch(&mut self, epoch: u64) {
        let reason = match self.epoch.replace(epoch) {
            None => &self.metrics.epochs_joined,
            Some(known) if known == epoch => &self.metrics.epochs_gap,
            Some(_) => &self.metrics.epochs_lost,
        };
        reason.inc();
        tracing::info!(
            epoch = format!("{epoch:016x}"),
            "following the shared log from its present end"
        );
    }

    /// Tells writers, metrics and the log what is seen now.
    fn tell(&self) {
        let replica = &self.replica;
        let news = Status {
            sight: replica.sight(),
            refused: replica.refused(),
            on_probation: replica.on_probation(),
            members: replica.members(),
            tail: replica.tail(),
        };
        let old = *self.status.borrow();
        if old == news {
            return;
        }
        if let (None, Some(why)) = (old.refused, news.refused) {
            tracing::error!(
                reason = why.as_str(),
                "the shared log cannot be used: nothing is cached"
            );
        }
        match (old.sight.unreachable_since, news.sight.unreachable_since) {
            // Before it was ever reached, the connection itself says why.
            (None, Some(_)) if self.epoch.is_some() => {
                tracing::warn!("the shared log does not answer: nothing is cached until it does");
            }
            (Some(_), None) if self.epoch.is_some() => tracing::info!("the shared log is back"),
            _ => {}
        }
        self.metrics
            .lag
            .set(i64::try_from(news.tail.saturating_sub(news.sight.applied)).unwrap_or(i64::MAX));
        self.metrics.members.set(i64::from(news.members));
        self.status.send_replace(news);
    }
}
