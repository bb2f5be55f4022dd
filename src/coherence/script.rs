//! The log's scripts: what each [`Call`] runs in Redis, on which keys, with which arguments.
//!
//! Pure: it knows no connection. In goes a call and the log's name; out come texts for `EVAL` or `EVALSHA`. Promise: all
//! keys of one log are in one slot when its name has a hash tag, every script declares all of them, and every reply is one
//! bulk string that [`super::log`] reads, never an array.

use bytes::Bytes;

use super::log::{Call, Mode};
use super::record::Change;

/// The scripts' common part and one script, in one text.
macro_rules! script {
    ($file:literal) => {
        concat!(include_str!("prologue.lua"), include_str!($file))
    };
}

/// The keys of the log with this name, in the order in which the scripts expect them.
#[must_use]
pub fn keys(name: &str) -> [String; 5] {
    ["state", "log", "open", "members", "beats"].map(|part| format!("{name}:{part}"))
}

/// The channel that tells each record as it is appended.
#[must_use]
pub fn bell(name: &str) -> String {
    format!("{name}:bell")
}

/// The channel that tells how far all members have applied.
#[must_use]
pub fn acks(name: &str) -> String {
    format!("{name}:acks")
}

/// What a call is called in logs and metrics.
#[must_use]
pub const fn name(call: &Call) -> &'static str {
    match call {
        Call::Sync { .. } => "sync",
        Call::Ack { .. } => "ack",
        Call::Intent { .. } => "intent",
        Call::Close { .. } => "close",
        Call::Page { .. } => "page",
        Call::Reap { .. } => "reap",
        Call::Leave { .. } => "leave",
    }
}

/// The script of a call.
#[must_use]
pub const fn text(call: &Call) -> &'static str {
    match call {
        Call::Sync { .. } => script!("sync.lua"),
        Call::Ack { .. } => script!("ack.lua"),
        Call::Intent { .. } => script!("intent.lua"),
        Call::Close { .. } => script!("close.lua"),
        Call::Page { .. } => script!("page.lua"),
        Call::Reap { .. } => script!("reap.lua"),
        Call::Leave { .. } => script!("leave.lua"),
    }
}

/// The arguments of a call's script, in its order.
#[must_use]
pub fn arguments(call: &Call) -> Vec<Bytes> {
    let texts = match call {
        Call::Sync { .. } => of_sync(call),
        Call::Ack {
            member,
            epoch,
            applied,
            nonce,
        } => vec![hex(member.0), hex(*epoch), applied.to_string(), hex(*nonce)],
        Call::Intent {
            token,
            epoch,
            tags,
            nonce,
        } => {
            let payload = Change::Intent(tags.clone()).payload();
            vec![hex(token.0), hex(*epoch), payload, hex(*nonce)]
        }
        Call::Close {
            token,
            epoch,
            kind,
            payload,
            nonce,
        } => vec![
            hex(token.0),
            hex(*epoch),
            kind.to_string(),
            payload.clone(),
            hex(*nonce),
        ],
        Call::Page { epoch, from } => vec![hex(*epoch), from.to_string()],
        Call::Reap {
            member,
            beat,
            epoch,
            nonce,
        } => vec![hex(member.0), beat.to_string(), hex(*epoch), hex(*nonce)],
        Call::Leave { member, nonce } => vec![hex(member.0), hex(*nonce)],
    };
    texts.into_iter().map(Bytes::from).collect()
}

fn of_sync(call: &Call) -> Vec<String> {
    let Call::Sync {
        member,
        known,
        mode,
        quarantined,
        fingerprint,
        confirms,
        nonce,
    } = call
    else {
        return Vec::new();
    };
    let mode = match mode {
        Mode::Settled => "S",
        Mode::Probation => "U",
        Mode::Lapsed => "L",
        Mode::Alone => "G",
    };
    vec![
        hex(member.0),
        known.map_or_else(|| "-".to_owned(), |(epoch, _)| hex(epoch)),
        known.map_or(0, |(_, applied)| applied).to_string(),
        mode.to_owned(),
        u8::from(*quarantined).to_string(),
        hex(*fingerprint),
        confirms.to_string(),
        hex(*nonce),
    ]
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coherence::log::Member;
    use crate::coherence::record::Token;
    use crate::tag::{Tag, Tags};

    fn spoken(call: &Call) -> String {
        let words = arguments(call);
        let words: Vec<_> = words
            .iter()
            .map(|word| String::from_utf8_lossy(word))
            .collect();
        format!("{} {}", name(call), words.join(" "))
    }

    #[test]
    fn arguments_stand_in_the_order_of_the_scripts() {
        let (member, token, epoch, nonce) = (Member(1), Token(2), 3, 0xab);
        let tags = Tags::from_iter([Tag::from_u64(7), Tag::from_u64(8)]);
        let join = Call::Sync {
            member,
            known: None,
            mode: Mode::Settled,
            quarantined: false,
            fingerprint: 6,
            confirms: 0,
            nonce,
        };
        assert_eq!(
            spoken(&join),
            "sync 0000000000000001 - 0 S 0 0000000000000006 0 00000000000000ab"
        );
        let later = Call::Sync {
            member,
            known: Some((epoch, 9)),
            mode: Mode::Alone,
            quarantined: true,
            fingerprint: 6,
            confirms: 5,
            nonce,
        };
        assert_eq!(
            spoken(&later),
            "sync 0000000000000001 0000000000000003 9 G 1 0000000000000006 5 00000000000000ab"
        );
        let intent = Call::Intent {
            token,
            epoch,
            tags,
            nonce,
        };
        assert_eq!(
            spoken(&intent),
            "intent 0000000000000002 0000000000000003 00000000000000070000000000000008 00000000000000ab"
        );
        let reap = Call::Reap {
            member,
            beat: 4,
            epoch,
            nonce,
        };
        assert_eq!(
            spoken(&reap),
            "reap 0000000000000001 4 0000000000000003 00000000000000ab"
        );
    }

    #[test]
    fn the_keys_and_channels_of_a_log_share_its_hash_tag() {
        let name = "{reprise:log}";
        let channels = [bell(name), acks(name)];
        for key in keys(name).iter().chain(&channels) {
            assert!(key.starts_with("{reprise:log}:"), "{key}");
        }
        assert_eq!(keys(name)[0], "{reprise:log}:state");
    }
}
