//! The command line: one file per command, and the exit codes.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Environment, Loaded, MaxSize};
use crate::units;

mod check;
mod demo;
mod healthcheck;
mod logging;
mod purge;
mod remote;
mod run;
mod shell;

/// A caching reverse proxy that runs as a sidecar beside a booking backend, and is never stale after a write.
#[derive(Debug, Parser)]
#[command(
    name = "reprise",
    version,
    propagate_version = true,
    after_help = "\
Exit codes: 0 ok, 1 failed, 2 usage, 78 configuration.
Environment: REPRISE_CONFIG, REPRISE_LOG, REPRISE_UPSTREAM_URL, REPRISE_REDIS_URL, REPRISE_REDIS_PASSWORD,
REPRISE_IDENTITY_KEY, REPRISE_ADMIN_TOKEN.

Try it without an app of your own:  reprise demo"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: cache GET answers of the app, and drop what writes make obsolete.
    ///
    /// Needs a configuration that says where the app is; `[upstream] url` is enough to begin with. SIGTERM drains, a
    /// second signal ends at once.
    #[command(after_help = "Example:  reprise run --config proxy.toml")]
    Run(ConfigFile),
    /// Try it: the sidecar with the shipped proxy.toml in front of a small booking app, in this one process.
    #[command(after_help = "Example:  reprise demo --listen 127.0.0.1:0 --admin 127.0.0.1:0")]
    Demo(demo::Demo),
    /// Check a configuration: every error at once, with line, column and a suggestion.
    #[command(after_help = "Example:  reprise check proxy.toml --deny-warnings")]
    Check(check::Check),
    /// Drop what is stored, in every replica, and wait until none can serve it any more.
    #[command(after_help = "\
Examples:
  reprise purge --tag event:42
  reprise purge --path '/api/movies/**' --soft
  reprise purge --route events.list --route events.search --dry-run
  kubectl exec deploy/booking-api -c reprise -- reprise purge --all --yes

Exit code 1 if only this replica could be told.")]
    Purge(purge::Purge),
    /// Ask the sidecar whether it is well: exit code 0 or 1.
    #[command(after_help = "Example:  reprise healthcheck --ready")]
    Healthcheck(healthcheck::Healthcheck),
    /// Write a completion script.
    #[command(after_help = "Example:  source <(reprise completions bash)")]
    Completions(shell::Completions),
    /// Write the manual page.
    #[command(after_help = "Example:  reprise man | man -l -")]
    Man,
}

/// Which configuration.
#[derive(Args, Clone, Debug)]
struct ConfigFile {
    /// The configuration file [default: $REPRISE_CONFIG, else proxy.toml].
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How a command failed.
#[derive(Debug)]
enum Failure {
    /// The configuration is wrong: 78, as `EX_CONFIG` of sysexits.
    Configuration(String),
    /// The command line asks for something that is not done so: 2.
    Usage(String),
    /// Anything else: 1.
    Failed(String),
}

/// Parses the arguments, runs the command and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::from_process();
    let result = match &cli.command {
        Command::Run(file) => run::run(file, &environment),
        Command::Demo(demo) => demo::demo(demo, &environment),
        Command::Check(check) => check::check(check, &environment),
        Command::Purge(purge) => purge::purge(purge, &environment),
        Command::Healthcheck(asked) => healthcheck::healthcheck(asked, &environment),
        Command::Completions(wanted) => {
            shell::completions(wanted);
            Ok(())
        }
        Command::Man => shell::man(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(message)) => {
            complain(&message);
            ExitCode::from(78)
        }
        Err(Failure::Usage(message)) => {
            complain(&format!("error: {message}"));
            ExitCode::from(2)
        }
        Err(Failure::Failed(message)) => {
            complain(&format!("reprise: {message}"));
            ExitCode::FAILURE
        }
    }
}

impl ConfigFile {
    fn path(&self, environment: &Environment) -> PathBuf {
        config_path(self.config.as_deref(), environment)
    }

    fn load(&self, environment: &Environment) -> Result<Loaded, Failure> {
        load(&self.path(environment), environment)
    }
}

/// The file that the command line names, else the environment, else the one in this directory.
fn config_path(named: Option<&Path>, environment: &Environment) -> PathBuf {
    let named = named.or(environment.config.as_deref());
    named.unwrap_or(Path::new("proxy.toml")).to_owned()
}

fn load(path: &Path, environment: &Environment) -> Result<Loaded, Failure> {
    config::load(path, environment).map_err(|failure| {
        let mut message = failure.render(colour());
        if matches!(&failure, config::Failure::Unreadable(error, _) if error.kind() == ErrorKind::NotFound)
        {
            message.push_str(
                "\nhelp: name the file on the command line or in REPRISE_CONFIG; `reprise demo` runs without one",
            );
        }
        Failure::Configuration(message)
    })
}

/// How much memory the cache may take, for people.
fn memory(config: &Config) -> String {
    match config.memory.max_size {
        MaxSize::Auto => "auto".to_owned(),
        MaxSize::Bytes(bytes) => units::format_size(bytes),
    }
}

/// `1 route`, `2 routes`.
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Whether messages are coloured: only for a person.
fn colour() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal()
}

/// Writes a message. A terminal that is gone is no reason to fail, or to panic as `eprintln!` does.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "{}", message.trim_end());
}

/// Writes a result. A pipe whose reader has left (`| head`) is no reason to fail, or to panic as `println!` does.
fn say(message: &str) {
    let _ = writeln!(std::io::stdout(), "{message}");
}
