//! The command line: one file per command, and the exit codes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Environment, Loaded};

mod check;
mod demo;
mod logging;
mod run;

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
    Demo(demo::Demo),
    /// Check a configuration: every error at once, with line, column and a suggestion.
    #[command(after_help = "Example:  reprise check proxy.toml --deny-warnings")]
    Check(check::Check),
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
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(message)) => {
            complain(&message);
            ExitCode::from(78)
        }
        Err(Failure::Failed(message)) => {
            complain(&format!("reprise: {message}"));
            ExitCode::FAILURE
        }
    }
}

impl ConfigFile {
    fn path(&self, environment: &Environment) -> PathBuf {
        let named = self.config.clone().or_else(|| environment.config.clone());
        named.unwrap_or_else(|| PathBuf::from("proxy.toml"))
    }

    fn load(&self, environment: &Environment) -> Result<Loaded, Failure> {
        load(&self.path(environment), environment)
    }
}

fn load(path: &std::path::Path, environment: &Environment) -> Result<Loaded, Failure> {
    config::load(path, environment)
        .map_err(|failure| Failure::Configuration(failure.render(colour())))
}

/// Whether messages are coloured: only for a person.
fn colour() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal()
}

#[expect(
    clippy::print_stderr,
    reason = "a command's messages go to the terminal"
)]
fn complain(message: &str) {
    eprintln!("{}", message.trim_end());
}

#[expect(
    clippy::print_stdout,
    reason = "a command's results go to the terminal"
)]
fn say(message: &str) {
    println!("{message}");
}
