//! Codings: which one is chosen, and that each is undone. Input: lines of Accept-Encoding; after an empty line a body.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HeaderMap;
use http_body::Frame;
use reprise::body::Body;
use reprise::headers::coding::{self, AcceptEncoding, Coding};
use reprise::respond::encode::{self, Encoded};

use crate::heap::within;
use crate::input::{field, parts, texts};
use crate::ranges::bytes_of;

/// The largest body that is decoded here.
const LIMIT: usize = 1 << 16;

/// What decoders take for themselves: brotli's window is the largest.
const WINDOW: usize = 1 << 25;

/// What holds for any field and any body.
pub fn check(data: &[u8]) {
    let [field_lines, body] = parts(data);
    let headers = field("accept-encoding", field_lines);
    the_best_that_is_accepted_is_chosen(&headers);
    let _ = coding::content_codings(&field("content-encoding", field_lines));
    for coding in Coding::ALL {
        let decoded = within(WINDOW, || encode::decode(coding, body, LIMIT));
        assert!(decoded.is_ok_and(|body| body.len() <= LIMIT) || coding != Coding::Identity);
        it_is_undone(coding, body);
    }
}

/// The weight of a coding by RFC 9110 §12.5.3, in thousandths; `None` when it is not acceptable.
fn weight(elements: &[(String, u16)], coding: Coding) -> Option<u16> {
    let named = |wanted: &str| elements.iter().find(|(name, _)| name == wanted);
    let aliases = match coding {
        Coding::Gzip => vec!["gzip", "x-gzip"],
        other => vec![other.as_str()],
    };
    let own = elements
        .iter()
        .find(|(name, _)| aliases.contains(&name.as_str()));
    match (own.or_else(|| named("*")), coding) {
        (Some((_, 0)), _) => None,
        (Some((_, weight)), _) => Some(*weight),
        // Not mentioned: acceptable, and less than what was asked for.
        (None, Coding::Identity) => Some(0),
        (None, _) => None,
    }
}

fn the_best_that_is_accepted_is_chosen(headers: &HeaderMap) {
    let Some(lines) = texts(headers, "accept-encoding") else {
        return;
    };
    let read = AcceptEncoding::parse(headers);
    let offers: [&[Coding]; 4] = [
        &[Coding::Zstd, Coding::Br, Coding::Gzip],
        &[Coding::Gzip],
        &[Coding::Br, Coding::Identity],
        &[],
    ];
    if lines.is_empty() {
        assert!(
            offers
                .iter()
                .all(|offer| read.choose(offer) == Some(Coding::Identity))
        );
        return;
    }
    // A quoted string has no place in this field: what it hides is anybody's guess.
    if lines.iter().any(|line| line.contains('"')) {
        return;
    }
    let elements: Vec<_> = lines
        .iter()
        .flat_map(|line| line.split(','))
        .filter_map(weighted)
        .collect();
    for coding in Coding::ALL {
        assert_eq!(
            read.accepts(coding),
            weight(&elements, coding).is_some(),
            "{coding:?} {lines:?}"
        );
    }
    for offer in offers {
        let all = offer.iter().chain([&Coding::Identity]);
        let best = all
            .clone()
            .filter_map(|coding| weight(&elements, *coding))
            .max();
        let chosen = read.choose(offer);
        assert_eq!(
            chosen.and_then(|coding| weight(&elements, coding)),
            best,
            "{lines:?}"
        );
        assert_eq!(chosen.is_some(), best.is_some());
        assert!(chosen.is_none_or(|coding| all.clone().any(|offered| *offered == coding)));
    }
}

/// `gzip;q=0.5`; `None` for what has no weight that is one.
fn weighted(element: &str) -> Option<(String, u16)> {
    let blank = [' ', '\t'];
    let element = element.trim_matches(blank);
    let mut pieces = element.split(';').map(|piece| piece.trim_matches(blank));
    let name = pieces
        .next()
        .filter(|_| !element.is_empty())?
        .to_ascii_lowercase();
    let weight = pieces.find_map(|piece| {
        let name = piece
            .split('=')
            .next()
            .unwrap_or_default()
            .trim_matches(blank);
        name.eq_ignore_ascii_case("q").then(|| {
            piece
                .split_once('=')
                .map(|(_, value)| value.trim_matches(blank))
        })
    });
    let thousandths = match weight {
        None => 1000,
        Some(value) => {
            let value = value?;
            let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
            let digits = decimals.bytes().all(|byte| byte.is_ascii_digit());
            match (whole, decimals.len(), digits) {
                ("0", 0..=3, true) => format!("{decimals:0<3}").parse().expect("three digits"),
                ("1", 0..=3, true) if decimals.bytes().all(|byte| byte == b'0') => 1000,
                _ => return None,
            }
        }
    };
    Some((name, thousandths))
}

/// Encoded whole or as it passes, a body is what it was; and no part of it is taken for the whole.
fn it_is_undone(coding: Coding, body: &[u8]) {
    let encoded = encode::encode(coding, body).expect("it writes into memory");
    let undone = encode::decode(coding, &encoded, body.len()).expect("it is in that coding");
    assert_eq!(undone, body, "{coding:?}");
    if coding == Coding::Identity {
        return;
    }
    if let Some(shorter) = body.len().checked_sub(1) {
        assert!(
            encode::decode(coding, &encoded, shorter).is_err(),
            "beyond the limit"
        );
    }
    let cut = 1 + body.first().map_or(0, |byte| usize::from(*byte)) % encoded.len();
    if cut < encoded.len() {
        let part = encode::decode(coding, &encoded[..cut], LIMIT);
        assert!(
            part.is_err(),
            "{coding:?}: {cut} of {} bytes",
            encoded.len()
        );
    }

    let chunks = Chunks(
        body.chunks(1 + body.len() / 3)
            .map(Bytes::copy_from_slice)
            .collect(),
    );
    let passing = Encoded::new(Body::stream(chunks), coding).expect("an encoder");
    let passed = bytes_of(Body::stream(passing));
    let undone = encode::decode(coding, &passed, body.len()).expect("it is in that coding");
    assert_eq!(undone, body, "{coding:?} as it passes");
}

struct Chunks(VecDeque<Bytes>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }
}
