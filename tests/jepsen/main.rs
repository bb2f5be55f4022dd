//! Coherence under fire: real replicas, a real Redis, real faults, and checkers that know the truth. README.md says how it
//! is used and what it proves.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers: it is its tasks' owner, reads whole bodies, and says what it does"
)]

mod backend; // the app: registers, and the book of what was committed
mod checks; // what is wrong with a history
mod clients; // who asks, and writes down what was answered
mod dice; // randomness with a seed
mod fault; // what can go wrong
mod history; // what happened, on one clock
mod link; // TCP with weather
mod nemesis; // who breaks things
mod process; // real processes
mod redis; // Redis alone, with a sentinel, as a cluster
mod replica; // the binary under test
mod report; // tables and JSON
mod run; // one run from start to verdict

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use checks::Promise;
use clap::Parser;
use redis::Shape;
use run::{Outcome, Plan};
use serde_json::Value;

/// Runs replicas under faults and looks for stale reads. Without options: the short version, a few combinations.
#[derive(Debug, Parser)]
#[command(name = "jepsen")]
struct Options {
    /// The promise to hold the replicas to; with any of the options below, `strong`.
    #[arg(long, value_enum)]
    mode: Option<Promise>,
    /// The shape of Redis.
    #[arg(long, value_enum)]
    redis: Option<Shape>,
    /// How many replicas.
    #[arg(long, default_value_t = 3)]
    replicas: usize,
    /// How long to run.
    #[arg(long)]
    seconds: Option<u64>,
    /// `all`, `none`, or names with commas.
    #[arg(long)]
    faults: Option<String>,
    /// What the dice begin with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many clients.
    #[arg(long, default_value_t = 12)]
    clients: usize,
    /// The lease, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    lease: u64,
    /// The longest standstill of a process or silence of a link, in milliseconds.
    #[arg(long, default_value_t = 2500)]
    longest: u64,
    /// Where to write the report as JSON.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Only show the checkers what they must catch.
    #[arg(long)]
    proofs: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        println!("jepsen: not run, a filter names other tests");
        return ExitCode::SUCCESS;
    };
    let options = Options::parse_from(arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut wrong = checks::prove();
    wrong.extend(runtime.block_on(link::prove()));
    if !wrong.is_empty() {
        eprintln!("the harness itself is wrong:\n{}", wrong.join("\n"));
        return ExitCode::FAILURE;
    }
    println!("jepsen: the checkers catch what they must, and links break");
    if options.proofs {
        return ExitCode::SUCCESS;
    }
    let finished = runtime.block_on(async {
        tokio::select! {
            finished = run_all(&options) => finished,
            // The processes end with the values that hold them.
            _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    match finished {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("jepsen: {error}");
            ExitCode::from(2)
        }
    }
}

/// The arguments, without those that the test harness of other targets knows; none when only tests by name are wanted.
fn arguments() -> Option<Vec<String>> {
    let all: Vec<String> = std::env::args().collect();
    let foreign = |it: &&String| {
        let known = [
            "--nocapture",
            "--quiet",
            "--show-output",
            "--exact",
            "--ignored",
            "--include-ignored",
        ];
        known.contains(&it.as_str()) || it.starts_with("--test-threads=")
    };
    let filtered = all
        .get(1)
        .is_some_and(|it| !it.starts_with('-') && !it.contains("jepsen"));
    let ours = all.iter().filter(|it| !foreign(it)).cloned();
    (!filtered).then(|| ours.filter(|it| it != "jepsen").collect())
}

async fn run_all(options: &Options) -> Result<bool, String> {
    let mut outcomes = Vec::new();
    let mut good = true;
    let chosen = options.mode.is_some()
        || options.redis.is_some()
        || options.seconds.is_some()
        || options.faults.is_some();
    if !chosen {
        good &= sees_incoherence(options).await?;
    }
    let plans = if chosen {
        vec![options.plan()]
    } else {
        options.short()
    };
    for plan in plans {
        let outcome = plan.run().await?;
        print!("{}", report::table(std::slice::from_ref(&outcome)));
        print!("{}", report::complaints(&outcome, 10));
        if !outcome.verdict.violations.is_empty() {
            print!("{}", report::faults(&outcome));
            println!("  again with --seed {}", outcome.plan.seed);
            good = false;
        }
        outcomes.push(outcome);
    }
    if outcomes.len() > 1 {
        print!("\n{}", report::table(&outcomes));
    }
    if let Some(path) = &options.report {
        write_report(path, &outcomes)?;
    }
    Ok(good)
}

/// Replicas that know nothing of each other must be caught. If they are not, nothing that follows proves anything.
async fn sees_incoherence(options: &Options) -> Result<bool, String> {
    let plan = Plan {
        promise: Promise::Strong,
        shape: Shape::None,
        time: Duration::from_secs(3),
        faults: "none".to_owned(),
        ..options.plan()
    };
    let outcome = plan.run().await?;
    let stale = outcome
        .verdict
        .violations
        .iter()
        .filter(|it| it.check == "stale")
        .count();
    if let Some(folder) = &outcome.folder {
        let _ = std::fs::remove_dir_all(folder);
    }
    if stale == 0 {
        println!("jepsen: replicas without a shared log were not caught");
    } else {
        println!("jepsen: replicas without a shared log are caught, {stale} times in 3 s");
    }
    Ok(stale > 0)
}

fn write_report(path: &PathBuf, outcomes: &[Outcome]) -> Result<(), String> {
    let all: Vec<Value> = outcomes.iter().map(report::json).collect();
    let text = format!("{:#}\n", Value::from(all));
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

impl Options {
    fn plan(&self) -> Plan {
        let time = Duration::from_secs(self.seconds.unwrap_or(30));
        Plan {
            promise: self.mode.unwrap_or(Promise::Strong),
            shape: self.redis.unwrap_or(Shape::Standalone),
            replicas: self.replicas,
            time,
            faults: self.faults.clone().unwrap_or_else(|| "all".to_owned()),
            seed: self.seed,
            clients: self.clients,
            lease: Duration::from_millis(self.lease),
            longest: Duration::from_millis(self.longest),
            lets_recover: time >= Duration::from_secs(60),
            ends_in_peace: true,
        }
    }

    /// What CI runs: every promise and two shapes of Redis, as long as it takes for most faults to occur.
    fn short(&self) -> Vec<Plan> {
        let of = |promise, shape, seconds| Plan {
            promise,
            shape,
            time: Duration::from_secs(seconds),
            longest: Duration::from_millis(self.longest.min(1300)),
            // The first of them measures recovery.
            ends_in_peace: false,
            ..self.plan()
        };
        // Strict replicas store nothing for a while after each new epoch: here are the faults that begin none, and times so
        // short that there is something to see.
        let strict = Plan {
            faults: "kill-replica,pause-replica,cut-one,silent-one,slow-one,kill-pubsub,trim"
                .to_owned(),
            lease: Duration::from_millis(600),
            longest: Duration::from_millis(900),
            ..of(Promise::Strict, Shape::Standalone, 18)
        };
        // Those that keep the news from somebody.
        let bounded = Plan {
            faults: "silent-one,slow-one,half-open-one,pause-replica,kill-pubsub,kill-redis"
                .to_owned(),
            ..of(Promise::Bounded, Shape::Standalone, 12)
        };
        let sentinel = Plan {
            faults: "fail-over,pause-replica,kill-replica".to_owned(),
            ..of(Promise::Strong, Shape::Sentinel, 12)
        };
        let strong = Plan {
            ends_in_peace: true,
            ..of(Promise::Strong, Shape::Standalone, 21)
        };
        let mut plans = vec![strong, strict, bounded, sentinel];
        for (plan, seed) in plans.iter_mut().zip(self.seed..) {
            plan.seed = seed;
        }
        plans
    }
}
