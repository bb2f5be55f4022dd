//! A new connection to the app: name lookup, socket, TLS; and the stream that comes of it, which lets nothing pass that
//! the [`Watch`] over the answer's head stops.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::task::{Context, Poll, ready};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::body::BoxError;

use super::target::Target;
use super::watch::Watch;
use super::wire::{Glance, Wire};

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
    pub(super) async fn connect(&self) -> Result<(Stream, Progress, Glance), BoxError> {
        let wire = match &self.target {
            Target::Unix(path) => Wire::unix(UnixStream::connect(path).await?),
            Target::Http { host, port } | Target::Https { host, port } => {
                Wire::tcp(tcp(host, *port).await?)
            }
        };
        let glance = wire.glance();
        let socket = match (&self.target, &self.tls) {
            (Target::Http { .. } | Target::Unix(_), _) => Socket::Plain(wire),
            (Target::Https { .. }, Some((tls, name))) => {
                Socket::Tls(Box::new(tls.connect(name.clone(), wire).await?))
            }
            (Target::Https { .. }, None) => return Err("no roots were loaded".into()),
        };
        let progress = Progress::default();
        let stream = Stream {
            socket,
            progress: progress.clone(),
            watch: Watch::idle(),
            watched: 0,
        };
        Ok((stream, progress, glance))
    }
}

/// Tries the addresses of a name in turn.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What a connection and those who use it tell each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    received: AtomicU64,
    exchanges: AtomicU64,
    refused: AtomicBool,
}

impl Progress {
    /// How many bytes have been received: what tells an unanswered request from one whose answer had begun.
    pub(super) fn received(&self) -> u64 {
        self.0.received.load(Relaxed)
    }

    /// A request is about to be written: what comes from now on is its answer.
    pub(super) fn begin(&self) {
        self.0.exchanges.fetch_add(1, Release);
    }

    /// Whether what came was no answer that hyper should see. Nothing more comes from such a connection.
    pub(super) fn is_refused(&self) -> bool {
        self.0.refused.load(Relaxed)
    }
}

/// A connected transport that tells its [`Progress`] and watches over the heads of answers.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    progress: Progress,
    watch: Watch,
    /// The exchange that `watch` is for.
    watched: u64,
}

#[derive(Debug)]
enum Socket {
    Plain(Wire),
    Tls(Box<TlsStream<Wire>>),
}

/// Calls a method of whichever transport it is.
macro_rules! delegate {
    ($stream:expr, $method:ident $(, $argument:expr)*) => {
        match &mut $stream.get_mut().socket {
            Socket::Plain(socket) => Pin::new(socket).$method($($argument),*),
            Socket::Tls(socket) => Pin::new(socket).$method($($argument),*),
        }
    };
}

impl Stream {
    fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        let shared = &*self.progress.0;
        shared.received.fetch_add(bytes.len() as u64, Relaxed);
        let exchange = shared.exchanges.load(Acquire);
        if exchange != self.watched {
            (self.watched, self.watch) = (exchange, Watch::begin());
        }
        self.watch.see(bytes).map_err(|odd| {
            shared.refused.store(true, Relaxed);
            io::Error::new(io::ErrorKind::InvalidData, odd)
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(delegate!(self.as_mut(), poll_read, cx, buf))?;
        let read = self.get_mut().note(&buf.filled()[before..]);
        if read.is_err() {
            buf.set_filled(before);
        }
        Poll::Ready(read)
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
            Socket::Plain(socket) => socket.is_write_vectored(),
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
