//! The clients: each a task that asks any replica for anything, again and again, and writes down what it was told.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backend::{ANSWERED, LISTS, OPERATION, REGISTERS, members};
use crate::dice::Dice;
use crate::history::{Clock, End, Kind, Op, Seen, Source};
use crate::replica::Door;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The clients of a run.
pub struct Clients {
    tasks: JoinSet<Vec<Op>>,
    stop: CancellationToken,
}

#[derive(Clone)]
struct Caller {
    clock: Clock,
    http: Client<HttpConnector, Full<Bytes>>,
    doors: Arc<[Door]>,
    ids: Arc<AtomicU64>,
    dice: Dice,
}

/// What is asked for.
struct Question {
    kind: Kind,
    path: String,
    /// The registers that the answer must show, where the client knows them.
    registers: Option<Vec<usize>>,
    /// The client hangs up after this.
    leaves: Option<Duration>,
}

impl Clients {
    /// Starts so many.
    pub fn start(clock: Clock, seed: u64, count: usize, doors: &[Door]) -> Self {
        let stop = CancellationToken::new();
        let ids = Arc::new(AtomicU64::new(1));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            // A request is sent once: a client that repeats a write by itself would blur what was acknowledged.
            let http = Client::builder(TokioExecutor::new())
                .retry_canceled_requests(false)
                .build_http();
            let caller = Caller {
                clock,
                http,
                doors: doors.into(),
                ids: Arc::clone(&ids),
                dice: Dice::new(seed, 100 + number as u64),
            };
            tasks.spawn(caller.run(stop.clone()));
        }
        Self { tasks, stop }
    }

    /// Lets them finish what they are at; all that they wrote down.
    pub async fn stop(mut self) -> Vec<Op> {
        self.stop.cancel();
        let mut all = Vec::new();
        while let Some(ops) = self.tasks.join_next().await {
            all.extend(ops.expect("a client does not panic"));
        }
        all
    }
}

impl Caller {
    async fn run(mut self, stop: CancellationToken) -> Vec<Op> {
        let mut ops = Vec::new();
        while !stop.is_cancelled() {
            let replica = self.choose();
            let question = self.question();
            let op = self.ask(replica, &question).await;
            // Nobody hammers at a closed door.
            let longest = if matches!(op.end, End::Broken(_)) {
                100
            } else {
                12
            };
            ops.push(op);
            tokio::time::sleep(self.dice.millis(0, longest)).await;
        }
        ops
    }

    fn choose(&mut self) -> usize {
        let mut replica = self.dice.below(self.doors.len());
        for _ in 0..8 {
            let shut = self.doors[replica].shut.load(Ordering::Relaxed);
            if !shut || self.dice.per_mille(5) {
                break;
            }
            replica = self.dice.below(self.doors.len());
        }
        replica
    }

    fn question(&mut self) -> Question {
        let register = self.dice.skewed(REGISTERS);
        let other = (register + 1 + self.dice.below(REGISTERS - 1)) % REGISTERS;
        let (kind, path, registers) = match self.dice.below(1000) {
            0..780 => (Kind::Read, format!("/r/{register}"), Some(vec![register])),
            780..920 => {
                let list = self.dice.below(LISTS);
                (
                    Kind::Read,
                    format!("/list/{list}"),
                    Some(members(list).collect()),
                )
            }
            920..980 => (Kind::Write, format!("/r/{register}"), Some(vec![register])),
            980..995 => {
                let registers = Some(vec![register, other]);
                (Kind::Write, format!("/pair/{register}/{other}"), registers)
            }
            _ => (Kind::Write, "/some".to_owned(), None),
        };
        let leaves = kind == Kind::Write && self.dice.per_mille(20);
        Question {
            kind,
            path,
            registers,
            leaves: leaves.then(|| self.dice.millis(0, 20)),
        }
    }

    async fn ask(&self, replica: usize, question: &Question) -> Op {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let method = match question.kind {
            Kind::Read => Method::GET,
            Kind::Write => Method::POST,
        };
        // One name for all replicas, as behind a balancer: the host is part of the key, and else each would cache for itself.
        let url = format!("http://{}{}", self.doors[replica].address, question.path);
        let request = Request::builder().method(method).uri(url);
        let request = request
            .header(HOST, "registers.test")
            .header(OPERATION, id)
            .body(Full::default())
            .expect("a valid request");
        let mut op = Op {
            id,
            kind: question.kind,
            replica,
            invoke: self.clock.now(),
            complete: 0,
            end: End::Abandoned,
            seen: Vec::new(),
            foreign: false,
            uncoordinated: false,
            app: 0,
            unanswered: false,
            told: String::new(),
        };
        let patience = question.leaves.unwrap_or(PATIENCE);
        match tokio::time::timeout(patience, self.http.request(request)).await {
            Err(_) if question.leaves.is_some() => {}
            Err(_) => op.end = End::Broken("no answer".to_owned()),
            Ok(Err(error)) => {
                let mut why = error.to_string();
                if let Some(source) = error.source() {
                    why = format!("{why}: {source}");
                }
                op.end = End::Broken(why);
            }
            Ok(Ok(response)) => {
                op.complete = self.clock.now();
                let body = tokio::time::timeout(PATIENCE, self.note(&mut op, response)).await;
                if body.is_err() {
                    op.end = End::Broken("the answer stopped".to_owned());
                }
                op.foreign =
                    op.kind == Kind::Read && op.is_answered() && !is_answer_to(question, &op.seen);
            }
        }
        // A write is acknowledged with its head; all else has ended when nothing more comes.
        if op.complete == 0 || op.kind == Kind::Read {
            op.complete = self.clock.now();
        }
        op
    }

    /// Writes down what an answer says.
    async fn note(&self, op: &mut Op, response: Response<Incoming>) {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let field = |name| headers.get(name).and_then(|value| value.to_str().ok());
        op.told = field("cache-status").unwrap_or_default().to_owned();
        op.uncoordinated = op.told.contains("uncoordinated");
        let Ok(body) = response.into_body().collect().await else {
            op.end = End::Broken("the answer broke off".to_owned());
            return;
        };
        let json: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        op.end = if headers.contains_key(ANSWERED) {
            let source = source(&headers, &op.told);
            End::Answered { status, source }
        } else {
            let why = json["detail"].as_str().unwrap_or_default().to_owned();
            End::Refused { status, why }
        };
        let items = match &json {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        op.seen = items.iter().filter_map(seen).collect();
    }
}

fn seen(item: &Value) -> Option<Seen> {
    Some(Seen {
        register: usize::try_from(item["k"].as_u64()?).ok()?,
        version: item["v"].as_u64()?,
    })
}

fn is_answer_to(question: &Question, seen: &[Seen]) -> bool {
    let shown: Vec<usize> = seen.iter().map(|it| it.register).collect();
    question
        .registers
        .as_ref()
        .is_none_or(|wanted| *wanted == shown)
}

fn source(headers: &HeaderMap, told: &str) -> Source {
    let word = headers.get("x-cache").and_then(|value| value.to_str().ok());
    match word {
        Some("HIT" | "STALE") if told.contains("detail=l1") => Source::Memory,
        Some("HIT" | "STALE") => Source::Redis,
        Some("COALESCED") => Source::Shared,
        _ => Source::App,
    }
}
