//! `reprise check`: is this configuration right?

use std::path::PathBuf;

use clap::Args;

use super::{Failure, colour, complain, config_path, counted, load, memory, say};
use crate::config::Environment;

#[derive(Args, Debug)]
pub(super) struct Check {
    /// The configuration file [default: $REPRISE_CONFIG, else proxy.toml].
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Fail on warnings too.
    #[arg(long)]
    deny_warnings: bool,
}

pub(super) fn check(check: &Check, environment: &Environment) -> Result<(), Failure> {
    let file = config_path(check.file.as_deref(), environment);
    let loaded = load(&file, environment)?;
    for warning in &loaded.warnings {
        complain(&warning.render(colour()));
    }
    let warnings = counted(loaded.warnings.len(), "warning");
    let file = file.display();
    if check.deny_warnings && !loaded.warnings.is_empty() {
        let message = format!("error: {file}: {warnings}, and --deny-warnings is given");
        return Err(Failure::Configuration(message));
    }
    let rules = &loaded.config.rules;
    say(&format!(
        "{file}: ok: {}, {}, memory {}",
        counted(rules.routes().len(), "route"),
        counted(rules.writes().len(), "write rule"),
        memory(&loaded.config),
    ));
    for notice in &loaded.notices {
        say(&format!("note: {notice}"));
    }
    Ok(())
}
