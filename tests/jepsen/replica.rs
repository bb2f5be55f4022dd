//! The replicas: real processes of the binary under test, each with a configuration and a link to Redis of its own.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::{LISTS, members};
use crate::checks::Rules;
use crate::link::Link;
use crate::process::{Process, free_port};
use crate::redis::Redis;

/// One replica.
pub struct Replica {
    pub process: Process,
    /// None where Redis cannot be reached through one.
    pub link: Option<Link>,
    pub door: Door,
}

/// What clients know of a replica.
#[derive(Clone, Debug)]
pub struct Door {
    pub address: SocketAddr,
    /// It is dead or stands still: clients turn to it rarely then, or soon all of them would wait for it.
    pub shut: Arc<AtomicBool>,
}

impl Replica {
    /// Starts number `index`.
    pub async fn start(
        index: usize,
        rules: &Rules,
        redis: &Redis,
        backend: SocketAddr,
        folder: &Path,
    ) -> Self {
        let link = match redis.linked_port() {
            Some(port) => Some(Link::to(port).await),
            None => None,
        };
        let port = free_port();
        let url = redis.url(link.as_ref().map(|link| link.port));
        let folder = folder.join(format!("replica-{index}"));
        let program = env!("CARGO_BIN_EXE_reprise");
        let mut process = Process::new(program, vec!["run".to_owned()], &folder, port)
            .set(
                "REPRISE_IDENTITY_KEY",
                "a key that all replicas of a run share, for once",
            )
            .set("REPRISE_LOG", "info");
        let toml = configuration(rules, port, backend, url.as_deref());
        std::fs::write(process.path("proxy.toml"), toml).expect("a file");
        process.spawn();
        process.accepts().await;
        Self {
            door: Door {
                address: SocketAddr::from(([127, 0, 0, 1], port)),
                shut: Arc::default(),
            },
            process,
            link,
        }
    }

    /// Tells clients to keep away, or to come back.
    pub fn shut(&self, shut: bool) {
        self.door.shut.store(shut, Ordering::Relaxed);
    }
}

fn configuration(rules: &Rules, port: u16, backend: SocketAddr, redis: Option<&str>) -> String {
    let mut toml = format!(
        "version = 1\n\
         [server]\nlisten = \"127.0.0.1:{port}\"\ndrain_timeout = \"1s\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\
         [upstream]\nurl = \"http://{backend}\"\ntimeout = \"{}ms\"\n\
         [coherence]\nmode = \"{}\"\nlease = \"{}ms\"\nintent_ttl = \"{}ms\"\n\
         [log]\nformat = \"text\"\n",
        rules.upstream.as_millis(),
        rules.promise.as_str(),
        rules.lease.as_millis(),
        rules.intent_ttl.as_millis(),
    );
    if let Some(url) = redis {
        toml.push_str(&format!("[redis]\nurl = \"{url}\"\n"));
    }
    toml.push_str(&route("register", "/r/{k}", &["r:{k}".to_owned()]));
    for list in (0..LISTS).step_by(2) {
        let tags: Vec<String> = members(list).map(|k| format!("r:{k}")).collect();
        toml.push_str(&route(
            &format!("list-{list}"),
            &format!("/list/{list}"),
            &tags,
        ));
    }
    // The app tags what it answers with; the write rules meet the same names.
    toml.push_str(&route("list", "/list/{n}", &[]));
    for (on, drop) in [
        ("POST /r/{k}", "\"r:{k}\""),
        ("POST /pair/{a}/{b}", "\"r:{a}\", \"r:{b}\""),
        ("POST /some", "\"r:{response.k}\""),
    ] {
        let _ = write!(toml, "[[write]]\non = \"{on}\"\ndrop = [{drop}]\n");
    }
    toml
}

fn route(name: &str, pattern: &str, tags: &[String]) -> String {
    format!(
        "[[route]]\nname = \"{name}\"\nmatch = \"{pattern}\"\nttl = \"1h\"\nscope = \"shared\"\ntags = {tags:?}\n"
    )
}
