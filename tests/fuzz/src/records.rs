//! Records of the log. Input: lines of it.

use reprise::coherence::record::{Change, Record, Token};
use reprise::tag::Tag;

use crate::input::lines;

/// What is read is written as it was read, and what nobody knows drops everything.
pub fn check(data: &[u8]) {
    for line in lines(data).filter_map(|line| str::from_utf8(line).ok()) {
        let Some(record) = Record::parse(line) else {
            continue;
        };
        let (kind, payload) = (record.change.kind().to_string(), record.change.payload());
        assert_eq!(
            Change::parse(&kind, &payload).as_ref(),
            Some(&record.change)
        );
        let Token(token) = record.token;
        let written = format!("{} {kind} {token:016x} {payload}", record.seq);
        assert_eq!(Record::parse(&written), Some(record.clone()));
        // What is not written so by anybody drops everything.
        let mut words = line.split(' ').skip(1);
        let said = words.next().zip(words.nth(1));
        let everything = Change::Point([Tag::all()].into_iter().collect());
        let is_bare = matches!(kind.as_str(), "N" | "F");
        if record.change != everything && !is_bare {
            let (letter, text) = said.expect("four words");
            assert_eq!(
                (letter, &*text.to_ascii_lowercase()),
                (&*kind, &*payload),
                "{line}"
            );
        }
    }
}
