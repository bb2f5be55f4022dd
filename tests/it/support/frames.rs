//! An HTTP/2 client in frames (RFC 9113 §4.1), for what a library would not send.

#![expect(clippy::disallowed_methods, reason = "what a test begins ends with it")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::soon;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("a code"))
    }
}

/// A connection: what is written is written at once, what comes is kept.
pub struct Frames {
    write: OwnedWriteHalf,
    seen: watch::Receiver<Seen>,
    _reading: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    frames: Vec<Frame>,
    closed: bool,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The fields of a GET, none of them indexed (RFC 7541 §6).
pub fn get(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(4, path), (1, "shop.example")] {
        block.extend([name, u8::try_from(value.len()).expect("a short value")]);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// The HEADERS of a GET.
pub fn asking(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &get(path))
}

impl Frames {
    /// Connects, and says what every client says first. `settings` are pairs of an identifier and a value.
    pub async fn to(address: &str, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let (mut read, write) = stream.into_split();
        let (sender, seen) = watch::channel(Seen::default());
        let reading = tokio::spawn(async move {
            loop {
                let mut head = [0; 9];
                if read.read_exact(&mut head).await.is_err() {
                    break sender.send_modify(|seen| seen.closed = true);
                }
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                if read.read_exact(&mut payload).await.is_err() {
                    break sender.send_modify(|seen| seen.closed = true);
                }
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                let (kind, flags) = (head[3], head[4]);
                sender.send_modify(|seen| {
                    seen.frames.push(Frame {
                        kind,
                        flags,
                        stream,
                        payload,
                    });
                });
            }
        });
        let mut frames = Self {
            write,
            seen,
            _reading: reading,
        };
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut first = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        first.extend(frame(SETTINGS, 0, 0, &payload));
        assert!(frames.write(&first).await, "it reads");
        frames
    }

    /// Writes bytes; whether the other side still takes them.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        soon("it reads, or closes", self.write.write_all(bytes))
            .await
            .is_ok()
    }

    /// Waits for a frame.
    pub async fn wait(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let found = |seen: &Seen| seen.frames.iter().find(|frame| wanted(frame)).cloned();
        let waiting = self
            .seen
            .wait_for(|seen| found(seen).is_some() || seen.closed);
        let seen = soon(what, waiting).await.expect("a reader");
        found(&seen).unwrap_or_else(|| panic!("{what}: closed after {:?}", seen.frames))
    }

    /// Waits for the whole answer on a stream, and gives its body.
    pub async fn answer(&mut self, stream: u32) -> Vec<u8> {
        let ended = |frame: &Frame| {
            frame.stream == stream
                && (frame.kind == RST_STREAM
                    || (matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0))
        };
        let last = self.wait("the end of an answer", ended).await;
        assert_ne!(last.kind, RST_STREAM, "{last:?}");
        self.body(stream)
    }

    /// The body on a stream so far.
    pub fn body(&self, stream: u32) -> Vec<u8> {
        let seen = self.seen.borrow();
        let data = seen.frames.iter();
        data.filter(|frame| frame.kind == DATA && frame.stream == stream)
            .flat_map(|frame| frame.payload.iter().copied())
            .collect()
    }

    /// Waits until the other side has closed, and gives the code of its GOAWAY, if it sent one.
    pub async fn closed(&mut self) -> Option<u32> {
        let closed = self.seen.wait_for(|seen| seen.closed);
        let seen = soon("the connection ends", closed).await.expect("a reader");
        let mut frames = seen.frames.iter().rev();
        frames.find(|frame| frame.kind == GOAWAY).map(Frame::code)
    }

    /// Whether the connection is still open.
    pub fn is_open(&self) -> bool {
        !self.seen.borrow().closed
    }
}
