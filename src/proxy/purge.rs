//! Purging: what operators, and code whose writes do not pass through here, ask to be dropped.
//!
//! The one way from a [`Request`] to the log of drops, for the admin API and for the methods `PURGE` and `BAN`. A
//! purge that has begun goes on without whoever asked for it, as a write does.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, request};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Answer, Error, Proxy, Seen};
use crate::body::Body;
use crate::cache::Swept;
use crate::coherence::{Purge, Purged, Refused};
use crate::headers::forwarded;
use crate::outcome::{Outcome, Result as Happened};
use crate::purge::{Closing, Opening, Plan, Refusal, Request};

/// How long a purge may look for what it freed.
const BUDGET: Duration = Duration::from_secs(2);

/// How many names a line of the log holds.
const NAMES_LOGGED: usize = 20;

/// What came of a purge.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was to be dropped.
    pub plan: Plan,
    /// Whether softly.
    pub soft: bool,
    /// Who has dropped it.
    pub reached: Reached,
    /// What was found in memory: freed, or, in a dry run, such as would be dropped.
    pub memory: Option<Swept>,
    /// What was freed in tier 2, where there is one.
    pub redis: Option<Swept>,
}

/// Who has dropped what was to be dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reached {
    /// Nobody: it was only to be told.
    Nobody,
    /// It is under way: whoever asked did not want to wait.
    UnderWay,
    /// This replica. The shared log could not be reached.
    Here(Purged),
    /// Every replica, or its lease has run out: none can serve what was there.
    Everywhere(Purged),
}

/// Why an announcement, or its end, was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unsettled {
    /// It names what there is not.
    Refusal(Refusal),
    /// The log did not take it.
    Log(Refused),
}

impl From<Refusal> for Unsettled {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl Proxy {
    /// Drops what was asked for; `by` says who asked.
    ///
    /// # Errors
    ///
    /// What cannot be understood under the rules of the moment.
    ///
    /// # Cancel safety
    ///
    /// A purge that has begun is carried out.
    pub async fn purge(&self, request: Request, by: String) -> Result<Report, Refusal> {
        let live = self.live();
        let plan = request.wanted.plan(&live.table, &live.query)?;
        if request.dry_run {
            return Ok(self.preview(plan, request.soft).await);
        }
        let report = Report {
            plan,
            soft: request.soft,
            reached: Reached::UnderWay,
            memory: None,
            redis: None,
        };
        Ok(self.carry_out(report, by, !request.no_wait).await)
    }

    /// Announces a write that does not pass through the proxy: its token, and the position of the announcement.
    ///
    /// # Errors
    ///
    /// What cannot be understood, or that the log cannot be reached.
    pub async fn open(&self, opening: &Opening, by: &str) -> Result<(u64, u64), Unsettled> {
        let live = self.live();
        let plan = opening.wanted.plan(&live.table, &live.query)?;
        let coherence = &self.shared.tools.coherence;
        let opened = coherence.open(plan.tags(), opening.ttl).await;
        self.shared.tools.tell_open_writes();
        let (token, position) = opened.map_err(Unsettled::Log)?;
        let names = logged(&plan);
        tracing::info!(by, ?names, position, "a write was announced");
        Ok((token, position))
    }

    /// Ends an announced write.
    ///
    /// # Errors
    ///
    /// What cannot be understood, or that there is no such announcement.
    ///
    /// # Cancel safety
    ///
    /// An end that has begun is carried out.
    pub async fn close(&self, closing: &Closing, by: String) -> Result<Report, Unsettled> {
        let live = self.live();
        let plan = closing.wanted.plan(&live.table, &live.query)?;
        let (token, committed) = (closing.token, closing.committed);
        let proxy = self.clone();
        let task = self.shared.tasks.spawn(async move {
            let tools = &proxy.shared.tools;
            let settled = tools
                .coherence
                .settle(token, committed, plan.tags().clone())
                .await;
            tools.tell_open_writes();
            let purged = settled.map_err(Unsettled::Log)?;
            let names = logged(&plan);
            tracing::info!(by, committed, ?names, position = ?purged.position, "an announced write ended");
            let mut report = Report {
                plan,
                soft: false,
                reached: reached(&purged),
                memory: None,
                redis: None,
            };
            if committed {
                tools.metrics.coherence.by_api.inc();
                proxy.free(&mut report).await;
            }
            Ok(report)
        });
        task.await
            .unwrap_or(Err(Unsettled::Log(Refused::Unreachable)))
    }

    /// Tells what would be dropped.
    async fn preview(&self, plan: Plan, soft: bool) -> Report {
        let wanted = plan.clone();
        let reaches =
            move |entry: &crate::entry::Entry| wanted.reaches(&entry.certificate.tags, &entry.key);
        let memory = self.shared.tools.cache.count(BUDGET, reaches).await;
        Report {
            plan,
            soft,
            reached: Reached::Nobody,
            memory: Some(memory),
            redis: None,
        }
    }

    async fn carry_out(&self, report: Report, by: String, wait: bool) -> Report {
        let proxy = self.clone();
        let begun = report.clone();
        let task = self.shared.tasks.spawn(async move {
            let mut report = proxy.drop_all(begun, &by).await;
            if !report.soft {
                proxy.free(&mut report).await;
            }
            report
        });
        if !wait {
            return report;
        }
        task.await.unwrap_or(report)
    }

    /// Frees what was dropped, in both tiers, and reports how much of it there was time to see.
    async fn free(&self, report: &mut Report) {
        let tools = &self.shared.tools;
        let redis = async {
            let sweeper = tools.sweeper.as_ref()?;
            Some(sweeper.sweep(BUDGET).await)
        };
        let (memory, redis) = tokio::join!(tools.cache.sweep(BUDGET), redis);
        report.memory = Some(memory);
        report.redis = redis;
    }

    /// Puts a plan's drops into the log, all at once: each may have to wait for a lease.
    async fn drop_all(&self, mut report: Report, by: &str) -> Report {
        let mut steps = JoinSet::new();
        for step in steps_of(&report) {
            let coherence = self.shared.tools.coherence.clone();
            steps.spawn(async move { coherence.purge(step).await });
        }
        let all = steps
            .join_all()
            .await
            .into_iter()
            .reduce(|one, other| Purged {
                // One that did not get there is reason enough to say so.
                position: one
                    .position
                    .zip(other.position)
                    .map(|(one, other)| one.max(other)),
                epoch: one.epoch.max(other.epoch),
                members: one.members.max(other.members),
                acknowledged: one.acknowledged && other.acknowledged,
                waited: one.waited.max(other.waited),
            });
        if let Some(purged) = all {
            report.reached = reached(&purged);
            self.shared.tools.metrics.coherence.by_api.inc();
            let names = logged(&report.plan);
            let more = report.plan.drops.names.len().saturating_sub(names.len());
            let bans: Vec<_> = report.plan.bans.iter().map(|ban| ban.as_str()).collect();
            tracing::info!(by, ?names, more, ?bans, soft = report.soft, position = ?purged.position,
                acknowledged = purged.acknowledged, waited = ?purged.waited, "purged");
        }
        report
    }

    /// Answers `PURGE` and `BAN`.
    pub(super) async fn purge_by_method(
        &self,
        head: &request::Parts,
        seen: &Seen<'_>,
    ) -> Result<Answer, Error> {
        if !may_purge(&head.headers, seen) {
            return Err(Error::PurgeForbidden);
        }
        let target = head
            .uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let request = if head.method.as_str() == "BAN" {
            Request::of_pattern(target)
        } else {
            Request::of_url(target)
        };
        let request = request.map_err(Error::PurgeRefused)?;
        let live = self.live();
        let plan = request.wanted.plan(&live.table, &live.query);
        let report = Report {
            plan: plan.map_err(Error::PurgeRefused)?,
            soft: false,
            reached: Reached::UnderWay,
            memory: None,
            redis: None,
        };
        let by = seen.client.peer.map_or_else(
            || format!("{} by a Unix socket", head.method),
            |peer| format!("{} by {peer}", head.method),
        );
        // A CMS sends thousands of these: walking through memory for each would cost more than it frees.
        let proxy = self.clone();
        let task = self
            .shared
            .tasks
            .spawn(async move { proxy.drop_all(report, &by).await });
        let report = task.await.map_err(|_| Error::Aborted)?;
        let mut response = Response::new(Body::from(report.to_json().to_string()));
        *response.status_mut() = report.status();
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        Ok(Answer {
            response,
            outcome: Outcome::new(Happened::Bypass),
            own: true,
        })
    }
}

impl Report {
    /// 200 when no replica can serve what was dropped (or nothing was to be), 202 when that is not so, or not yet.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self.reached {
            Reached::Nobody | Reached::Everywhere(_) => StatusCode::OK,
            Reached::UnderWay | Reached::Here(_) => StatusCode::ACCEPTED,
        }
    }

    /// The report, for people and programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let drops = &self.plan.drops;
        let bans: Vec<_> = self.plan.bans.iter().map(|ban| ban.as_str()).collect();
        let mut json = json!({
            "reached": self.reached.as_str(),
            "names": drops.names,
            "widened": drops.widened,
            "patterns": bans,
            "soft": self.soft,
        });
        if let Reached::Here(purged) | Reached::Everywhere(purged) = self.reached {
            json["position"] = json!(purged.position);
            json["epoch"] = json!(format!("{:016x}", purged.epoch));
            json["acknowledged"] = json!(purged.acknowledged);
            json["members"] = json!(purged.members);
            json["waited_ms"] = json!(purged.waited.as_secs_f64() * 1000.0);
        }
        if let Some(memory) = self.memory {
            let found = if self.reached == Reached::Nobody {
                "matching"
            } else {
                "freed"
            };
            json["memory"] = tier(memory, found);
        }
        if let Some(redis) = self.redis {
            json["redis"] = tier(redis, "freed");
        }
        json
    }
}

impl Reached {
    /// The word for it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::UnderWay => "under-way",
            Self::Here(_) => "here",
            Self::Everywhere(_) => "everywhere",
        }
    }
}

fn tier(swept: Swept, found: &'static str) -> Value {
    json!({
        "scanned": swept.scanned,
        found: swept.found,
        "complete": swept.complete,
    })
}

/// Whether a method asks for a purge.
pub(super) fn is_asked_by(method: &Method) -> bool {
    matches!(method.as_str(), "PURGE" | "BAN")
}

/// Whether a request may purge: it comes from a trusted address, and is not forwarded for somebody else. An ingress is
/// trusted for what it says about its clients, and its clients are not.
fn may_purge(headers: &HeaderMap, seen: &Seen<'_>) -> bool {
    if !seen.client.trusted {
        return false;
    }
    let said = headers.contains_key("x-forwarded-for");
    let claimed = ["forwarded", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name));
    if !said {
        return !claimed;
    }
    let trusted = |address| seen.live.trusted.iter().any(|net| net.contains(&address));
    match seen.client.peer {
        Some(peer) => trusted(forwarded::client_from_xff(headers, trusted, peer)),
        // Behind a Unix socket is somebody else's proxy.
        None => false,
    }
}

fn steps_of(report: &Report) -> Vec<Purge> {
    let tags = report.plan.tags();
    let tags = (!tags.is_empty()).then(|| {
        if report.soft {
            Purge::Soften(tags)
        } else {
            Purge::Tags(tags)
        }
    });
    let bans = report.plan.bans.iter();
    let bans = bans.map(|ban| Purge::Ban(ban.as_str().into()));
    tags.into_iter().chain(bans).collect()
}

const fn reached(purged: &Purged) -> Reached {
    if purged.position.is_some() {
        Reached::Everywhere(*purged)
    } else {
        Reached::Here(*purged)
    }
}

fn logged(plan: &Plan) -> Vec<&str> {
    let names = plan.drops.names.iter().take(NAMES_LOGGED);
    names.map(String::as_str).collect()
}
