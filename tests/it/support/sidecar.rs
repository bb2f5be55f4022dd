//! A sidecar before an origin, in this process, on ports of its own.

use reprise::app::{App, Summary};
use reprise::config::{self, Environment, Secret};
use reprise::server::Address;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::client::{Call, Reply};
use super::{Origin, soon};

/// What a sidecar will be configured with.
pub struct Plan {
    upstream: String,
    server: String,
    upstream_knobs: String,
    rest: String,
    environment: Environment,
}

/// A running sidecar.
pub struct Sidecar {
    pub address: String,
    pub admin: String,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Summary>>,
}

impl Sidecar {
    /// A sidecar before this origin.
    pub fn before(origin: &Origin) -> Plan {
        Self::before_url(&format!("http://{}", origin.address()))
    }

    /// A sidecar before this URL.
    pub fn before_url(url: &str) -> Plan {
        let upstream = url.to_owned();
        Plan {
            upstream,
            server: String::new(),
            upstream_knobs: String::new(),
            rest: String::new(),
            environment: Environment::default(),
        }
    }

    /// A running sidecar with this whole file. Panics with the configuration's errors, if it has any.
    pub async fn configured(toml: &str) -> Self {
        Self::configured_in(toml, &Environment::default()).await
    }

    /// The same, in this environment.
    pub async fn configured_in(toml: &str, environment: &Environment) -> Self {
        let loaded = config::parse("test.toml", toml, environment)
            .unwrap_or_else(|failure| panic!("{failure}\n{toml}"));
        let app = App::build(loaded.config).expect("the sidecar can be built");
        let of = |address: Option<Address>| address.expect("an address").to_string();
        let (address, admin) = (of(app.addresses().next()), of(app.admin_address()));
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async {
            let _ = stopped.await;
        }));
        Self {
            address,
            admin,
            stop: Some(stop),
            running: Some(running),
        }
    }

    /// A GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path).send().await
    }

    /// A GET by somebody.
    pub async fn get_as(&self, path: &str, token: &str) -> Reply {
        self.call("GET", path).token(token).send().await
    }

    /// A POST of this body, as JSON.
    pub async fn post(&self, path: &str, json: &str) -> Reply {
        self.call("POST", path).json(json).send().await
    }

    /// Any request.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(&self.address, method, path)
    }

    /// A GET to the admin port.
    pub async fn admin(&self, path: &str) -> Reply {
        Call::new(&self.admin, "GET", path).send().await
    }

    /// One series of /metrics; 0 when absent.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").await.body;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().expect("a number"))
    }

    /// How many requests wait for the head of their answer.
    pub async fn in_flight(&self) -> usize {
        self.metric("reprise_http_requests_in_flight").await as usize
    }

    /// Waits until so many requests wait for the head of their answer. In a test's one thread, each of them has then
    /// begun or joined a fill.
    pub async fn has_in_flight(&self, count: usize) {
        let what = format!("{count} requests in flight");
        soon(&what, async { while self.in_flight().await != count {} }).await;
    }

    /// Asks the sidecar to drain, without waiting.
    pub fn drain(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Drains it, and gives its summary.
    pub async fn stop(mut self) -> Summary {
        self.drain();
        let running = self.running.take().expect("it was started");
        soon("the sidecar drains", running)
            .await
            .expect("it ends by itself")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

impl Plan {
    /// Lines of `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// Lines of `[upstream]`.
    pub fn upstream(mut self, lines: &str) -> Self {
        self.upstream_knobs.push_str(lines);
        self.upstream_knobs.push('\n');
        self
    }

    /// More of the file: any other tables.
    pub fn with(mut self, tables: &str) -> Self {
        self.rest.push_str(tables);
        self.rest.push('\n');
        self
    }

    /// The key of identity hashes.
    pub fn identity_key(mut self, key: &str) -> Self {
        self.environment.identity_key = Some(Secret::new(key.to_owned()));
        self
    }

    /// A route with these further lines; its name is made of its place.
    pub fn route(self, pattern: &str, lines: &str) -> Self {
        let count = self.rest.matches("[[route]]").count();
        self.with(&format!(
            "[[route]]\nname = \"route-{count}\"\nmatch = \"{pattern}\"\n{lines}\n"
        ))
    }

    /// A write rule.
    pub fn write(self, on: &str, drop: &[&str]) -> Self {
        self.with(&format!("[[write]]\non = {on:?}\ndrop = {drop:?}\n"))
    }

    /// The file.
    pub fn toml(&self) -> String {
        let listen = if self.server.contains("listen") {
            ""
        } else {
            "listen = \"127.0.0.1:0\"\n"
        };
        let admin = if self.rest.contains("[admin]") {
            ""
        } else {
            "[admin]\nlisten = \"127.0.0.1:0\"\n"
        };
        format!(
            "[server]\n{listen}{}\n[upstream]\nurl = {:?}\n{}\n{admin}\n{}",
            self.server, self.upstream, self.upstream_knobs, self.rest
        )
    }

    /// Starts it. Panics with the configuration's errors, if it has any.
    pub async fn start(self) -> Sidecar {
        Sidecar::configured_in(&self.toml(), &self.environment).await
    }
}
