//! The bytes of one connection: a socket that tells its [`Activity`] what moves.
//!
//! It is also where a 408 is written. hyper has no word for "answer a request that has not come", but while it
//! waits for a head it reads, and a read under [`Order::Late`] writes the answer and then fails: hyper drops the
//! connection without adding anything.
//!
//! And it is where interim answers are written, when hyper flushes an empty buffer: see [`interim`](super::interim).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, Order};

/// What a client gets whose request does not come to the end of its head in time.
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
    content-type: application/problem+json\r\n\
    content-length: 118\r\n\
    cache-control: no-store\r\n\
    connection: close\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Request Timeout\",\"status\":408,\
    \"detail\":\"The head of the request did not come in time.\"}";

/// Any transport a listener can end up with.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Calls a method of whichever transport it is.
macro_rules! delegate {
    ($socket:expr, $method:ident $(, $argument:expr)*) => {
        match $socket {
            Socket::Tcp(socket) => Pin::new(socket).$method($($argument),*),
            Socket::Unix(socket) => Pin::new(socket).$method($($argument),*),
            Socket::Tls(socket) => Pin::new(socket).$method($($argument),*),
        }
    };
}

/// A socket as hyper sees it.
#[derive(Debug)]
pub(super) struct Io {
    socket: Socket,
    activity: Arc<Activity>,
    /// Something has been read.
    begun: bool,
    /// Bytes of [`REQUEST_TIMEOUT`] written.
    late: usize,
    /// Interim heads being written, and how far they are. Once begun they are finished before anything of hyper's.
    hints: Vec<u8>,
    hinted: usize,
    /// Counts the connection, after an upgrade too: it goes where the socket goes.
    _slot: OwnedSemaphorePermit,
}

impl Io {
    pub(super) fn new(socket: Socket, activity: Arc<Activity>, slot: OwnedSemaphorePermit) -> Self {
        Self {
            socket,
            activity,
            begun: false,
            late: 0,
            hints: Vec::new(),
            hinted: 0,
            _slot: slot,
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.late < REQUEST_TIMEOUT.len() {
            let rest = &REQUEST_TIMEOUT[self.late..];
            match ready!(delegate!(&mut self.socket, poll_write, cx, rest))? {
                0 => break,
                written => self.late += written,
            }
        }
        ready!(delegate!(&mut self.socket, poll_shutdown, cx))?;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Writes the interim heads at hand. A client that takes none of them now goes without: they are only advice.
    fn poll_hints(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.hinted < self.hints.len() {
            let rest = &self.hints[self.hinted..];
            let written = delegate!(&mut self.socket, poll_write, cx, rest);
            if written.is_pending() && self.hinted == 0 {
                break;
            }
            match ready!(self.note_write(written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.hinted += written,
            }
        }
        (self.hints, self.hinted) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn note_read(&mut self, bytes: &[u8]) {
        self.activity.heard();
        if !self.begun {
            self.begun = true;
            // The preface of HTTP/2 by prior knowledge begins with a method no HTTP/1 request has.
            if bytes.starts_with(b"PRI ") {
                self.activity.is_http2();
            }
        }
    }

    fn note_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(_) => self.activity.wrote(),
            Poll::Pending => self.activity.blocked(),
        }
        written
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.activity.ordered() == Order::Late {
            return this.poll_late(cx);
        }
        let before = buf.filled().len();
        ready!(delegate!(&mut this.socket, poll_read, cx, buf))?;
        if buf.filled().len() > before {
            this.note_read(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_hints(cx))?;
        let written = delegate!(&mut this.socket, poll_write, cx, bytes);
        this.note_write(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_hints(cx))?;
        let written = delegate!(&mut this.socket, poll_write_vectored, cx, slices);
        this.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(socket) => socket.is_write_vectored(),
            Socket::Unix(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.hints.is_empty()
            && let Some(hints) = this.activity.interim.take()
        {
            this.hints = hints;
        }
        ready!(this.poll_hints(cx))?;
        delegate!(&mut this.socket, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(&mut self.get_mut().socket, poll_shutdown, cx)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, StatusCode};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::metrics::ServerMetrics;
    use crate::server::Hints;

    /// One end of a connection whose kernel takes little at a time, and the other end.
    fn narrow() -> (Io, Arc<Activity>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        socket2::SockRef::from(&ours)
            .set_send_buffer_size(1)
            .unwrap();
        let metrics = Arc::new(ServerMetrics::unexported().unwrap());
        let activity = Activity::new(metrics, std::task::Waker::noop().clone());
        let activity = Arc::new(activity);
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let io = Io::new(Socket::Unix(ours), Arc::clone(&activity), slot);
        (io, activity, theirs)
    }

    fn offer(activity: &Arc<Activity>) -> Hints {
        let hints = Hints::open(activity);
        let mut headers = HeaderMap::new();
        headers.insert("link", HeaderValue::try_from("x".repeat(12_000)).unwrap());
        assert!(hints.offer(StatusCode::EARLY_HINTS, &headers));
        hints
    }

    #[tokio::test]
    async fn a_hint_that_is_half_written_is_finished_before_anything_else() {
        let (mut io, activity, mut client) = narrow();
        offer(&activity);
        let flush = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_flush(cx)));
        assert!(flush.await.is_pending(), "half of it is written");
        activity.interim.end();
        let reading = async {
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            text
        };
        let writing = async {
            io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            io.shutdown().await.unwrap();
        };
        let (text, ()) = tokio::join!(reading, writing);
        let hint = format!(
            "HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n",
            "x".repeat(12_000)
        );
        assert_eq!(text, format!("{hint}HTTP/1.1 200 OK\r\n\r\n"));
    }

    #[tokio::test]
    async fn a_hint_that_cannot_be_begun_is_dropped() {
        let (mut io, activity, mut client) = narrow();
        let Socket::Unix(socket) = &io.socket else {
            panic!("a Unix socket")
        };
        let mut before = 0;
        while let Ok(written) = socket.try_write(&[b'y'; 4096]) {
            before += written;
        }
        offer(&activity);
        // Not even an answer could be sent: the flush does not wait for the hint.
        io.flush().await.unwrap();
        assert!(io.hints.is_empty());
        let mut bytes = vec![0; before];
        client.read_exact(&mut bytes).await.unwrap();
        io.write_all(b"z").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'z');
    }

    #[test]
    fn the_408_is_well_formed() {
        let text = std::str::from_utf8(REQUEST_TIMEOUT).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len())),
            "{} bytes",
            body.len()
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(body).unwrap()["status"],
            408
        );
    }
}
