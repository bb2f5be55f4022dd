//! A real redis-server, and a connection that speaks its protocol directly.
//!
//! What flows in: commands as words. What flows out: replies as they came, errors included. It promises that nothing is
//! retried, reordered or parsed beyond RESP2, so that what a test sees is what the server said.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::PATIENCE;

/// A reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    Nil,
    Number(i64),
    Text(String),
    Error(String),
    List(Vec<Self>),
}

/// One connection.
pub struct Resp {
    stream: BufReader<TcpStream>,
}

/// A server in a directory of its own; killed when dropped.
pub struct Redis {
    child: Child,
    directory: PathBuf,
    options: Vec<String>,
    pub port: u16,
}

impl Value {
    /// The text of a bulk or simple string.
    pub fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            other => panic!("not a text: {other:?}"),
        }
    }
}

impl Resp {
    /// Connects.
    pub fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("a socket");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends a command and waits for the reply.
    pub fn call(&mut self, words: &[&str]) -> Value {
        self.send(words);
        self.read()
    }

    /// Sends a command of words in one string.
    pub fn say(&mut self, line: &str) -> Value {
        self.call(&line.split(' ').collect::<Vec<_>>())
    }

    /// Asks again until the reply has this text in it.
    pub fn until(&mut self, line: &str, text: &str) {
        let since = Instant::now();
        while !self.say(line).text().contains(text) {
            assert!(since.elapsed() < PATIENCE, "{line}: never {text}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a command, whose reply is read later.
    pub fn send(&mut self, words: &[&str]) {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            let _ = write!(text, "${}\r\n{word}\r\n", word.len());
        }
        let sent = self.stream.get_mut().write_all(text.as_bytes());
        sent.expect("it is sent");
    }

    /// Reads one reply.
    pub fn read(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a reply");
        let rest = line.get(1..).unwrap_or_default().trim_end().to_owned();
        let number = || rest.parse::<i64>().expect("a number");
        match line.as_bytes().first() {
            Some(b'+') => Value::Text(rest),
            Some(b'-') => Value::Error(rest),
            Some(b':') => Value::Number(number()),
            Some(b'$' | b'*') if number() < 0 => Value::Nil,
            Some(b'$') => {
                let mut bytes = vec![0; usize::try_from(number()).expect("a length") + 2];
                self.stream.read_exact(&mut bytes).expect("a string");
                bytes.truncate(bytes.len() - 2);
                Value::Text(String::from_utf8(bytes).expect("text"))
            }
            Some(b'*') => Value::List((0..number()).map(|_| self.read()).collect()),
            _ => panic!("not a reply: {line:?}"),
        }
    }
}

impl Redis {
    /// Starts a server that saves nothing by itself.
    pub fn start(options: &[&str]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("reprise-redis-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        // Another process may take a port that was free a moment ago.
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = free.local_addr().expect("an address").port();
            drop(free);
            // A cluster's bus listens 10000 above.
            if port < 55_000
                && let Some(child) = spawn(port, &directory, &options)
            {
                return Self {
                    child,
                    directory,
                    options,
                    port,
                };
            }
        }
        panic!("redis-server does not start")
    }

    /// A connection to it.
    pub fn connect(&self) -> Resp {
        Resp::to(self.port)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process");
        self.child.wait().expect("its end");
    }

    /// Starts it again at the same place, with what was saved or with nothing.
    pub fn restart(&mut self, saved: bool) {
        self.kill();
        if !saved {
            let _ = std::fs::remove_file(self.directory.join("dump.rdb"));
        }
        let again = spawn(self.port, &self.directory, &self.options);
        self.child = again.expect("it starts again");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Starts a server and waits until it says that it is ready; `None` if it ends before.
fn spawn(port: u16, directory: &PathBuf, options: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .args([
            "--enable-debug-command",
            "yes",
            "--repl-diskless-sync-delay",
            "0",
        ])
        .args(options)
        .current_dir(directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server is installed");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    for line in output.lines().map_while(Result::ok) {
        if line.contains("Ready to accept connections") {
            return Some(child);
        }
    }
    let _ = child.wait();
    None
}
