//! Redis, in the shapes that it is run in: alone, with a replica and a sentinel, as a cluster. Real servers.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dice::Dice;
use crate::process::{Process, free_port};

/// The shape of Redis.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Shape {
    None,
    Standalone,
    Sentinel,
    Cluster,
}

impl Shape {
    /// The word for tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Standalone => "standalone",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}

/// The name under which all keys of the shared log begin; what is in braces decides on the node.
pub const LOG: &str = "{reprise:log}";

/// The keys of the shared log.
pub const LOG_KEYS: [&str; 5] = ["state", "log", "open", "members", "beats"];

/// A running Redis.
pub struct Redis {
    pub shape: Shape,
    servers: Vec<Process>,
    sentinel: Option<Process>,
    /// Which server was killed and has not been started again.
    stopped: Option<usize>,
}

impl Redis {
    /// Starts it in this folder.
    pub async fn start(shape: Shape, folder: &Path) -> Self {
        let mut redis = Self {
            shape,
            servers: Vec::new(),
            sentinel: None,
            stopped: None,
        };
        match shape {
            Shape::None => {}
            Shape::Standalone => redis.add(folder, &[]).await,
            Shape::Sentinel => {
                redis.add(folder, &[]).await;
                let primary = redis.servers[0].port.to_string();
                redis
                    .add(folder, &["--replicaof", "127.0.0.1", &primary])
                    .await;
                redis.watch(folder).await;
            }
            Shape::Cluster => redis.cluster(folder).await,
        }
        redis
    }

    async fn add(&mut self, folder: &Path, more: &[&str]) {
        let port = free_port();
        let folder = folder.join(format!("redis-{port}"));
        let mut server = Process::new("redis-server", arguments(port, more), &folder, port);
        server.spawn();
        server.accepts().await;
        self.servers.push(server);
    }

    async fn watch(&mut self, folder: &Path) {
        let port = free_port();
        let primary = self.servers[0].port;
        let folder = folder.join("sentinel");
        let arguments = vec!["sentinel.conf".to_owned(), "--sentinel".to_owned()];
        let mut sentinel = Process::new("redis-server", arguments, &folder, port);
        let lines = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds main 700\nsentinel failover-timeout main 3000\n"
        );
        std::fs::write(sentinel.path("sentinel.conf"), lines).expect("a file");
        sentinel.spawn();
        sentinel.accepts().await;
        self.sentinel = Some(sentinel);
        // A sentinel learns of the replica from the primary, every ten seconds once it knows one and sooner before.
        for _ in 0..1500 {
            let known = ask(port, &["SENTINEL", "REPLICAS", "main"]).await;
            if known.is_some_and(|known| known.contains("master-link-status\r\n$2\r\nok")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the sentinel has not found the replica");
    }

    async fn cluster(&mut self, folder: &Path) {
        for _ in 0..3 {
            self.add(
                folder,
                &[
                    "--cluster-enabled",
                    "yes",
                    "--cluster-node-timeout",
                    "1000",
                    "--cluster-require-full-coverage",
                    "no",
                    "--cluster-allow-pubsubshard-when-down",
                    "yes",
                ],
            )
            .await;
        }
        let ports: Vec<u16> = self.servers.iter().map(|it| it.port).collect();
        for (index, port) in ports.iter().enumerate() {
            let (from, to) = (index * 16384 / 3, (index + 1) * 16384 / 3 - 1);
            let (from, to) = (from.to_string(), to.to_string());
            ask(*port, &["CLUSTER", "ADDSLOTSRANGE", &from, &to]).await;
            ask(
                *port,
                &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()],
            )
            .await;
            ask(
                *port,
                &["CLUSTER", "MEET", "127.0.0.1", &ports[0].to_string()],
            )
            .await;
        }
        for _ in 0..1500 {
            let mut ready = true;
            for port in &ports {
                let info = ask(*port, &["CLUSTER", "INFO"]).await.unwrap_or_default();
                ready &= info.contains("cluster_state:ok")
                    && info.contains("cluster_known_nodes:3")
                    && info.contains("cluster_slots_ok:16384");
            }
            if ready {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the cluster does not form");
    }

    /// The URL for a replica whose link has this port, if it has one.
    pub fn url(&self, link: Option<u16>) -> Option<String> {
        let port = self.servers.first().map(|it| it.port);
        match self.shape {
            Shape::None => None,
            Shape::Standalone => Some(format!("redis://127.0.0.1:{}/0", link.or(port)?)),
            Shape::Sentinel => {
                let port = self.sentinel.as_ref()?.port;
                Some(format!(
                    "redis-sentinel://127.0.0.1:{port}/0?sentinelServiceName=main"
                ))
            }
            Shape::Cluster => {
                let others = self.servers.iter().skip(1);
                let nodes: Vec<String> = others
                    .map(|it| format!("node=127.0.0.1:{}", it.port))
                    .collect();
                Some(format!(
                    "redis-cluster://127.0.0.1:{}?{}",
                    port?,
                    nodes.join("&")
                ))
            }
        }
    }

    /// The port that links lead to. Only one server alone can be reached through a link: the others tell clients their own
    /// addresses.
    pub fn linked_port(&self) -> Option<u16> {
        (self.shape == Shape::Standalone).then(|| self.servers[0].port)
    }

    /// The server that has the shared log now.
    pub async fn log_server(&mut self) -> &mut Process {
        let mut at = 0;
        match self.shape {
            Shape::None | Shape::Standalone => {}
            Shape::Sentinel => {
                let sentinel = self.sentinel.as_ref().map_or(0, |it| it.port);
                let told = ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]).await;
                let told = told.unwrap_or_default();
                let found = self
                    .servers
                    .iter()
                    .position(|it| told.contains(&it.port.to_string()));
                at = found.unwrap_or(0);
            }
            Shape::Cluster => {
                for (index, server) in self.servers.iter().enumerate() {
                    let key = format!("{LOG}:state");
                    let told = ask(server.port, &["EXISTS", &key]).await;
                    if told.is_some_and(|told| told.starts_with(':')) {
                        at = index;
                    }
                }
            }
        }
        &mut self.servers[at]
    }

    /// Asks the server with the shared log, or all of them.
    pub async fn command(&mut self, words: &[&str], all: bool) {
        let ports: Vec<u16> = if all {
            self.servers.iter().map(|it| it.port).collect()
        } else {
            vec![self.log_server().await.port]
        };
        for port in ports {
            ask(port, words).await;
        }
    }

    /// Whether the shared log is where [`LOG`] says.
    pub async fn has_log(&mut self) -> bool {
        if self.servers.is_empty() {
            return false;
        }
        let key = format!("{LOG}:{}", LOG_KEYS[0]);
        let port = self.log_server().await.port;
        let told = ask(port, &["EXISTS", &key]).await;
        told.is_some_and(|told| told.starts_with(":1"))
    }

    /// Kills the server with the shared log. It will come back empty, or with what it once saved.
    pub async fn stop(&mut self, dice: &mut Dice) {
        let server = self.log_server().await;
        server.kill();
        if dice.per_mille(600) {
            let _ = std::fs::remove_file(server.path("dump.rdb"));
        }
        let port = server.port;
        self.stopped = self.servers.iter().position(|it| it.port == port);
    }

    /// Starts it again.
    pub async fn start_again(&mut self) {
        if let Some(index) = self.stopped.take() {
            self.servers[index].spawn();
            self.servers[index].accepts().await;
        }
    }

    /// Kills the primary, whose last records the other server does not have, and lets the sentinel promote that one.
    pub async fn fail_over(&mut self, dice: &mut Dice) {
        let primary = self.log_server().await.port;
        let place = |port| move |it: &Process| it.port == port;
        let old = self.servers.iter().position(place(primary)).unwrap_or(0);
        let new = 1 - old;
        // Its connection is ended while it stands still, so that it cannot come back for what it misses.
        self.servers[new].pause();
        ask(primary, &["CLIENT", "KILL", "TYPE", "replica"]).await;
        tokio::time::sleep(dice.millis(0, 300)).await;
        self.servers[old].kill();
        self.servers[new].resume();
        let port = self.servers[new].port;
        self.promoted(port).await;
        let arguments = arguments(primary, &["--replicaof", "127.0.0.1", &port.to_string()]);
        let _ = std::fs::remove_file(self.servers[old].path("dump.rdb"));
        self.servers[old].rearrange(arguments);
        self.servers[old].spawn();
        self.servers[old].accepts().await;
    }

    async fn promoted(&self, port: u16) {
        for _ in 0..2000 {
            let info = ask(port, &["INFO", "replication"]).await;
            if info.is_some_and(|info| info.contains("role:master")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the sentinel promotes nobody");
    }

    /// Lets the server with the shared log stand still.
    pub async fn pause(&mut self, so_long: Duration) {
        let server = self.log_server().await;
        server.pause();
        tokio::time::sleep(so_long).await;
        server.resume();
    }
}

fn arguments(port: u16, more: &[&str]) -> Vec<String> {
    let port = port.to_string();
    let base = [
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    let quick = ["--repl-diskless-sync-delay", "0", "--loglevel", "notice"];
    let all = base.iter().chain(&quick).chain(more);
    all.map(|word| (*word).to_owned()).collect()
}

/// One command to one server; its reply as it came, as much of it as arrives at once. None when there is none soon.
pub async fn ask(port: u16, words: &[&str]) -> Option<String> {
    let exchange = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(command.as_bytes()).await?;
        let mut reply = vec![0; 64 * 1024];
        let count = stream.read(&mut reply).await?;
        reply.truncate(count);
        std::io::Result::Ok(String::from_utf8_lossy(&reply).into_owned())
    };
    let within = tokio::time::timeout(Duration::from_millis(500), exchange).await;
    within.ok().and_then(Result::ok)
}
