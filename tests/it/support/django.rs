//! The booking app of `tests/backend`, real Django behind real gunicorn, and who asks it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::client::{Call, Reply};
use super::{Sidecar, eventually};

/// How many apps run at once: each has two workers, and a small machine two cores.
static TURNS: Semaphore = Semaphore::const_new(2);

/// A running app. It ends with this value.
pub struct Django {
    pub address: String,
    folder: PathBuf,
    environment: Vec<(&'static str, &'static str)>,
    process: Child,
    _turn: SemaphorePermit<'static>,
}

/// Somebody who asks: nobody in particular, or a user by token or by session.
#[derive(Clone, Debug)]
pub struct Caller {
    /// For messages: `alice by session`.
    pub name: String,
    fields: Vec<(&'static str, String)>,
}

/// Holds one answer of the app back; see tests/backend/README.md.
pub struct Hold {
    gates: PathBuf,
    name: &'static str,
}

impl Django {
    /// An app with a fresh database.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with these variables in its environment.
    pub async fn start_with(environment: &[(&'static str, &'static str)]) -> Self {
        let turn = TURNS.acquire().await.expect("never closed");
        prepared().await;
        let port = free_port();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("django-{port}"));
        fs::create_dir_all(&folder).expect("a folder");
        let environment = [("BOOKING_TEST_HOOKS", "1")]
            .iter()
            .chain(environment)
            .copied()
            .collect();
        let mut django = Self {
            address: format!("127.0.0.1:{port}"),
            process: launch(port, &folder, &environment),
            folder,
            environment,
            _turn: turn,
        };
        django.listens().await;
        django
    }

    /// Kills it, workers and all.
    pub fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }

    /// Starts it again where it was, with the database that is there.
    pub async fn start_again(&mut self) {
        let mut environment = self.environment.clone();
        environment.push(("BOOKING_KEEP", "1"));
        let address: SocketAddr = self.address.parse().expect("an address");
        eventually("the port is free", || TcpListener::bind(address).is_ok()).await;
        self.process = launch(address.port(), &self.folder, &environment);
        self.listens().await;
    }

    /// Any request, past the sidecar.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(&self.address, method, path)
    }

    /// A sidecar before it, with the proxy.toml that is shipped; only the addresses are others.
    pub async fn sidecar(&self) -> Sidecar {
        Sidecar::configured(&self.shipped()).await
    }

    /// The shipped proxy.toml with the addresses of a test.
    pub fn shipped(&self) -> String {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.toml");
        let mut toml = fs::read_to_string(file).expect("proxy.toml is shipped");
        for (old, new) in [
            ("\"http://127.0.0.1:8000\"", format!("\"{}\"", self.url())),
            ("\"0.0.0.0:8080\"", "\"127.0.0.1:0\"".to_owned()),
            ("\"0.0.0.0:9090\"", "\"127.0.0.1:0\"".to_owned()),
        ] {
            assert_eq!(toml.matches(old).count(), 1, "{old} in proxy.toml");
            toml = toml.replace(old, &new);
        }
        toml
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Will hold the answer to the request that carries [`Hold::field`].
    pub fn hold(&self, name: &'static str) -> Hold {
        Hold {
            gates: self.folder.join("gates"),
            name,
        }
    }

    async fn listens(&mut self) {
        let address: SocketAddr = self.address.parse().expect("an address");
        let Self {
            process, folder, ..
        } = self;
        eventually("the app listens", || {
            if let Some(status) = process.try_wait().expect("a process") {
                let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                panic!("tests/backend/run: {status}\n{log}");
            }
            TcpStream::connect(address).is_ok()
        })
        .await;
    }
}

impl Drop for Django {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

impl Hold {
    /// The field that the request must carry.
    pub const FIELD: &'static str = "x-test-hold";

    /// The value of the field.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Waits until the app has made the answer, and a write's transaction is over.
    pub async fn held(&self) {
        let file = self.gates.join(format!("{}.held", self.name));
        eventually("the app holds an answer", || file.exists()).await;
    }

    /// Lets the answer go.
    pub fn release(self) {
        File::create(self.gates.join(format!("{}.release", self.name))).expect("a gate");
    }
}

impl Caller {
    /// Without any credential.
    pub fn nobody() -> Self {
        Self {
            name: "nobody".to_owned(),
            fields: Vec::new(),
        }
    }

    /// By token; without a name, nobody.
    pub fn named(name: &str) -> Self {
        if name.is_empty() {
            Self::nobody()
        } else {
            Self::token(name)
        }
    }

    /// By the token of the seeded user with this name: forty times its first letter.
    pub fn token(name: &str) -> Self {
        let token = name[..1].repeat(40);
        Self {
            name: format!("{name} by token"),
            fields: vec![("authorization", format!("Token {token}"))],
        }
    }

    /// By a session that begins now, at the app or through a sidecar.
    pub async fn login(address: &str, name: &str) -> Self {
        let who = json!({"username": name, "password": format!("{name}-password")});
        let login = Call::new(address, "POST", "/api/login/").json(&who.to_string());
        let answer = login.send().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let cookie = |name: &str| {
            let set = answer.headers.get_all("set-cookie").iter();
            let mut pairs = set.filter_map(|value| value.to_str().ok()?.split(';').next());
            let start = format!("{name}=");
            let found = pairs.find_map(|pair| pair.strip_prefix(&start));
            found.unwrap_or_else(|| panic!("no {name}")).to_owned()
        };
        let (session, csrf) = (cookie("sessionid"), cookie("csrftoken"));
        Self {
            name: format!("{name} by session"),
            fields: vec![
                ("cookie", format!("csrftoken={csrf}; sessionid={session}")),
                ("x-csrftoken", csrf),
            ],
        }
    }

    /// Without the field that lets a session write.
    pub fn without_csrf(mut self) -> Self {
        self.fields.retain(|(name, _)| *name != "x-csrftoken");
        self
    }
}

impl Call {
    /// As this caller.
    pub fn by(self, caller: &Caller) -> Self {
        let fields = caller.fields.iter();
        fields.fold(self, |call, (name, value)| call.header(name, value))
    }

    /// With this JSON, unless it is null.
    pub fn value(self, body: &Value) -> Self {
        match body {
            Value::Null => self,
            body => self.json(&body.to_string()),
        }
    }
}

impl Reply {
    /// Asserts that the app itself gives this answer: status, bytes, and every field that is not about the exchange.
    #[track_caller]
    pub fn is_as(&self, direct: &Self, what: &str) {
        let how = format!("{what}: {} {}", self.cache(), self.cache_status());
        assert_eq!(self.status, direct.status, "{how} {}", self.body);
        assert_eq!(self.body, direct.body, "{how}");
        assert_eq!(self.told(), direct.told(), "{how} {:?}", self.headers);
    }

    /// The fields that client and app mean for each other, without what Reprise adds: how it got the answer, a validator
    /// of what it stores, and that it encodes. `Vary: Cookie` says who was the first to ask for a shared page.
    fn told(&self) -> Vec<(String, String)> {
        const BETWEEN: [&str; 11] = [
            "age",
            "cache-status",
            "connection",
            "date",
            "etag",
            "transfer-encoding",
            "vary",
            "via",
            "x-cache",
            "x-query-count",
            "x-response-time",
        ];
        let names = self.headers.keys().map(|name| name.as_str());
        let mut told: Vec<_> = names
            .filter(|name| !BETWEEN.contains(name))
            .map(|name| (name.to_owned(), self.field(name)))
            .collect();
        told.push(("vary".to_owned(), self.varies()));
        told.sort();
        told
    }

    /// `Vary`, less what Reprise answers for itself.
    fn varies(&self) -> String {
        let fields = self.field("vary").to_lowercase();
        let fields = fields.split(", ");
        let fields = fields.filter(|field| !["accept-encoding", "cookie"].contains(field));
        fields.collect::<Vec<_>>().join(", ")
    }
}

/// The Python environment, made once.
async fn prepared() {
    static READY: OnceCell<()> = OnceCell::const_new();
    READY
        .get_or_init(|| async {
            let made = tokio::task::spawn_blocking(|| Command::new(tool("prepare")).output());
            let made = made
                .await
                .expect("no panic")
                .expect("tests/backend/prepare");
            let told = String::from_utf8_lossy(&made.stderr);
            assert!(made.status.success(), "{told}");
        })
        .await;
}

/// One of the commands in tests/backend.
pub fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/backend")
        .join(name)
}

fn launch(port: u16, folder: &Path, environment: &Vec<(&'static str, &'static str)>) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .expect("a log");
    Command::new(tool("run"))
        .arg(port.to_string())
        .arg(folder)
        .envs(environment.iter().copied())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("tests/backend/run")
}

/// A port that nobody is given by accident while the app restarts: below those that the kernel hands out.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).expect("below 10,000");
    let mut ports = (0..1_000).map(|_| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        20_000 + (first + next) % 10_000
    });
    ports
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
