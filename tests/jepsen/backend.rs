//! The app: registers that count how often they were written. Slow here and there, sometimes refusing, failing after the
//! commit, or silent; and it keeps the book of what was committed when, which is the truth that all else is held against.
//!
//! `GET /r/{k}` answers `{"k":..,"v":..}`, `GET /list/{n}` several of them. `POST /r/{k}`, `POST /pair/{a}/{b}` and
//! `POST /some` (a register of the app's choice) add one to a version each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::dice::Dice;
use crate::history::{Clock, Nanos, Seen};

/// How many registers there are.
pub const REGISTERS: usize = 48;

/// How many lists, each of [`LENGTH`] registers.
pub const LISTS: usize = 12;

const LENGTH: usize = 4;

/// The registers that a list shows. Lists overlap: a write concerns more than one.
pub fn members(list: usize) -> impl Iterator<Item = usize> {
    (0..LENGTH).map(move |place| (list * 3 + place * place) % REGISTERS)
}

/// The field that names an operation, so that the app's book can be found again.
pub const OPERATION: &str = "x-operation";

/// The field that tells the app's answers from the proxy's own.
pub const ANSWERED: &str = "x-app";

/// What the app noted of one write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Note {
    /// How long it took to answer.
    pub took: Nanos,
    /// It gave no answer, on purpose.
    pub unanswered: bool,
}

/// A running app. It ends with this value.
pub struct Backend {
    pub address: SocketAddr,
    app: App,
    accepting: JoinHandle<()>,
}

#[derive(Clone)]
struct App {
    clock: Clock,
    /// How long after the proxy gave up a write may still take place.
    zombie: (Duration, Duration),
    book: Arc<Mutex<Book>>,
}

struct Book {
    dice: Dice,
    commits: Vec<Vec<Nanos>>,
    /// How many reads of each register are under way.
    reading: Vec<u64>,
    races: u64,
    gets: u64,
    notes: HashMap<u64, Note>,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Done,
    /// 409, and nothing changed.
    Refused,
    /// 500, and it took place.
    Failed,
    /// No answer; it takes place late.
    Zombie,
    /// No answer, and it never takes place.
    Hung,
    /// It takes place, and the connection breaks.
    Broken,
}

type Answer = Result<Response<Full<Bytes>>, Silence>;

/// The connection is to be closed without an answer.
#[derive(Debug)]
struct Silence;

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no answer, on purpose")
    }
}

impl std::error::Error for Silence {}

impl Backend {
    /// Starts it. A write without an answer takes place between `zombie.0` and `zombie.1` after it came, or never.
    pub async fn start(clock: Clock, seed: u64, zombie: (Duration, Duration)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let book = Book {
            dice: Dice::new(seed, 1),
            commits: vec![Vec::new(); REGISTERS],
            reading: vec![0; REGISTERS],
            races: 0,
            gets: 0,
            notes: HashMap::new(),
        };
        let app = App {
            clock,
            zombie,
            book: Arc::new(Mutex::new(book)),
        };
        let accepting = tokio::spawn(accept(listener, app.clone()));
        Self {
            address,
            app,
            accepting,
        }
    }

    /// The moments of all commits, per register.
    pub fn commits(&self) -> Vec<Vec<Nanos>> {
        self.app.book().commits.clone()
    }

    /// How many reads were under way when a register of theirs was committed, and how many reads there were.
    pub fn races_and_gets(&self) -> (u64, u64) {
        let book = self.app.book();
        (book.races, book.gets)
    }

    /// What it noted of a write.
    pub fn note(&self, operation: u64) -> Note {
        let book = self.app.book();
        book.notes.get(&operation).copied().unwrap_or_default()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, app: App) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, app.clone()));
    }
}

async fn serve(stream: TcpStream, app: App) {
    let service = service_fn(move |request: Request<Incoming>| {
        let app = app.clone();
        async move {
            // A task of its own: the app goes on when the proxy hangs up.
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let operation = request.headers().get(OPERATION).cloned();
            let operation = operation.and_then(|id| id.to_str().ok()?.parse().ok());
            let (reply, replied) = oneshot::channel::<Answer>();
            tokio::spawn(async move {
                let answer = app.answer(&method, &path, operation.unwrap_or(0)).await;
                let _ = reply.send(answer);
            });
            replied.await.unwrap_or(Err(Silence))
        }
    });
    let _ = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new();
    let _ = connection
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl App {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, method: &Method, path: &str, operation: u64) -> Answer {
        let words: Vec<&str> = path.split('/').skip(1).collect();
        let number = |word: &str| word.parse::<usize>().unwrap_or(0);
        match (method, words.as_slice()) {
            (&Method::GET, ["r", k]) => self.read(&[number(k)], false).await,
            (&Method::GET, ["list", n]) => {
                let registers: Vec<usize> = members(number(n)).collect();
                self.read(&registers, true).await
            }
            (&Method::POST, ["r", k]) => self.write(&[number(k)], operation, true).await,
            (&Method::POST, ["pair", a, b]) => {
                self.write(&[number(a), number(b)], operation, true).await
            }
            (&Method::POST, ["some"]) => {
                let register = self.book().dice.skewed(REGISTERS);
                self.write(&[register], operation, false).await
            }
            _ => Ok(reply(StatusCode::NOT_FOUND, "{}".to_owned(), None)),
        }
    }

    async fn read(&self, registers: &[usize], list: bool) -> Answer {
        let (before, after) = {
            let mut book = self.book();
            book.gets += 1;
            for register in registers {
                book.reading[*register] += 1;
            }
            (pause(&mut book.dice), pause(&mut book.dice))
        };
        tokio::time::sleep(before).await;
        let seen: Vec<Seen> = {
            let book = self.book();
            let version = |register: &usize| Seen {
                register: *register,
                version: book.commits[*register].len() as u64,
            };
            registers.iter().map(version).collect()
        };
        tokio::time::sleep(after).await;
        for register in registers {
            self.book().reading[*register] -= 1;
        }
        // Half of the lists say themselves what they show; the routes of the others do.
        let tags = list.then(|| {
            let names: Vec<String> = registers.iter().map(|k| format!("r:{k}")).collect();
            names.join(", ")
        });
        Ok(reply(StatusCode::OK, body_of(&seen, list), tags))
    }

    async fn write(&self, registers: &[usize], operation: u64, may_hang: bool) -> Answer {
        let began = self.clock.now();
        let (fate, before, after, late) = {
            let mut book = self.book();
            let fate = fate(&mut book.dice, may_hang);
            let (from, to) = self.zombie;
            let late = book.dice.millis(millis(from), millis(to));
            (fate, pause(&mut book.dice), pause(&mut book.dice), late)
        };
        let unanswered = matches!(fate, Fate::Zombie | Fate::Hung | Fate::Broken);
        if unanswered {
            // Noted first: the client may learn of it at any time.
            self.note(operation, began, unanswered);
        }
        match fate {
            Fate::Hung => {
                tokio::time::sleep(late).await;
                return Err(Silence);
            }
            Fate::Zombie => tokio::time::sleep(late).await,
            Fate::Done | Fate::Refused | Fate::Failed | Fate::Broken => {
                tokio::time::sleep(before).await;
            }
        }
        if fate == Fate::Refused {
            self.note(operation, began, false);
            return Ok(reply(StatusCode::CONFLICT, "{}".to_owned(), None));
        }
        let seen = self.commit(registers);
        if unanswered {
            return Err(Silence);
        }
        tokio::time::sleep(after).await;
        self.note(operation, began, false);
        let status = match fate {
            Fate::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::CREATED,
        };
        Ok(reply(status, body_of(&seen, registers.len() > 1), None))
    }

    fn note(&self, operation: u64, began: Nanos, unanswered: bool) {
        let took = self.clock.now() - began;
        let mut book = self.book();
        book.notes.insert(operation, Note { took, unanswered });
    }

    /// All at one moment, as a transaction does.
    fn commit(&self, registers: &[usize]) -> Vec<Seen> {
        let mut book = self.book();
        let at = self.clock.now();
        let mut seen = Vec::new();
        for register in registers {
            book.races += book.reading[*register];
            book.commits[*register].push(at);
            let version = book.commits[*register].len() as u64;
            seen.push(Seen {
                register: *register,
                version,
            });
        }
        seen
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn fate(dice: &mut Dice, may_hang: bool) -> Fate {
    match dice.below(1000) {
        0..30 => Fate::Refused,
        30..50 => Fate::Failed,
        50..54 if may_hang => Fate::Zombie,
        54..56 if may_hang => Fate::Hung,
        56..58 if may_hang => Fate::Broken,
        _ => Fate::Done,
    }
}

/// Mostly short, sometimes long enough for a lot to happen meanwhile.
fn pause(dice: &mut Dice) -> Duration {
    match dice.below(100) {
        0..50 => dice.millis(0, 1),
        50..90 => dice.millis(1, 5),
        90..98 => dice.millis(5, 20),
        _ => dice.millis(50, 150),
    }
}

fn body_of(seen: &[Seen], list: bool) -> String {
    let one = |seen: &Seen| format!("{{\"k\":{},\"v\":{}}}", seen.register, seen.version);
    let all: Vec<String> = seen.iter().map(one).collect();
    if list {
        format!("[{}]", all.join(","))
    } else {
        all.join(",")
    }
}

fn reply(status: StatusCode, body: String, tags: Option<String>) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header(ANSWERED, "1");
    if let Some(tags) = tags {
        response = response.header("cache-tag", tags);
    }
    response
        .body(Full::new(body.into()))
        .expect("a valid response")
}
