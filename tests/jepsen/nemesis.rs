//! The nemesis: breaks one thing after the other, and two at once now and then, in an order that the seed decides; writes
//! down what was broken when.

use std::time::Duration;

use crate::dice::Dice;
use crate::fault::Fault;
use crate::history::{Clock, Nanos, Span, Struck};
use crate::link::Weather;
use crate::redis::{LOG, LOG_KEYS, Redis};
use crate::replica::Replica;

/// What can be broken.
pub struct System {
    pub clock: Clock,
    pub redis: Redis,
    pub replicas: Vec<Replica>,
}

/// How a run is tormented.
pub struct Torment {
    pub faults: Vec<Fault>,
    /// The longest standstill of a process or silence of a link.
    pub longest: Duration,
    /// When the last fault may begin.
    pub until: Nanos,
    /// Whether there are pauses in which everything can recover.
    pub lets_recover: Option<Nanos>,
}

impl Torment {
    /// Breaks things until it is time to stop.
    pub async fn run(&self, system: &mut System, mut dice: Dice) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut order: Vec<Fault> = Vec::new();
        while system.clock.now() < self.until && !self.faults.is_empty() {
            if order.is_empty() {
                order.clone_from(&self.faults);
                dice.shuffle(&mut order);
            }
            let Some(fault) = order.pop() else { break };
            if dice.per_mille(150) {
                // What a server holds when it is killed later: an old snapshot.
                system.redis.command(&["SAVE"], true).await;
            }
            // A link of one replica and Redis itself fail independently: both at once, now and then.
            let second = order
                .last()
                .copied()
                .filter(|it| it.is_weather() && !fault.is_weather());
            match second.filter(|_| dice.per_mille(300)) {
                Some(weather) => {
                    order.pop();
                    let from = system.clock.now();
                    let struck = begin_weather(system, weather, &mut dice);
                    spans.push(self.strike(system, fault, &mut dice).await);
                    tokio::time::sleep(dice.millis(0, 500)).await;
                    clear(system, &mut dice).await;
                    spans.push(Span {
                        fault: weather.as_str(),
                        from,
                        to: system.clock.now(),
                        struck,
                        harm: weather.harm(),
                        // The other fault may have ended for some before it did for all.
                        uneven: from,
                    });
                }
                None => spans.push(self.strike(system, fault, &mut dice).await),
            }
            tokio::time::sleep(self.peace(&mut dice)).await;
        }
        spans
    }

    fn peace(&self, dice: &mut Dice) -> Duration {
        match self.lets_recover {
            Some(recovery) if dice.per_mille(200) => Duration::from_nanos(recovery) * 3 / 2,
            Some(_) | None => dice.millis(50, 1000),
        }
    }

    fn how_long(&self, dice: &mut Dice) -> Duration {
        let longest = u64::try_from(self.longest.as_millis()).unwrap_or(u64::MAX);
        // Half of them shorter than a lease, half of them perhaps longer.
        if dice.per_mille(500) {
            dice.millis(100, longest.min(900))
        } else {
            dice.millis(100, longest)
        }
    }

    /// One fault, from its beginning to its end.
    async fn strike(&self, system: &mut System, fault: Fault, dice: &mut Dice) -> Span {
        let from = system.clock.now();
        let so_long = self.how_long(dice);
        let mut struck = Struck::Everybody;
        let mut uneven = None;
        match fault {
            Fault::KillReplica | Fault::PauseReplica => {
                let index = dice.below(system.replicas.len());
                struck = Struck::Replica(index);
                strike_replica(&mut system.replicas[index], fault, so_long, dice).await;
            }
            Fault::KillRedis => {
                system.redis.stop(dice).await;
                tokio::time::sleep(so_long).await;
                uneven = Some(system.clock.now());
                system.redis.start_again().await;
            }
            Fault::PauseRedis => system.redis.pause(so_long).await,
            Fault::FailOver => {
                uneven = Some(from);
                system.redis.fail_over(dice).await;
            }
            Fault::SplitBrain => {
                uneven = Some(from);
                system.redis.pause(Duration::from_millis(2500)).await;
            }
            Fault::KillPubsub => {
                let words = ["CLIENT", "KILL", "TYPE", "pubsub"];
                system.redis.command(&words, true).await;
            }
            Fault::Flush => system.redis.command(&["FLUSHALL"], true).await,
            Fault::DeleteKey => {
                let key = format!("{LOG}:{}", dice.one_of(&LOG_KEYS));
                system.redis.command(&["DEL", &key], false).await;
            }
            Fault::Trim => {
                let key = format!("{LOG}:log");
                let left = *dice.one_of(&["0", "1", "5"]);
                let words = ["XTRIM", &key, "MAXLEN", left];
                system.redis.command(&words, false).await;
            }
            _ => {
                struck = begin_weather(system, fault, dice);
                uneven = (fault == Fault::SlowAll).then_some(from);
                tokio::time::sleep(so_long).await;
                let clearing = system.clock.now();
                uneven = uneven.or(Some(clearing));
                clear(system, dice).await;
            }
        }
        let to = system.clock.now();
        Span {
            fault: fault.as_str(),
            from,
            to,
            struck,
            harm: fault.harm(),
            // A process goes on a moment before this one has waited for it.
            uneven: uneven.unwrap_or(to.saturating_sub(20_000_000)),
        }
    }
}

impl Fault {
    /// Whether it is a matter of links alone.
    const fn is_weather(self) -> bool {
        matches!(
            self,
            Self::CutOne
                | Self::CutAll
                | Self::SilentOne
                | Self::SilentAll
                | Self::HalfOpenOne
                | Self::SlowOne
                | Self::SlowAll
        )
    }
}

/// Lets the weather turn; whom it strikes.
fn begin_weather(system: &System, fault: Fault, dice: &mut Dice) -> Struck {
    let weather = match fault {
        Fault::CutOne | Fault::CutAll => Weather::Cut,
        Fault::HalfOpenOne => *dice.one_of(&[Weather::Deaf, Weather::Mute]),
        Fault::SlowOne | Fault::SlowAll => Weather::Slow(dice.millis(5, 400)),
        _ => Weather::Silent,
    };
    let index = dice.below(system.replicas.len());
    let one = fault.strikes_one();
    for (place, replica) in system.replicas.iter().enumerate() {
        if let Some(link) = replica.link.as_ref().filter(|_| !one || place == index) {
            link.set(weather);
        }
    }
    if one {
        Struck::Replica(index)
    } else {
        Struck::Everybody
    }
}

async fn strike_replica(replica: &mut Replica, fault: Fault, so_long: Duration, dice: &mut Dice) {
    replica.shut(true);
    if fault == Fault::PauseReplica {
        replica.process.pause();
        tokio::time::sleep(so_long).await;
        replica.process.resume();
    } else {
        replica.process.kill();
        tokio::time::sleep(dice.millis(0, 1000)).await;
        replica.process.spawn();
        replica.process.accepts().await;
    }
    replica.shut(false);
}

/// Ends all bad weather: what was held back arrives now, or its connections end first.
async fn clear(system: &System, dice: &mut Dice) {
    let links = || system.replicas.iter().filter_map(|it| it.link.as_ref());
    if dice.per_mille(300) {
        links().for_each(|link| link.set(Weather::Cut));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    links().for_each(|link| link.set(Weather::Clear));
}
