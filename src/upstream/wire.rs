//! The socket of a connection, which its owner reads and writes, and which can be looked at from outside.
//!
//! Whether something lies unread in an idle connection only the system knows at once: the runtime hears of it later, and
//! what hyper reads after it has written a request it takes for that request's answer. So who takes a connection out of
//! the pool looks for himself. The look does not keep the socket: it closes when its owner drops it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A socket.
#[derive(Debug)]
pub(super) struct Wire(Arc<Socket>);

/// A look at a [`Wire`].
#[derive(Clone, Debug)]
pub(super) struct Glance(Weak<Socket>);

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls a method of whichever socket it is.
macro_rules! delegate {
    ($socket:expr, $method:ident $(, $argument:expr)*) => {
        match &*$socket {
            Socket::Tcp(socket) => socket.$method($($argument),*),
            Socket::Unix(socket) => socket.$method($($argument),*),
        }
    };
}

impl Glance {
    /// Whether the socket is open and nothing has come that has not been read. One system call.
    pub(super) fn is_silent(&self) -> bool {
        let Some(socket) = self.0.upgrade() else {
            return false;
        };
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match &*socket {
            Socket::Tcp(socket) => SockRef::from(socket).peek(&mut byte),
            Socket::Unix(socket) => SockRef::from(socket).peek(&mut byte),
        };
        // A byte, an end or an error: all are news that no request has asked for.
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Wire {
    pub(super) fn tcp(socket: TcpStream) -> Self {
        Self(Arc::new(Socket::Tcp(socket)))
    }

    pub(super) fn unix(socket: UnixStream) -> Self {
        Self(Arc::new(Socket::Unix(socket)))
    }

    pub(super) fn glance(&self) -> Glance {
        Glance(Arc::downgrade(&self.0))
    }

    /// Writes once the socket takes something.
    fn poll_writing(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(delegate!(self.0, poll_write_ready, cx))?;
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(delegate!(self.0, poll_read_ready, cx))?;
            match delegate!(self.0, try_read_buf, buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|_| ())),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, || delegate!(self.0, try_write, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, || delegate!(self.0, try_write_vectored, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match &*self.0 {
            Socket::Tcp(socket) => SockRef::from(socket).shutdown(Shutdown::Write),
            Socket::Unix(socket) => SockRef::from(socket).shutdown(Shutdown::Write),
        })
    }
}
