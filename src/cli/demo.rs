//! `reprise demo`: the sidecar and an app to try it on, in one process.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;

use super::run::{Signals, runtime, until_signalled};
use super::{Failure, logging, say};
use crate::app::App;
use crate::config::{self, Config, Environment, Log, LogFormat};
use crate::demo::Backend;
use crate::server::Address;
use crate::upstream::Target;

/// The shipped configuration.
const PROXY_TOML: &str = include_str!("../../proxy.toml");

#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Where the sidecar listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: Address,
    /// Where its probes and metrics are.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin: Address,
    /// Another configuration than the shipped proxy.toml; its addresses and upstream are replaced.
    #[arg(short, long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// How long one database query of the app takes, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 8)]
    query_ms: u64,
}

pub(super) fn demo(demo: &Demo, environment: &Environment) -> Result<(), Failure> {
    // The demo's app is its own: what the environment says about another one does not count.
    let environment = Environment {
        upstream_url: None,
        ..environment.clone()
    };
    let loaded = match &demo.config {
        Some(file) => super::load(file, &environment)?,
        None => config::parse("proxy.toml", PROXY_TOML, &environment)
            .map_err(|failure| Failure::Configuration(failure.render(super::colour())))?,
    };
    let _logging = logging::start(&Log {
        format: LogFormat::Text,
        filter: environment.log.unwrap_or_else(|| "warn".to_owned()),
        access: loaded.config.log.access,
    })?;
    let runtime = runtime(loaded.config.server.workers)?;
    let result = runtime.block_on(serve(demo, loaded.config));
    runtime.shutdown_background();
    result
}

async fn serve(demo: &Demo, mut config: Config) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener =
        listener.map_err(|error| Failure::Failed(format!("no port for the app: {error}")))?;
    let app_address = listener
        .local_addr()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    config.upstream.url =
        Target::parse(&format!("http://{app_address}")).map_err(Failure::Failed)?;
    config.server.listen = vec![demo.listen.clone()];
    config.admin.listen = demo.admin.clone();
    let app = App::build(config).map_err(|error| {
        Failure::Failed(format!(
            "{error}\nChoose others with --listen and --admin, e.g. --listen 127.0.0.1:0"
        ))
    })?;
    let backend = Backend::new(Duration::from_millis(demo.query_ms));
    introduce(
        &app,
        &format!("http://{app_address}"),
        demo.config.as_deref(),
    );

    let (stop_backend, backend_stopped) = tokio::sync::oneshot::channel::<()>();
    let backend = backend.serve(listener, async {
        let _ = backend_stopped.await;
    });
    let sidecar = async {
        let summary = until_signalled(&mut signals, |stop| {
            app.run(async {
                let _ = stop.await;
            })
        })
        .await;
        drop(stop_backend);
        summary
    };
    let (summary, ()) = tokio::join!(sidecar, backend);
    if let Some(summary) = summary {
        say(&format!(
            "stopped: {} requests, {} of them hits",
            summary.served, summary.hits
        ));
    }
    Ok(())
}

/// Says what is running, and three commands to try.
fn introduce(app: &App, backend: &str, config: Option<&Path>) {
    let of =
        |address: Option<Address>| address.map_or_else(String::new, |address| address.to_string());
    let here = of(app.addresses().next());
    let admin = of(app.admin_address());
    let config = config.map_or_else(
        || "the shipped proxy.toml".to_owned(),
        |file| file.display().to_string(),
    );
    say(&format!(
        "\
Reprise is serving http://{here} with {config}.
Behind it is a small booking app at {backend}: events, movies, theaters, showtimes, bookings.
Probes and metrics are at http://{admin}. Ctrl-C drains and stops.

Try, in another terminal:

  1. The same question twice: the app's queries the first time, memory the second.
     curl -si http://{here}/api/showtimes/5/availability/

  2. A booking: it drops what shows those seats, before you have its answer.
     curl -si http://{here}/api/bookings/ -H 'Authorization: Token alice' \\
          -H 'Content-Type: application/json' -d '{{\"showtime\": 5, \"seats\": 2}}'

  3. The first question again: two seats fewer, never the old number.
     curl -si http://{here}/api/showtimes/5/availability/

X-Cache and Cache-Status say what happened, X-Query-Count how many queries the app made for it.
"
    ));
}
