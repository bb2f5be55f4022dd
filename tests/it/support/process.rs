//! The real binary, as an operator meets it: arguments, environment, signals, what it writes and how it exits.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::watch;

use super::client::{Call, Reply};
use super::sidecar::Plan;
use super::{eventually, soon};

/// A directory of its own, to run commands in; nothing of this process's environment reaches them.
pub struct Desk {
    directory: PathBuf,
    environment: Vec<(String, String)>,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A command that runs; killed when dropped.
pub struct Process {
    child: Child,
    lines: watch::Receiver<Vec<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Desk {
    /// An empty directory.
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("reprise-it-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        let environment = Vec::new();
        Self {
            directory,
            environment,
        }
    }

    /// A directory with this proxy.toml.
    pub fn with(toml: &str) -> Self {
        Self::new().file("proxy.toml", toml)
    }

    /// Writes a file.
    pub fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path(name), text).expect("a file");
        self
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Sets a variable.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command `reprise` with these arguments, not yet run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reprise"));
        command.args(arguments).current_dir(&self.directory);
        command.env_clear().envs(self.environment.iter().cloned());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Starts it.
    pub fn start(&self, arguments: &[&str]) -> Process {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let (sender, lines) = watch::channel(Vec::new());
        let out = child.stdout.take().expect("a pipe");
        let err = child.stderr.take().expect("a pipe");
        let readers = vec![pump(out, sender.clone()), pump(err, sender)];
        Process {
            child,
            lines,
            readers,
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn pump(from: impl Read + Send + 'static, to: watch::Sender<Vec<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            to.send_modify(|lines| lines.push(line));
        }
    })
}

impl Ended {
    /// Asserts the exit code, and gives the rest on.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Asserts that each of these was said, on either side.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) -> &Self {
        for part in parts {
            let said = self.stdout.contains(part) || self.stderr.contains(part);
            assert!(said, "{part:?} in {self:#?}");
        }
        self
    }
}

impl Process {
    /// Starts `reprise run` with this plan, and waits until it serves.
    pub async fn serving(plan: &Plan) -> Self {
        let desk = Desk::with(&plan.toml());
        let mut process = desk.start(&["run"]);
        process.line("probes and metrics").await;
        process
    }

    /// Waits for a line with this text.
    pub async fn line(&mut self, text: &str) -> String {
        let found = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        let lines = soon(
            &format!("a line with {text:?}"),
            self.lines.wait_for(|lines| found(lines).is_some()),
        )
        .await;
        let lines = lines.unwrap_or_else(|_| panic!("it ended without saying {text:?}"));
        found(&lines).expect("it was found")
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    /// The lines so far that are JSON, with this message.
    pub fn events(&self, message: &str) -> Vec<Value> {
        let lines = self.lines().into_iter();
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        events.filter(|event| event["message"] == message).collect()
    }

    /// Where it serves.
    pub fn address(&self) -> String {
        self.address_in("serving")
    }

    /// Where its probes are.
    pub fn admin_address(&self) -> String {
        self.address_in("probes and metrics")
    }

    fn address_in(&self, message: &str) -> String {
        let events = self.events(message);
        let event = events.first().expect("it says where it listens");
        event["address"].as_str().expect("an address").to_owned()
    }

    /// A request to it.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(&self.address(), method, path)
    }

    /// A GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path).send().await
    }

    /// A GET to its admin port.
    pub async fn admin(&self, path: &str) -> Reply {
        Call::new(&self.admin_address(), "GET", path).send().await
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -s {name}");
    }

    /// Waits for its end: the exit code. What it wrote is complete then.
    pub async fn exit(&mut self) -> Option<i32> {
        let mut status: Option<ExitStatus> = None;
        eventually("it exits", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader");
        }
        status.and_then(|status| status.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
