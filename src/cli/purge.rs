//! `reprise purge`: drops what is stored, in every replica, and says what became of it.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use http::StatusCode;
use serde_json::{Value, json};

use super::remote::Sidecar;
use super::{Failure, counted, say};
use crate::config::Environment;

/// A purge waits for other replicas for some leases, and looks at memory for two seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(super) struct Purge {
    /// What carries a tag (event:42), or a class of tags (event:*).
    #[arg(long = "tag", value_name = "TAG", group = "what")]
    tags: Vec<String>,
    /// A path, or everything below one (/api/movies/**).
    #[arg(long = "path", value_name = "PATH", group = "what")]
    paths: Vec<String>,
    /// A glob over path and query (/api/movies/?*page=2*).
    #[arg(long = "pattern", value_name = "GLOB", group = "what")]
    patterns: Vec<String>,
    /// What a route stored, by its name.
    #[arg(long = "route", value_name = "NAME", group = "what")]
    routes: Vec<String>,
    /// One exact URL, for all users and in all variants.
    #[arg(long = "key", value_name = "URL", group = "what")]
    keys: Vec<String>,
    /// Everything. Needs --yes, or --dry-run.
    #[arg(long, group = "what")]
    all: bool,
    /// Yes, everything, in every pod.
    #[arg(long)]
    yes: bool,
    /// Make it stale instead: it is refreshed when it is next asked for, where the route allows stale answers.
    #[arg(long)]
    soft: bool,
    /// Drop nothing: say what would be dropped here.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until every replica knows.
    #[arg(long)]
    no_wait: bool,
    /// The sidecar's own answer, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sidecar: Sidecar,
}

pub(super) fn purge(purge: &Purge, environment: &Environment) -> Result<(), Failure> {
    if purge.all && !purge.yes && !purge.dry_run {
        return Err(Failure::Usage(
            "--all drops every entry in every pod; add --yes, or look first with --dry-run"
                .to_owned(),
        ));
    }
    let remote = purge.sidecar.find(environment)?;
    let asked = json!({
        "tags": purge.tags,
        "paths": purge.paths,
        "patterns": purge.patterns,
        "routes": purge.routes,
        "keys": purge.keys,
        "all": purge.all,
        "soft": purge.soft,
        "dry_run": purge.dry_run,
        "wait": !purge.no_wait,
    });
    let answer = remote.ask("/api/v1/purge", Some(asked.to_string()), TIMEOUT)?;
    let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if answer.status != StatusCode::OK && answer.status != StatusCode::ACCEPTED {
        let reason = told["error"].as_str().unwrap_or(answer.body.trim_end());
        return Err(Failure::Failed(format!("{}: {reason}", answer.status)));
    }
    if purge.json {
        say(answer.body.trim_end());
    } else {
        say(&sentence(&told));
    }
    if told["reached"] == "here" {
        let reason =
            "only this replica has dropped it: the shared log cannot be reached. Try again";
        return Err(Failure::Failed(reason.to_owned()));
    }
    Ok(())
}

/// What became of it, for people.
fn sentence(told: &Value) -> String {
    let verb = match (told["reached"].as_str(), told["soft"].as_bool()) {
        (Some("nobody"), _) => "would drop",
        (Some("under-way"), _) => "dropping",
        (_, Some(true)) => "made stale",
        _ => "dropped",
    };
    let named = ["names", "patterns"].into_iter().flat_map(|field| {
        let list = told[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str)
    });
    let named: Vec<&str> = named.collect();
    let mut text = format!("{verb} {}", named.join(", "));
    for (tier, place) in [("memory", "here"), ("redis", "in Redis")] {
        let found = &told[tier];
        let count = found["freed"].as_u64().or(found["matching"].as_u64());
        if let Some(count) = count {
            let more = if found["complete"] == false {
                " so far"
            } else {
                ""
            };
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let entries = if count == 1 {
                "1 entry".to_owned()
            } else {
                format!("{count} entries")
            };
            // Writing into a `String` cannot fail.
            let _ = write!(text, "; {entries} {place}{more}");
        }
    }
    if let (Some(members), Some(waited)) = (told["members"].as_u64(), told["waited_ms"].as_f64()) {
        let members = counted(usize::try_from(members).unwrap_or(usize::MAX), "replica");
        let silent = if told["acknowledged"] == false {
            "; some were silent, and their leases have run out"
        } else {
            ""
        };
        let _ = write!(text, "; {members} in {waited:.0} ms{silent}");
    }
    for wider in told["widened"].as_array().into_iter().flatten() {
        let wider = wider.as_str().unwrap_or_default();
        let _ = write!(text, "\nnote: wider than asked: all of {wider} goes");
    }
    text
}
