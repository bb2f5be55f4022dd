//! One run: starts the app, Redis and the replicas, lets clients and nemesis loose on them, and collects what happened.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::backend::Backend;
use crate::checks::{Promise, Rules, Verdict, check};
use crate::clients::Clients;
use crate::dice::Dice;
use crate::fault::{self, Fault};
use crate::history::{Clock, History, Kind, Nanos, nanos};
use crate::nemesis::{System, Torment};
use crate::redis::{Redis, Shape};
use crate::replica::Replica;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub promise: Promise,
    pub shape: Shape,
    pub replicas: usize,
    pub time: Duration,
    /// As `--faults` has it.
    pub faults: String,
    pub seed: u64,
    pub clients: usize,
    pub lease: Duration,
    /// The longest standstill or silence.
    pub longest: Duration,
    /// Whether the rarer, long pauses between faults are made, in which recovery is measured.
    pub lets_recover: bool,
    /// Whether the run ends with such a pause.
    pub ends_in_peace: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub plan: Plan,
    pub history: History,
    pub verdict: Verdict,
    /// Where the logs of its processes are, if they are worth reading.
    pub folder: Option<PathBuf>,
}

/// How long caches have to warm up, and how long nothing is broken after that.
const WARM: Duration = Duration::from_millis(1500);
const CALM: Duration = Duration::from_millis(3000);

/// The app's deadline.
const UPSTREAM: Duration = Duration::from_millis(1000);

/// How long after that a write may still take place.
const ZOMBIE: Duration = Duration::from_millis(200);

impl Plan {
    /// The rules that its history is held against.
    pub fn rules(&self) -> Rules {
        // A write is forwarded within half of this, or not at all; the process may stand still in the moment before, and the
        // app is late after it.
        let intent_ttl = (self.longest + UPSTREAM + ZOMBIE) * 2;
        Rules {
            promise: self.promise,
            lease: self.lease,
            upstream: UPSTREAM,
            intent_ttl,
            replicas: self.replicas,
            shared: self.shape != Shape::None,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// When it makes no sense.
    pub async fn run(self) -> Result<Outcome, String> {
        let rules = self.rules();
        let faults = fault::parse(&self.faults, self.shape)?;
        let folder = folder(self.seed);
        let clock = Clock::start();
        let zombie = (UPSTREAM + Duration::from_millis(50), UPSTREAM + ZOMBIE);
        let backend = Backend::start(clock, self.seed, zombie).await;
        let redis = Redis::start(self.shape, &folder).await;
        let mut replicas = Vec::new();
        for index in 0..self.replicas {
            replicas.push(Replica::start(index, &rules, &redis, backend.address, &folder).await);
        }
        let mut system = System {
            clock,
            redis,
            replicas,
        };
        let history = self.observe(&mut system, &backend, faults).await;
        drop(system);
        let verdict = check(&history, &rules);
        let clean = verdict.violations.is_empty();
        if clean {
            let _ = std::fs::remove_dir_all(&folder);
        }
        Ok(Outcome {
            plan: self,
            history,
            verdict,
            folder: (!clean).then_some(folder),
        })
    }

    async fn observe(&self, system: &mut System, backend: &Backend, faults: Vec<Fault>) -> History {
        let clock = system.clock;
        let doors: Vec<_> = system.replicas.iter().map(|it| it.door.clone()).collect();
        let clients = Clients::start(clock, self.seed, self.clients, &doors);
        let began = clock.now();
        let recovery = self.rules().recovery();
        tokio::time::sleep(WARM + self.rules().quarantine()).await;
        let warm = clock.now();
        let end = began + nanos(self.time);
        let calm = if faults.is_empty() {
            end
        } else {
            warm + nanos(CALM)
        };
        sleep_until(clock, calm).await;
        let calm = clock.now();
        let log_found = system.redis.has_log().await;
        let peace = if self.ends_in_peace {
            recovery + 1_500_000_000
        } else {
            1_000_000_000
        };
        let torment = Torment {
            faults,
            longest: self.longest,
            until: end.saturating_sub(peace),
            lets_recover: self.lets_recover.then_some(recovery),
        };
        let spans = torment.run(system, Dice::new(self.seed, 2)).await;
        let last = spans.last().map_or(0, |span| span.to + peace);
        sleep_until(clock, end.max(last)).await;
        let mut history = History {
            ops: clients.stop().await,
            commits: backend.commits(),
            spans,
            log_found,
            warm,
            calm,
            ended: clock.now(),
            ..History::default()
        };
        (history.races, history.gets) = backend.races_and_gets();
        for op in history.ops.iter_mut().filter(|op| op.kind == Kind::Write) {
            let note = backend.note(op.id);
            op.app = note.took;
            op.unanswered = note.unanswered;
        }
        history
    }
}

async fn sleep_until(clock: Clock, moment: Nanos) {
    let left = moment.saturating_sub(clock.now());
    tokio::time::sleep(Duration::from_nanos(left)).await;
}

fn folder(seed: u64) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("jepsen-{}-{count}-seed-{seed}", std::process::id());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}
