//! `reprise check`: is this configuration right?

use std::path::PathBuf;

use clap::Args;

use super::{Failure, colour, complain, load, say};
use crate::config::Environment;
use crate::units;

#[derive(Args, Debug)]
pub(super) struct Check {
    /// The configuration file.
    #[arg(value_name = "FILE", default_value = "proxy.toml")]
    file: PathBuf,
    /// Fail on warnings too.
    #[arg(long)]
    deny_warnings: bool,
}

pub(super) fn check(check: &Check, environment: &Environment) -> Result<(), Failure> {
    let loaded = load(&check.file, environment)?;
    for warning in &loaded.warnings {
        complain(&warning.render(colour()));
    }
    let rules = &loaded.config.rules;
    let memory = match loaded.config.memory.max_size {
        crate::config::MaxSize::Auto => "auto".to_owned(),
        crate::config::MaxSize::Bytes(bytes) => units::format_size(bytes),
    };
    say(&format!(
        "{}: ok: {} routes, {} write rules, memory {memory}",
        check.file.display(),
        rules.routes().len(),
        rules.writes().len(),
    ));
    for notice in &loaded.notices {
        say(&format!("note: {notice}"));
    }
    if check.deny_warnings && !loaded.warnings.is_empty() {
        return Err(Failure::Configuration(format!(
            "{} warnings are denied",
            loaded.warnings.len()
        )));
    }
    Ok(())
}
