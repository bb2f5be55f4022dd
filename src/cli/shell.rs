//! `reprise completions` and `reprise man`: what shells and readers want of the command line itself.

use clap::{Args, CommandFactory};

use super::{Cli, Failure, say};

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

pub(super) fn completions(completions: &Completions) {
    let mut script = Vec::new();
    clap_complete::generate(
        completions.shell,
        &mut Cli::command(),
        "reprise",
        &mut script,
    );
    say(String::from_utf8_lossy(&script).trim_end());
}

pub(super) fn man() -> Result<(), Failure> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
    rendered.map_err(|error| Failure::Failed(format!("the page cannot be made: {error}")))?;
    say(String::from_utf8_lossy(&page).trim_end());
    Ok(())
}
