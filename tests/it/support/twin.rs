//! A log in a real Redis and its oracle, side by side: every call and every fault goes to both.
//!
//! What flows in: calls and faults. What flows out: the answer that both gave. It promises that each reply and each message
//! of the two channels was compared; `story` is printed when they differ.

use reprise::coherence::log::{Appended, Call, Member, Paged, Rung, Synced};
use reprise::coherence::record::Token;
use reprise::coherence::script;

use super::oracle::{Answer, Field, Key, Oracle, Snapshot};
use super::resp::{Redis, Resp, Value};

/// The log's name.
pub const NAME: &str = "{reprise:log}";

const FIELDS: [&str; 12] = [
    "id", "epoch", "seq", "acked", "nm", "no", "lf", "w", "cw", "q", "n", "fp",
];

/// See the module.
pub struct Twin {
    pub story: String,
    pub redis: Redis,
    pub ask: Resp,
    pub oracle: Oracle,
    hear: Resp,
    saved: Option<Snapshot>,
    copy: Option<Copy>,
}

/// A replica of the server; with what it has, when it was cut off.
struct Copy {
    redis: Redis,
    cut: Option<Snapshot>,
}

/// Runs a call's script.
pub fn run(resp: &mut Resp, call: &Call) -> Value {
    let arguments = script::arguments(call);
    let arguments = arguments.iter().map(|word| std::str::from_utf8(word));
    let arguments: Vec<_> = arguments.map(|word| word.expect("text")).collect();
    let keys = script::keys(NAME);
    let mut words = vec!["EVAL", script::text(call), "5"];
    words.extend(keys.iter().map(String::as_str));
    words.extend(arguments);
    resp.call(&words)
}

/// Reads a reply.
pub fn read(call: &Call, text: &str) -> Option<Answer> {
    Some(match call {
        Call::Sync { .. } => {
            let mut synced = Synced::parse(text)?;
            if let Synced::Reset(reset) = &mut synced {
                // A hash has no order.
                reset.open.sort_by_key(|(token, _)| *token);
            }
            Answer::Synced(synced)
        }
        Call::Intent { .. } | Call::Close { .. } => Answer::Appended(Appended::parse(text)?),
        Call::Page { .. } => Answer::Paged(Paged::parse(text)?),
        Call::Ack { .. } => Answer::Acked(one_of(text, "O", "E")?),
        Call::Reap { .. } | Call::Leave { .. } => Answer::Removed(one_of(text, "1", "0")?),
    })
}

fn one_of(text: &str, yes: &str, no: &str) -> Option<bool> {
    (text == yes || text == no).then_some(text == yes)
}

fn listen(redis: &Redis) -> Resp {
    let mut hear = redis.connect();
    hear.send(&["SUBSCRIBE", &script::bell(NAME), &script::acks(NAME)]);
    hear.read();
    hear.read();
    hear
}

impl Twin {
    /// A server with nothing in it.
    pub fn new(options: &[&str]) -> Self {
        let redis = Redis::start(options);
        Self {
            story: String::new(),
            ask: redis.connect(),
            hear: listen(&redis),
            redis,
            oracle: Oracle::new(),
            saved: None,
            copy: None,
        }
    }

    /// The answer of both.
    pub fn call(&mut self, call: &Call) -> Answer {
        let reply = run(&mut self.ask, call);
        let Value::Text(text) = &reply else {
            panic!("{}: not one string: {reply:?} to {call:?}", self.story)
        };
        let real = read(call, text);
        let answer = self.oracle.call(call);
        let story = &self.story;
        assert_eq!(
            real.as_ref(),
            Some(&answer),
            "{story}: {text:?} to {call:?}"
        );
        let rung = self.rung();
        let told = self.oracle.drain_rings();
        assert_eq!(rung, told, "{}: told by {call:?}", self.story);
        answer
    }

    /// What the channels told since the last look. The server writes to a connection in order: what was published before
    /// is there when the ping is answered.
    pub fn rung(&mut self) -> Vec<Rung> {
        self.hear.send(&["PING"]);
        let mut rung = Vec::new();
        loop {
            let Value::List(parts) = self.hear.read() else {
                panic!("not a message")
            };
            let [kind, channel, text] = match <[Value; 3]>::try_from(parts) {
                Ok(parts) => parts.map(Value::text),
                Err(_) => return rung,
            };
            assert_eq!(kind, "message");
            let read = if channel == script::bell(NAME) {
                Rung::parse_bell(&text)
            } else {
                Rung::parse_acks(&text)
            };
            rung.push(read.unwrap_or_else(|| panic!("not a ring: {text:?}")));
        }
    }

    fn again(&mut self) {
        self.ask = self.redis.connect();
        self.hear = listen(&self.redis);
    }

    fn number(&mut self, line: &str) -> i64 {
        match self.ask.say(line) {
            Value::Number(number) => number,
            other => panic!("{line}: {other:?}"),
        }
    }
}

/// Faults.
impl Twin {
    /// SIGKILL, and a start with nothing.
    pub fn restart_empty(&mut self) {
        self.copy = None;
        self.redis.restart(false);
        self.saved = None;
        self.oracle.restart_empty();
        self.again();
    }

    /// SAVE.
    pub fn save(&mut self) {
        assert_eq!(self.ask.say("SAVE"), Value::Text("OK".into()));
        self.saved = Some(self.oracle.snapshot());
    }

    /// SIGKILL, and a start with what was saved last.
    pub fn restart_saved(&mut self) {
        let Some(saved) = self.saved.clone() else {
            return self.restart_empty();
        };
        self.copy = None;
        self.redis.restart(true);
        self.oracle.restart_from(saved);
        self.again();
    }

    /// FLUSHALL.
    pub fn flush(&mut self) {
        self.ask.say("FLUSHALL");
        self.oracle.flush();
    }

    /// DEL of one coordination key.
    pub fn lose(&mut self, key: Key) {
        self.ask
            .say(&format!("DEL {}", script::keys(NAME)[key as usize]));
        self.oracle.lose(key);
    }

    /// HDEL of one field of the state.
    pub fn lose_field(&mut self, field: Field) {
        let (key, field_name) = (&script::keys(NAME)[0], FIELDS[field as usize]);
        self.ask.say(&format!("HDEL {key} {field_name}"));
        self.oracle.lose_field(field);
    }

    /// HDEL of one announced write.
    pub fn lose_open(&mut self, token: Token) {
        let key = &script::keys(NAME)[Key::Open as usize];
        self.ask.say(&format!("HDEL {key} {:016x}", token.0));
        self.oracle.lose_open(token);
    }

    /// ZREM of one member, from one of the two sets.
    pub fn lose_member(&mut self, member: Member, of: Key) {
        let key = &script::keys(NAME)[of as usize];
        self.ask.say(&format!("ZREM {key} {:016x}", member.0));
        self.oracle.lose_member(member, of);
    }

    /// XTRIM.
    pub fn trim(&mut self, n: usize) {
        let key = &script::keys(NAME)[Key::Log as usize];
        self.ask.say(&format!("XTRIM {key} MAXLEN = {n}"));
        self.oracle.trim(n);
    }

    /// A replica is attached, and has everything. The first one gives the server another history.
    pub fn attach(&mut self) {
        if self.copy.is_some() {
            return;
        }
        let before = self.history();
        let copy = Redis::start(&[]);
        let primary = format!("REPLICAOF 127.0.0.1 {}", self.redis.port);
        copy.connect().say(&primary);
        self.ask.say("SET written-to-be-waited-for 1");
        assert_eq!(self.number("WAIT 1 20000"), 1, "a replica");
        if self.history() != before {
            self.oracle.rename();
        }
        self.oracle.attach(1);
        self.copy = Some(Copy {
            redis: copy,
            cut: None,
        });
    }

    fn history(&mut self) -> Option<String> {
        let info = self.ask.say("INFO replication").text();
        let line = info.lines().find(|line| line.starts_with("master_replid:"));
        line.map(str::to_owned)
    }

    /// A connection to the attached replica, which has everything.
    pub fn copied(&mut self) -> Resp {
        assert_eq!(self.number("WAIT 1 20000"), 1, "a replica");
        let copy = self.copy.as_ref().expect("a replica");
        copy.redis.connect()
    }

    /// The replica gets no more.
    pub fn cut(&mut self) {
        if self.copy.as_ref().is_none_or(|copy| copy.cut.is_some()) {
            return;
        }
        self.copied().say("REPLICAOF NO ONE");
        self.ask.until("INFO replication", "connected_slaves:0");
        self.oracle.attach(0);
        if let Some(copy) = &mut self.copy {
            copy.cut = Some(self.oracle.snapshot());
        }
    }

    /// The server dies, and the replica takes over with what it has.
    pub fn promote(&mut self) {
        self.cut();
        let Some(Copy { redis, cut }) = self.copy.take() else {
            return;
        };
        self.redis = redis;
        self.saved = None;
        self.oracle.promote(cut.unwrap_or_default());
        self.again();
    }
}
