//! A client: whole requests as values, or bytes as they are.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

/// A request to be sent.
pub struct Call {
    address: String,
    request: http::request::Builder,
    body: Bytes,
    chunked: bool,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
    /// The body as text; lossy.
    pub body: String,
    /// Whether the body broke off before its end.
    pub broken: bool,
}

impl Call {
    pub fn new(address: &str, method: &str, path: &str) -> Self {
        let request = Request::builder().method(method).uri(path);
        Self {
            address: address.to_owned(),
            request,
            body: Bytes::new(),
            chunked: false,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// `Authorization: Token ...`.
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Token {token}"))
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn json(self, json: &str) -> Self {
        self.header("content-type", "application/json")
            .body(json.to_owned())
    }

    /// Sends the body in chunks, without its length.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Sends it on a connection of its own and reads the whole answer.
    pub async fn send(self) -> Reply {
        let open = self.open().await;
        open.read().await
    }

    /// Sends it while the test goes on, to a sidecar that may end meanwhile: `None` when no answer comes. Aborting it
    /// hangs up.
    pub fn in_background(self) -> tokio::task::JoinHandle<Option<Reply>> {
        tokio::spawn(async { Some(self.try_open().await.ok()?.read().await) })
    }

    /// Sends it and reads the whole answer; `None` if the connection ends before there is all of one.
    pub async fn attempt(self) -> Option<Reply> {
        let reply = self.try_open().await.ok()?.read().await;
        (!reply.broken).then_some(reply)
    }

    /// Sends it without waiting for anything.
    pub fn begin(self) -> Running {
        Running(tokio::spawn(self.send()))
    }

    /// Sends it and waits for the answer's head only. Dropping what comes back hangs up.
    pub async fn open(self) -> Open {
        self.try_open().await.expect("an answer")
    }

    async fn try_open(self) -> hyper::Result<Open> {
        let stream = TcpStream::connect(&self.address)
            .await
            .expect("the sidecar listens");
        stream.set_nodelay(true).expect("a socket");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("a handshake");
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let has_host = self
            .request
            .headers_ref()
            .is_some_and(|headers| headers.contains_key("host"));
        let request = if has_host {
            self.request
        } else {
            self.request.header("host", "shop.example")
        };
        let size = if self.chunked { 1000 } else { usize::MAX };
        let body = Pieces {
            rest: self.body,
            size,
        };
        let request = request.body(body).expect("a request");
        let response = soon("an answer", sender.send_request(request)).await?;
        let (head, body) = response.into_parts();
        Ok(Open {
            status: head.status,
            headers: head.headers,
            body: Some(body),
            connection,
        })
    }
}

/// A body that is sent in pieces; in one, its length is told.
struct Pieces {
    rest: Bytes,
    size: usize,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let length = self.rest.len().min(self.size);
        let piece = self.rest.split_to(length);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.size == usize::MAX {
            SizeHint::with_exact(self.rest.len() as u64)
        } else {
            SizeHint::default()
        }
    }
}

/// A request that was sent, and whose answer is being read.
pub struct Running(tokio::task::JoinHandle<Reply>);

impl Running {
    /// Its answer.
    pub async fn reply(self) -> Reply {
        self.0.await.expect("the client does not fail")
    }

    /// Closes its connection.
    pub fn hang_up(self) {
        self.0.abort();
    }
}

/// An answer of which the head has come.
pub struct Open {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Option<Incoming>,
    connection: tokio::task::JoinHandle<()>,
}

impl Open {
    /// The next chunk of the body; `None` at its end, an error when it breaks off.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let body = self.body.as_mut().expect("a body");
        let frame = soon("a chunk", body.frame()).await?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// The next chunk of the body, which must come whole, as text.
    pub async fn text(&mut self) -> String {
        let chunk = self.chunk().await.expect("a chunk").expect("a whole one");
        String::from_utf8_lossy(&chunk).into_owned()
    }

    /// Reads the rest.
    pub async fn read(mut self) -> Reply {
        let body = self.body.take().expect("a body");
        let (mut bytes, mut broken) = (Vec::new(), false);
        let mut body = body;
        while let Some(frame) = soon("the body", body.frame()).await {
            match frame {
                Ok(frame) if frame.is_data() => {
                    bytes.extend_from_slice(&frame.into_data().unwrap_or_default())
                }
                Ok(_) => {}
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Reply {
            status: self.status,
            headers: self.headers.clone(),
            bytes: bytes.into(),
            body: text,
            broken,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Reply {
    /// The value of a field; empty when absent. Several lines are joined.
    pub fn field(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter();
        values
            .map(|value| value.to_str().unwrap_or("<binary>"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// `X-Cache`.
    pub fn cache(&self) -> String {
        self.field("x-cache")
    }

    /// `Cache-Status`, without the name of the cache.
    pub fn cache_status(&self) -> String {
        self.field("cache-status")
            .trim_start_matches("reprise")
            .trim_start_matches("; ")
            .to_owned()
    }

    /// Asserts status, body and `X-Cache` at once, and gives the reply on.
    #[track_caller]
    pub fn is(&self, status: u16, body: &str, cache: &str) -> &Self {
        let got = (self.status.as_u16(), self.body.as_str(), self.cache());
        assert_eq!(
            (got.0, got.1, got.2.as_str()),
            (status, body, cache),
            "{}",
            self.cache_status()
        );
        self
    }

    /// Asserts the JSON of the body.
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends bytes and reads until the other side closes.
pub async fn raw(address: &str, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address)
        .await
        .expect("the sidecar listens");
    stream.write_all(bytes.as_ref()).await.expect("it reads");
    let mut answer = Vec::new();
    let _ = soon("the answer's end", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
