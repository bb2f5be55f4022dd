//! A real process of a run: started, killed, stopped, continued, and gone at the latest when its value is dropped.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

/// A program that listens on one port, and may be started many times.
#[derive(Debug)]
pub struct Process {
    pub port: u16,
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    folder: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A program that will run in this folder, which also gets its output.
    pub fn new(program: &str, arguments: Vec<String>, folder: &Path, port: u16) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let base = Path::new(program).file_name().unwrap_or_default();
        Self {
            port,
            name: format!("{} on port {port}", base.display()),
            program: program.into(),
            arguments,
            environment: Vec::new(),
            folder: folder.to_owned(),
            child: None,
        }
    }

    /// Sets a variable; nothing else of this process's environment reaches it.
    pub fn set(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// A file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Replaces an argument, from the next start on.
    pub fn rearrange(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    /// Starts it, without waiting.
    pub fn spawn(&mut self) {
        let open = |name| {
            File::options()
                .create(true)
                .append(true)
                .open(self.path(name))
        };
        let out = open("output.log").expect("a file");
        let err = out.try_clone().expect("a second handle");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder);
        command.env_clear().envs(self.environment.iter().cloned());
        // Where the program itself is looked for.
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        self.child = Some(command.spawn().unwrap_or_else(|error| {
            panic!("{} cannot be started: {error}", self.name);
        }));
    }

    /// Waits until it accepts connections.
    pub async fn accepts(&mut self) {
        for _ in 0..2000 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
                .await
                .is_ok()
            {
                return;
            }
            let child = self.child.as_mut().expect("it was started");
            if let Ok(Some(status)) = child.try_wait() {
                panic!(
                    "{} ended ({status}); see {}",
                    self.name,
                    self.folder.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "{} does not listen; see {}",
            self.name,
            self.folder.display()
        );
    }

    /// Kills it, as the kernel does when memory runs out.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Lets it stand still.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            let id = child.id().to_string();
            let sent = Command::new("kill").args(["-s", name, &id]).status();
            assert!(
                sent.is_ok_and(|it| it.success()),
                "kill -s {name} {}",
                self.name
            );
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The ports that are handed out, below those that the kernel gives to outgoing connections: else one of these could take
/// the port of a process that is dead for the moment.
const PORTS: Range<u16> = 12_000..22_000;

/// The port of a cluster node's bus is so much higher.
const BUS: u16 = 10_000;

/// A port that is free now, and that of its bus too. It is used again and again by a process that is killed and restarted,
/// so it must be known.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Other runs at the same time begin elsewhere.
    let first = std::process::id().wrapping_mul(97);
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let tried = PORTS.map(|_| first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)));
    let count = u32::from(PORTS.end - PORTS.start);
    tried
        .map(|number| PORTS.start + u16::try_from(number % count).unwrap_or(0))
        .find(|port| free(*port) && free(*port + BUS))
        .expect("a free port")
}
