//! Real Redis servers, each in a directory of its own, and what can happen to them.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::process::Desk;
use super::soon;

/// A `redis-server` on a port of its own. Killed when dropped.
pub struct RedisServer {
    desk: Desk,
    port: u16,
    bus_port: u16,
    program: &'static str,
    arguments: Vec<String>,
    password: Option<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// An empty one that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// One with these arguments too, such as `["--requirepass", "secret"]`. `{dir}` stands for its directory.
    pub async fn with(arguments: &[&str]) -> Self {
        Self::at("redis-server", arguments).await
    }

    /// One that writes everything to disk before it answers: it comes back with its data.
    pub async fn keeping_data() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// One that is encrypted on a second port ([`Self::tls_port`]), with these PEM texts.
    pub async fn encrypted(certificate: &str, key: &str) -> Self {
        let desk = Desk::new()
            .file("cert.pem", certificate)
            .file("key.pem", key);
        let tls_port = free_port().to_string();
        let arguments = [
            "--tls-port",
            &tls_port,
            "--tls-cert-file",
            "{dir}/cert.pem",
            "--tls-key-file",
            "{dir}/key.pem",
            "--tls-auth-clients",
            "no",
        ];
        Self::on(desk, "redis-server", &arguments).await
    }

    async fn at(program: &'static str, arguments: &[&str]) -> Self {
        Self::on(Desk::new(), program, arguments).await
    }

    async fn on(desk: Desk, program: &'static str, arguments: &[&str]) -> Self {
        let directory = desk.path("").display().to_string();
        let place = |text: &&str| text.replace("{dir}", directory.trim_end_matches('/'));
        let arguments: Vec<String> = arguments.iter().map(place).collect();
        let password = arguments.iter().position(|name| name == "--requirepass");
        let mut server = Self {
            desk,
            port: 0,
            bus_port: 0,
            program,
            password: password.map(|at| arguments[at + 1].clone()),
            arguments,
            child: None,
        };
        soon("a Redis", async {
            // Between asking the kernel for a port and Redis' taking it, somebody else may have it.
            loop {
                (server.port, server.bus_port) = (free_port(), free_port());
                if server.try_start().await {
                    break;
                }
            }
        })
        .await;
        server
    }

    /// Where it is.
    pub fn address(&self) -> String {
        SocketAddr::from(([127, 0, 0, 1], self.port)).to_string()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of [`Self::encrypted`].
    pub fn tls_port(&self) -> &str {
        let at = self.arguments.iter().position(|name| name == "--tls-port");
        &self.arguments[at.expect("it is encrypted") + 1]
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.desk.path(name)
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again where it was: empty, unless it keeps its data.
    pub async fn start_again(&mut self) {
        self.kill();
        soon("Redis on its old port", async {
            while !self.try_start().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Freezes it: connections stay, and nothing answers.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// Runs `redis-cli` with these words; what it prints, without the last line end.
    pub fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(words);
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        let output = command.output();
        let output = output.unwrap_or_else(|error| panic!("redis-cli: {error}; {INSTALL}"));
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    /// Asks again and again until the answer has this in it.
    pub async fn until(&self, words: &[&str], part: &str) {
        soon(&format!("{words:?}: {part:?}"), async {
            while !self.cli(words).contains(part) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// How many connections it has accepted, this question's included.
    pub fn connections(&self) -> u64 {
        let stats = self.cli(&["INFO", "stats"]);
        let mut lines = stats.lines().map(str::trim);
        let count = lines.find_map(|line| line.strip_prefix("total_connections_received:"));
        count.expect("a line").parse().expect("a number")
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -s {name}");
    }

    /// Starts the program; whether it came up and has its port.
    async fn try_start(&mut self) -> bool {
        let mut command = Command::new(self.program);
        if self.program == "redis-sentinel" {
            command.arg(self.path("sentinel.conf"));
        } else {
            command.args(["--save", "", "--appendonly", "no"]);
        }
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.arg("--dir").arg(self.path(""));
        if self
            .arguments
            .iter()
            .any(|name| name == "--cluster-enabled")
        {
            command.args(["--cluster-port", &self.bus_port.to_string()]);
        }
        command.args(&self.arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}; {INSTALL}", self.program));
        self.child = Some(child);
        while !answers(&self.address()).await {
            let child = self.child.as_mut().expect("it was started");
            if child.try_wait().expect("a child").is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Somebody else's server may have answered.
        let child = self.child.as_mut().expect("it was started");
        child.try_wait().expect("a child").is_none()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

const INSTALL: &str = "install Redis 7 (Debian: apt-get install redis-server redis-sentinel)";

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Whether something there speaks Redis and has loaded its data.
async fn answers(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return false;
    };
    if stream.write_all(b"PING\r\n").await.is_err() {
        return false;
    }
    let mut reply = [0; 16];
    let length = stream.read(&mut reply).await.unwrap_or_default();
    reply[..length].starts_with(b"+PONG") || reply[..length].starts_with(b"-NOAUTH")
}

/// A primary, a replica and a Sentinel that replaces the one by the other quickly. The Sentinel calls them `main`.
pub struct Sentinels {
    pub primary: RedisServer,
    pub replica: RedisServer,
    pub sentinel: RedisServer,
}

impl Sentinels {
    pub async fn start() -> Self {
        let primary = RedisServer::start().await;
        let port = primary.port().to_string();
        let fast = [
            "--repl-diskless-sync-delay",
            "0",
            "--repl-ping-replica-period",
            "1",
        ];
        let follow = ["--replicaof", "127.0.0.1", &port];
        let replica = RedisServer::with(&[&fast[..], &follow[..]].concat()).await;
        primary.cli(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
        replica
            .until(&["INFO", "replication"], "master_link_status:up")
            .await;
        let configuration = format!(
            "sentinel monitor main 127.0.0.1 {port} 1\nsentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 2000\n"
        );
        let desk = Desk::new().file("sentinel.conf", &configuration);
        let sentinel = RedisServer::on(desk, "redis-sentinel", &[]).await;
        let of_replica = format!("127.0.0.1:{}", replica.port());
        sentinel
            .until(&["SENTINEL", "REPLICAS", "main"], &of_replica)
            .await;
        let sentinels = Self {
            primary,
            replica,
            sentinel,
        };
        sentinels.replicated().await;
        sentinels
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis-sentinel://{}/?service=main", self.sentinel.address())
    }

    /// Waits until the replica has what the primary has.
    async fn replicated(&self) {
        self.primary.until(&["WAIT", "1", "1000"], "1").await;
    }
}

/// Three masters that share the slots.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "3000"];
            nodes.push(RedisServer::with(&arguments).await);
        }
        let shares = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for (at, (node, (first, last))) in nodes.iter().zip(shares).enumerate() {
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        for node in &nodes[1..] {
            let (port, bus) = (node.port().to_string(), node.bus_port.to_string());
            nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        for node in &nodes {
            node.until(&["CLUSTER", "INFO"], "cluster_state:ok").await;
            node.until(&["CLUSTER", "INFO"], "cluster_known_nodes:3")
                .await;
        }
        Self { nodes }
    }

    /// Kills the first node, and gives its slots to the second.
    pub async fn take_over_from_first(&mut self) {
        let id = self.nodes[0].cli(&["CLUSTER", "MYID"]);
        self.nodes[0].kill();
        for node in &self.nodes[1..] {
            node.cli(&["CLUSTER", "FORGET", &id]);
        }
        self.nodes[1].cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "5460"]);
        for node in &self.nodes[1..] {
            node.until(&["CLUSTER", "INFO"], "cluster_state:ok").await;
            node.until(&["CLUSTER", "INFO"], "cluster_slots_assigned:16384")
                .await;
        }
    }

    /// Its URL, by one of its nodes.
    pub fn url(&self) -> String {
        format!("redis-cluster://{}", self.nodes[0].address())
    }
}

/// A certificate for 127.0.0.1 that signs itself, and its key.
pub fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]);
    let made = made.expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Writes a file.
pub fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file");
}
