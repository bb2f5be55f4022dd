//! The other side in bytes: a client or an app that does exactly what a test writes.

#![expect(clippy::disallowed_methods, reason = "what a test begins ends with it")]

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::soon;

/// An app of which the test reads and writes every byte.
pub struct Bare(TcpListener);

impl Bare {
    pub async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a port"))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The next connection.
    pub async fn accept(&self) -> Line {
        let (stream, _) = soon("a connection", self.0.accept())
            .await
            .expect("a socket");
        Line::of(stream)
    }

    /// Whether nobody else has connected.
    pub async fn is_quiet(&self) -> bool {
        let next = std::pin::pin!(self.0.accept());
        futures_now(next).await
    }
}

/// Whether a future is not ready yet, after everything else has had its turn.
async fn futures_now<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    tokio::task::yield_now().await;
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Either end of a connection.
pub struct Line<S = TcpStream>(pub S);

impl Line {
    /// A client.
    pub async fn to(address: &str) -> Self {
        Self::of(
            TcpStream::connect(address)
                .await
                .expect("the sidecar listens"),
        )
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        Self(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("it reads");
        self.0.flush().await.expect("it reads");
    }

    /// Reads up to and with these bytes.
    pub async fn until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        soon(&format!("{end:?}"), async {
            while !text.ends_with(end.as_bytes()) {
                match self.0.read_u8().await {
                    Ok(byte) => text.push(byte),
                    Err(_) => panic!("closed after {:?}", String::from_utf8_lossy(&text)),
                }
            }
        })
        .await;
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Reads a head.
    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Reads a head, in small letters, and answers it.
    pub async fn answer(&mut self, body: &str) -> String {
        let head = self.head().await.to_ascii_lowercase();
        self.write(&format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        head
    }

    /// Reads until the other side closes, or breaks off.
    pub async fn rest(&mut self) -> String {
        let mut text = Vec::new();
        let _ = soon("the end", self.0.read_to_end(&mut text)).await;
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// A client that speaks cleartext HTTP/2 without asking.
pub async fn http2(
    address: &str,
) -> SendRequest<BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>> {
    let stream = TcpStream::connect(address)
        .await
        .expect("the sidecar listens");
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("HTTP/2");
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}
