//! Content codings: which one answers a request, and making it.
//!
//! An entry has one canonical body. Each coding of it is made once, on first demand, and kept in the entry; its
//! validator is the canonical one weakened and marked with the coding, so that no two representations share a strong
//! validator (RFC 9110 §8.8.3). Bodies that are not stored are encoded as they pass by.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression as GzipLevel;
use flate2::write::GzEncoder;
use http::StatusCode;
use http::header::{self, HeaderMap};
use http_body::Frame;

use crate::body::{Body, BoxError};
use crate::entry::{Entry, Representation};
use crate::headers::cache_control::ResponseDirectives;
use crate::headers::coding::{AcceptEncoding, Coding};

/// The knobs of `[compression]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The server's order of preference.
    pub encodings: Vec<Coding>,
    /// Smaller bodies are sent as they are, in bytes.
    pub min_size: u64,
    /// The media types worth it; `text/*` stands for all of a kind.
    pub types: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let types = [
            "application/json",
            "text/*",
            "application/problem+json",
            "application/xml",
            "image/svg+xml",
        ];
        Self {
            encodings: vec![Coding::Zstd, Coding::Br, Coding::Gzip],
            min_size: 1024,
            types: types.map(str::to_owned).to_vec(),
        }
    }
}

impl Config {
    /// Whether answers with this head may be encoded at all; then `Vary: Accept-Encoding` belongs on each of them.
    #[must_use]
    pub fn applies(&self, status: StatusCode, headers: &HeaderMap, length: Option<u64>) -> bool {
        self.may_apply(status, length)
            && !headers.contains_key(header::CONTENT_ENCODING)
            && self.is_listed(headers)
            && !ResponseDirectives::parse(headers).no_transform
    }

    /// Whether an entry's answers may be encoded.
    #[must_use]
    pub fn applies_to(&self, entry: &Entry) -> bool {
        self.may_apply(entry.status, Some(entry.body.len() as u64))
            && !entry.headers.contains_key(header::CONTENT_ENCODING)
            && self.is_listed(&entry.headers)
            && !entry.facts.no_transform
    }

    fn may_apply(&self, status: StatusCode, length: Option<u64>) -> bool {
        let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        !self.encodings.is_empty()
            && !bodiless
            && status != StatusCode::PARTIAL_CONTENT
            && length.is_none_or(|length| length >= self.min_size)
    }

    fn is_listed(&self, headers: &HeaderMap) -> bool {
        let Some(kind) = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
        else {
            return false;
        };
        let kind = kind.split(';').next().unwrap_or_default().trim();
        self.types
            .iter()
            .any(|listed| match listed.strip_suffix('*') {
                Some(prefix) => kind
                    .get(..prefix.len())
                    .is_some_and(|head| head.eq_ignore_ascii_case(prefix)),
                None => kind.eq_ignore_ascii_case(listed),
            })
    }

    /// The coding for a client, or `None` when it accepts nothing that there is.
    #[must_use]
    pub fn choose(&self, request: &HeaderMap) -> Option<Coding> {
        if !request.contains_key(header::ACCEPT_ENCODING) {
            return Some(Coding::Identity);
        }
        AcceptEncoding::parse(request).choose(&self.encodings)
    }
}

/// The body of an entry in a coding, made now if it is the first demand for it; `None` when the canonical body is the
/// better answer.
pub fn representation(entry: &Entry, coding: Coding) -> Option<&Representation> {
    entry.encoded(coding, || {
        let body = encode(coding, &entry.body).ok()?;
        // Less than a tenth saved is not worth the client's time.
        (body.len() < entry.body.len() / 10 * 9).then(|| Representation {
            body: Bytes::from(body),
            etag: entry
                .etag
                .as_ref()
                .map(|etag| etag.weaken().with_suffix(suffix(coding))),
        })
    })
}

const fn suffix(coding: Coding) -> &'static str {
    match coding {
        Coding::Identity => "",
        Coding::Gzip => "-gzip",
        Coding::Br => "-br",
        Coding::Zstd => "-zstd",
    }
}

/// Encodes a body whole.
///
/// # Errors
///
/// What the encoder says; it has no reason to when it writes into memory.
pub fn encode(coding: Coding, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(coding, Quality::Stored)?;
    encoder.write(body)?;
    encoder.finish()
}

/// Decodes a body, at most `limit` bytes of the result.
///
/// # Errors
///
/// When it is not in that coding, or larger than the limit (`io::ErrorKind::FileTooLarge`): an archive bomb must not fill
/// the memory.
pub fn decode(coding: Coding, body: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    use io::Read;
    let reader: Box<dyn Read + '_> = match coding {
        Coding::Identity => Box::new(body),
        Coding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(body)),
        Coding::Br => Box::new(brotli::Decompressor::new(body, 4096)),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    let mut decoded = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut decoded)?;
    if decoded.len() > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(decoded)
}

/// RFC 9659 §3: no content of the web needs a window of more than 8 MiB, and a few bytes can ask for far more.
const ZSTD_WINDOW_LOG: u32 = 23;

#[derive(Clone, Copy)]
enum Quality {
    /// Made once and sent often.
    Stored,
    /// Made for one client.
    Passing,
}

/// An encoder that writes into memory.
enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Identity(Vec<u8>),
}

impl Encoder {
    fn new(coding: Coding, quality: Quality) -> io::Result<Self> {
        Ok(match (coding, quality) {
            (Coding::Identity, _) => Self::Identity(Vec::new()),
            (Coding::Gzip, Quality::Stored) => {
                Self::Gzip(GzEncoder::new(Vec::new(), GzipLevel::new(6)))
            }
            (Coding::Gzip, Quality::Passing) => {
                Self::Gzip(GzEncoder::new(Vec::new(), GzipLevel::new(4)))
            }
            (Coding::Br, Quality::Stored) => Self::Br(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                4096,
                5,
                20,
            ))),
            (Coding::Br, Quality::Passing) => Self::Br(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                4096,
                3,
                18,
            ))),
            (Coding::Zstd, Quality::Stored) => {
                Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 9)?)
            }
            (Coding::Zstd, Quality::Passing) => {
                Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 3)?)
            }
        })
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(data),
            Self::Br(encoder) => encoder.write_all(data),
            Self::Zstd(encoder) => encoder.write_all(data),
            Self::Identity(buffer) => buffer.write_all(data),
        }
    }

    /// What there is so far, so that a reader of a slow stream sees what the app has sent.
    fn flush(&mut self) -> io::Result<Vec<u8>> {
        Ok(match self {
            Self::Gzip(encoder) => {
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            Self::Br(encoder) => {
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            Self::Zstd(encoder) => {
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            Self::Identity(buffer) => std::mem::take(buffer),
        })
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Br(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Identity(buffer) => Ok(buffer),
        }
    }
}

/// A body encoded as it passes by. Trailers pass after the last chunk.
pub struct Encoded {
    inner: Body,
    encoder: Option<Encoder>,
    held: Option<Frame<Bytes>>,
}

impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoded").finish_non_exhaustive()
    }
}

impl Encoded {
    /// Encodes what `inner` yields.
    ///
    /// # Errors
    ///
    /// When the encoder cannot be made.
    pub fn new(inner: Body, coding: Coding) -> io::Result<Self> {
        Ok(Self {
            inner,
            encoder: Some(Encoder::new(coding, Quality::Passing)?),
            held: None,
        })
    }

    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.encoder.take().map(Encoder::finish) {
            None => Poll::Ready(self.held.take().map(Ok)),
            Some(Ok(last)) if last.is_empty() => Poll::Ready(self.held.take().map(Ok)),
            Some(last) => Poll::Ready(Some(
                last.map(|last| Frame::data(last.into()))
                    .map_err(Into::into),
            )),
        }
    }
}

impl http_body::Body for Encoded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(this.held.take().map(Ok));
            };
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => return this.end(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    let written = encoder.write(&data).and_then(|()| encoder.flush());
                    match written {
                        Ok(bytes) if bytes.is_empty() => {}
                        other => {
                            return Poll::Ready(Some(
                                other
                                    .map(|bytes| Frame::data(bytes.into()))
                                    .map_err(Into::into),
                            ));
                        }
                    }
                }
                Err(trailers) => {
                    this.held = Some(trailers);
                    return this.end();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    use crate::body::read_limited;
    use crate::entry::{Certificate, Material, Stamp, Times};
    use crate::key::Variant;
    use crate::tag::Tags;

    const ALL: [Coding; 4] = [Coding::Identity, Coding::Gzip, Coding::Br, Coding::Zstd];

    #[test]
    fn every_coding_gives_back_what_it_got() {
        let body: Vec<u8> = (0..20_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        for coding in ALL {
            let encoded = encode(coding, &body).expect("encodes");
            assert_eq!(
                decode(coding, &encoded, body.len()).expect("decodes"),
                body,
                "{coding:?}"
            );
        }
    }

    #[test]
    fn a_coding_is_made_once_and_survives_a_304() {
        let body = "the same again ".repeat(100);
        let times = Times {
            requested: SystemTime::UNIX_EPOCH,
            received: SystemTime::UNIX_EPOCH,
        };
        let certificate = || Certificate::new(Stamp { epoch: 0, seq: 0 }, Tags::new());
        let entry = Entry::new(Material {
            key: Box::default(),
            variant: Variant::default(),
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body.into(),
            times,
            certificate: certificate(),
            jitter: 0.0,
            digest: 0,
        });
        let once = representation(&entry, Coding::Gzip).expect("it is worth it");
        let again = representation(&entry, Coding::Gzip).expect("it is worth it");
        assert!(std::ptr::eq(once, again));
        let confirmed = entry.refreshed(entry.headers.clone(), times, certificate());
        let kept = confirmed.known_encoding(Coding::Gzip).flatten();
        let kept = kept.expect("it was made before the 304");
        assert_eq!(kept.body.as_ptr(), once.body.as_ptr());
    }

    #[test]
    fn a_bomb_is_refused_before_it_fills_the_memory() {
        for coding in [Coding::Gzip, Coding::Br, Coding::Zstd] {
            let bomb = encode(coding, &vec![0; 10 << 20]).expect("encodes");
            let refused = decode(coding, &bomb, 1 << 20).expect_err("too large");
            assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge, "{coding:?}");
        }
    }

    #[test]
    fn a_window_beyond_what_content_may_ask_for_is_refused() {
        // A frame of one raw block, `hello`; the byte before the block says how large the window is.
        let frame = |window| {
            [
                b"\x28\xb5\x2f\xfd\0".as_slice(),
                &[window],
                b"\x29\0\0hello",
            ]
            .concat()
        };
        for (name, window, allowed) in [("8 MiB", 0x68, true), ("16 MiB", 0x70, false)] {
            let read = decode(Coding::Zstd, &frame(window), 100);
            assert_eq!(read.ok(), allowed.then(|| b"hello".to_vec()), "{name}");
        }
    }

    #[tokio::test]
    async fn streams_are_encoded_chunk_by_chunk() {
        for coding in ALL {
            let chunks = ["one ", "two ", "three"]
                .map(|chunk| Ok::<_, io::Error>(Frame::data(Bytes::from(chunk))));
            let stream = Chunks(chunks.into_iter().collect());
            let encoded = Encoded::new(Body::stream(stream), coding).expect("an encoder");
            let bytes = read_limited(Body::stream(encoded), 1 << 20)
                .await
                .expect("a body");
            assert_eq!(
                decode(coding, &bytes, 100).expect("decodes"),
                b"one two three",
                "{coding:?}"
            );
        }
    }

    struct Chunks(std::collections::VecDeque<Result<Frame<Bytes>, io::Error>>);

    impl http_body::Body for Chunks {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    #[test]
    fn only_what_is_worth_it_is_encoded() {
        let config = Config::default();
        for (kind, control, coding, length, expected) in [
            ("application/json", "", "", Some(5000), true),
            ("application/json; charset=utf-8", "", "", None, true),
            ("TEXT/html", "", "", Some(5000), true),
            ("image/png", "", "", Some(5000), false),
            ("application/json", "", "", Some(100), false),
            ("application/json", "no-transform", "", Some(5000), false),
            ("application/json", "", "gzip", Some(5000), false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                (header::CONTENT_TYPE, kind),
                (header::CACHE_CONTROL, control),
                (header::CONTENT_ENCODING, coding),
            ] {
                if !value.is_empty() {
                    headers.insert(name, value.parse().expect("a value"));
                }
            }
            assert_eq!(
                config.applies(StatusCode::OK, &headers, length),
                expected,
                "{kind} {control} {coding}"
            );
        }
    }
}
