//! `reprise healthcheck`: does the sidecar answer? For probes of images without a shell or curl.

use std::time::Duration;

use clap::Args;
use http::StatusCode;

use super::remote::Sidecar;
use super::{Failure, say};
use crate::config::Environment;

/// How long a sidecar may take to say that it is well.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub(super) struct Healthcheck {
    /// Ask whether it wants traffic (/readyz), and say what each check found; not only whether it lives (/livez).
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    sidecar: Sidecar,
}

pub(super) fn healthcheck(
    healthcheck: &Healthcheck,
    environment: &Environment,
) -> Result<(), Failure> {
    let path = if healthcheck.ready {
        "/readyz?verbose"
    } else {
        "/livez"
    };
    let answer = healthcheck
        .sidecar
        .find(environment)?
        .ask(path, None, TIMEOUT)?;
    say(answer.body.trim_end());
    if answer.status == StatusCode::OK {
        Ok(())
    } else {
        Err(Failure::Failed(format!("{path} says {}", answer.status)))
    }
}
