//! `reprise run`: load, build, serve, drain.

use std::future::Future;
use std::path::Path;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ConfigFile, Failure, logging, memory};
use crate::app::{App, Summary};
use crate::config::{Config, Environment, Loaded};

pub(super) fn run(file: &ConfigFile, environment: &Environment) -> Result<(), Failure> {
    let loaded = file.load(environment)?;
    let logging = logging::start(&loaded.config.log)?;
    introduce(&file.path(environment), &loaded);
    let runtime = runtime(loaded.config.server.workers)?;
    let summary = runtime.block_on(serve(loaded.config))?;
    // A second signal left tasks behind; nobody waits for them any more.
    runtime.shutdown_background();
    if let Some(summary) = summary {
        tracing::info!(
            served = summary.served,
            hits = summary.hits,
            cut = summary.cut,
            log_lines_lost = logging.lost(),
            "stopped"
        );
    }
    Ok(())
}

/// Says what is about to run, and what of its configuration should be known.
fn introduce(path: &Path, loaded: &Loaded) {
    let config = &loaded.config;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %path.display(),
        routes = config.rules.routes().len(),
        writes = config.rules.writes().len(),
        memory = memory(config),
        redis = config.redis.as_ref().map(|redis| redis.url.as_str()),
        "starting"
    );
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // Each is about something that an operator may believe in and that is not so.
    for notice in &loaded.notices {
        tracing::warn!("{notice}");
    }
}

async fn serve(config: Config) -> Result<Option<Summary>, Failure> {
    let mut signals = Signals::new()?;
    let upstream = config.upstream.url.to_string();
    let app = App::build(config).map_err(|error| Failure::Failed(error.to_string()))?;
    for address in app.addresses() {
        tracing::info!(%address, upstream, "serving");
    }
    if let Some(address) = app.admin_address() {
        tracing::info!(%address, "probes and metrics");
    }
    Ok(until_signalled(&mut signals, |stop| {
        app.run(async {
            let _ = stop.await;
        })
    })
    .await)
}

/// Runs something that the first signal drains and the second one ends; `None` for the latter.
pub(super) async fn until_signalled<F>(
    signals: &mut Signals,
    run: impl FnOnce(tokio::sync::oneshot::Receiver<()>) -> F,
) -> Option<Summary>
where
    F: Future<Output = Summary>,
{
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut running = std::pin::pin!(run(stopped));
    tokio::select! {
        summary = &mut running => return Some(summary),
        () = signals.next() => {}
    }
    // The app is there to hear it: it is being polled below.
    let _ = stop.send(());
    tokio::select! {
        summary = &mut running => Some(summary),
        () = signals.next() => {
            tracing::warn!("ended at once by a second signal");
            None
        }
    }
}

/// The signals that ask the process to end.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::Failed(format!("signals: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that asks the process to end. SIGHUP does not: it will reload, and until then says so.
    pub(super) async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP: reloading is not in effect yet; restart to load a new configuration");
                }
            }
        }
    }
}

/// A runtime with this many workers; 0 is one per CPU that the container may use.
pub(super) fn runtime(workers: usize) -> Result<Runtime, Failure> {
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let workers = if workers == 0 { available } else { workers };
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build();
    runtime.map_err(|error| Failure::Failed(format!("the runtime cannot start: {error}")))
}
