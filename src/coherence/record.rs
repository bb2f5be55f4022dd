//! Records: what the log consists of.
//!
//! The log is one ordered sequence of changes with contiguous numbers. A record is written as a line of text,
//! `SEQ KIND TOKEN PAYLOAD`, so that an operator can read the log with `redis-cli`: numbers are decimal, a token and
//! each tag are sixteen hex digits, a pattern is its bytes in hex, and `-` stands for nothing.

use std::fmt::Write;

use crate::tag::{Tag, Tags};

/// Names one announced write.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Token(pub u64);

/// One record of the log.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Record {
    /// Its number; the next record has the next one.
    pub seq: u64,
    /// The write it belongs to.
    pub token: Token,
    /// What it says.
    pub change: Change,
}

/// What a record says.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Change {
    /// `I`: a write to these tags is about to be forwarded.
    Intent(Tags),
    /// `C`: an announced write took place; these are dropped.
    Commit(Tags),
    /// `N`: an announced write did not take place.
    Close,
    /// `X`: an announced write has no known end and can no longer take place; its tags are dropped.
    Expire(Tags),
    /// `P`: these are dropped.
    Point(Tags),
    /// `S`: these are stale: still good for `stale-while-revalidate`, and for no fresh answer.
    Soften(Tags),
    /// `B`: everything whose path and query match this pattern is dropped.
    Ban(Box<str>),
    /// `F`: nothing happened; the number alone counts.
    Fence,
}

impl Change {
    /// The letter that stands for it.
    #[must_use]
    pub const fn kind(&self) -> char {
        match self {
            Self::Intent(_) => 'I',
            Self::Commit(_) => 'C',
            Self::Close => 'N',
            Self::Expire(_) => 'X',
            Self::Point(_) => 'P',
            Self::Soften(_) => 'S',
            Self::Ban(_) => 'B',
            Self::Fence => 'F',
        }
    }

    /// What stands behind the letter.
    #[must_use]
    pub fn payload(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Intent(tags)
            | Self::Commit(tags)
            | Self::Expire(tags)
            | Self::Point(tags)
            | Self::Soften(tags) => tags.iter().for_each(|tag| {
                let _ = write!(text, "{:016x}", tag.as_u64());
            }),
            Self::Ban(pattern) => pattern.bytes().for_each(|byte| {
                let _ = write!(text, "{byte:02x}");
            }),
            Self::Close | Self::Fence => {}
        }
        if text.is_empty() {
            text.push('-');
        }
        text
    }

    /// Reads a change; `None` when it is none that this release knows.
    #[must_use]
    pub fn parse(kind: &str, payload: &str) -> Option<Self> {
        Some(match kind {
            "I" => Self::Intent(parse_tags(payload)?),
            "C" => Self::Commit(parse_tags(payload)?),
            "N" => Self::Close,
            "X" => Self::Expire(parse_tags(payload)?),
            "P" => Self::Point(parse_tags(payload)?),
            "S" => Self::Soften(parse_tags(payload)?),
            "B" => Self::Ban(parse_text(payload)?),
            "F" => Self::Fence,
            _ => return None,
        })
    }
}

impl Record {
    /// Reads `SEQ KIND TOKEN PAYLOAD`. What a newer release writes and this one does not know drops everything: too much,
    /// never too little.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split(' ');
        let seq = parts.next()?.parse().ok()?;
        let (kind, token, payload) = (parts.next()?, parts.next()?, parts.next()?);
        let token = parse_token(token)?;
        let change = Change::parse(kind, payload)
            .unwrap_or_else(|| Change::Point(Tags::from_iter([Tag::all()])));
        Some(Self { seq, token, change })
    }
}

/// Reads a token; `-` is none.
pub(super) fn parse_token(text: &str) -> Option<Token> {
    if text == "-" {
        return Some(Token(0));
    }
    u64::from_str_radix(text, 16).ok().map(Token)
}

/// Reads tags, sixteen hex digits each.
pub(super) fn parse_tags(payload: &str) -> Option<Tags> {
    if payload == "-" {
        return Some(Tags::new());
    }
    let digits = hex_digits(payload, 16)?;
    digits
        .map(|digits| u64::from_str_radix(digits, 16).ok().map(Tag::from_u64))
        .collect()
}

fn parse_text(payload: &str) -> Option<Box<str>> {
    if payload == "-" {
        return Some("".into());
    }
    let bytes: Option<Vec<u8>> = hex_digits(payload, 2)?
        .map(|digits| u8::from_str_radix(digits, 16).ok())
        .collect();
    String::from_utf8(bytes?).ok().map(String::into_boxed_str)
}

/// So many hex digits at a time; `None` for anything else, no digits included: what is damaged is not read as less than it
/// was.
fn hex_digits(payload: &str, width: usize) -> Option<impl Iterator<Item = &str>> {
    let hex = payload.bytes().all(|byte| byte.is_ascii_hexdigit());
    let whole = !payload.is_empty() && payload.len().is_multiple_of(width);
    (hex && whole).then(|| {
        (0..payload.len())
            .step_by(width)
            .map(move |at| &payload[at..at + width])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let tags = Tags::from_iter([Tag::named("a"), Tag::all()]);
        for change in [
            Change::Intent(tags.clone()),
            Change::Commit(Tags::new()),
            Change::Close,
            Change::Expire(tags.clone()),
            Change::Point(tags.clone()),
            Change::Soften(tags),
            Change::Ban("/api/*?a=ä b".into()),
            Change::Fence,
        ] {
            let line = format!("7 {} {:016x} {}", change.kind(), 0xabc, change.payload());
            let token = Token(0xabc);
            let seq = 7;
            assert_eq!(
                Record::parse(&line),
                Some(Record { seq, token, change }),
                "{line}"
            );
        }
    }

    #[test]
    fn an_unknown_change_drops_everything() {
        for line in [
            "7 Z - zz",
            "7 C - ",
            "7 C - +000000000000001",
            "7 P - 00000000000000010",
            "7 B - 2f6",
            "7 B - +f",
        ] {
            let read = Record::parse(line).map(|record| record.change);
            let everything = Change::Point(Tags::from_iter([Tag::all()]));
            assert_eq!(read, Some(everything), "{line}");
        }
        for broken in ["", "7", "x I - -", "7 I zz -", "7 I"] {
            assert_eq!(Record::parse(broken), None, "{broken:?}");
        }
    }
}
