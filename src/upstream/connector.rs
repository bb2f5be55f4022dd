//! A new connection to the app: name lookup, socket, TLS; and the stream that comes of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::body::BoxError;

use super::target::Target;

/// Everything needed to connect.
pub(super) struct Connector {
    target: Target,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn new(target: &Target, tls: Option<Arc<ClientConfig>>) -> Result<Self, String> {
        let tls = match (target, tls) {
            (Target::Https { host, .. }, Some(config)) => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|error| format!("\"{host}\": {error}"))?;
                Some((TlsConnector::from(config), name))
            }
            _ => None,
        };
        Ok(Self {
            target: target.clone(),
            tls,
        })
    }

    /// Connects; the caller bounds the time.
    pub(super) async fn connect(&self) -> Result<(Stream, Received), BoxError> {
        let socket = match (&self.target, &self.tls) {
            (Target::Unix(path), _) => Socket::Unix(UnixStream::connect(path).await?),
            (Target::Http { host, port }, _) => Socket::Tcp(tcp(host, *port).await?),
            (Target::Https { host, port }, Some((tls, name))) => {
                let tcp = tcp(host, *port).await?;
                Socket::Tls(Box::new(tls.connect(name.clone(), tcp).await?))
            }
            (Target::Https { .. }, None) => return Err("no roots were loaded".into()),
        };
        let received = Received::default();
        Ok((
            Stream {
                socket,
                received: received.clone(),
            },
            received,
        ))
    }
}

/// Tries the addresses of a name in turn.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// How many bytes a connection has received: what tells an unanswered request from one whose answer had begun.
#[derive(Clone, Debug, Default)]
pub(super) struct Received(Arc<AtomicU64>);

impl Received {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A connected transport that counts what it receives.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    received: Received,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Calls a method of whichever transport it is.
macro_rules! delegate {
    ($stream:expr, $method:ident $(, $argument:expr)*) => {
        match &mut $stream.get_mut().socket {
            Socket::Tcp(socket) => Pin::new(socket).$method($($argument),*),
            Socket::Unix(socket) => Pin::new(socket).$method($($argument),*),
            Socket::Tls(socket) => Pin::new(socket).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(delegate!(self.as_mut(), poll_read, cx, buf))?;
        let read = (buf.filled().len() - before) as u64;
        self.received.0.fetch_add(read, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write, cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write_vectored, cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(socket) => socket.is_write_vectored(),
            Socket::Unix(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown, cx)
    }
}
