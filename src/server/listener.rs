//! The listening socket: where to listen, binding with errors a person can act on, and accepting.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use crate::metrics::ServerMetrics;

use super::stream::Socket;

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where to listen: `0.0.0.0:8080`, `[::]:8080` or `unix:/run/reprise.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a port; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// The text is not an [`Address`].
#[derive(Debug, PartialEq, Eq)]
pub struct ParseAddressError(String);

impl fmt::Display for ParseAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        write!(f, "\"{text}\" is not an address to listen on: ")?;
        if text == "unix:" {
            return f.write_str("the path of the socket is missing");
        }
        f.write_str("write IP:PORT (\"0.0.0.0:8080\", \"[::]:8080\") or \"unix:/path\"")
    }
}

impl StdError for ParseAddressError {}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let error = || ParseAddressError(text.to_owned());
        match text.strip_prefix("unix:") {
            Some("") => Err(error()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| error()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why an address could not be bound.
#[derive(Debug)]
pub struct BindError {
    address: Address,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        match (self.source.kind(), &self.address) {
            (io::ErrorKind::AddrInUse, Address::Tcp(address)) => {
                let port = address.port();
                write!(
                    f,
                    "the port is in use (`ss -ltnp 'sport = :{port}'` shows who holds it)"
                )
            }
            (io::ErrorKind::AddrInUse, Address::Unix(path)) => {
                let path = path.display();
                write!(
                    f,
                    "another process listens there (`ss -lxp src {path}` shows which)"
                )
            }
            (io::ErrorKind::AlreadyExists, _) => f.write_str("the path exists and is not a socket"),
            (io::ErrorKind::AddrNotAvailable, _) => f.write_str("this machine has no such address"),
            (io::ErrorKind::PermissionDenied, Address::Tcp(address)) if address.port() < 1024 => {
                f.write_str("ports below 1024 need the capability CAP_NET_BIND_SERVICE")
            }
            (io::ErrorKind::PermissionDenied, _) => f.write_str("permission denied"),
            (io::ErrorKind::NotFound, _) => f.write_str("the directory does not exist"),
            _ => f.write_str("the system refused"),
        }
    }
}

impl StdError for BindError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}

/// A bound socket, ready to be served.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    /// How long to wait when the system is out of something; doubles while it stays so.
    pause: Duration,
    /// There was no place for the next connection.
    delayed: bool,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection and its place among [`Config::max_connections`](super::Config::max_connections).
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) address: Option<IpAddr>,
    pub(super) slot: OwnedSemaphorePermit,
}

impl Listener {
    /// Binds an address. Must be called within a tokio runtime.
    ///
    /// A Unix socket's file that nobody listens on any more is replaced; the file stays when the listener is
    /// dropped, since by then it may be a successor's.
    ///
    /// # Errors
    ///
    /// [`BindError`], whose message names the address and what to do.
    pub fn bind(address: &Address) -> Result<Self, BindError> {
        let bound = match address {
            Address::Tcp(address) => bind_tcp(*address).map(Bound::Tcp),
            Address::Unix(path) => bind_unix(path).map(Bound::Unix),
        };
        match bound {
            Ok(socket) => Ok(Self {
                socket,
                pause: FIRST_PAUSE,
                delayed: false,
            }),
            Err(source) => Err(BindError {
                address: address.clone(),
                source,
            }),
        }
    }

    /// The address bound, with the port the kernel chose.
    ///
    /// # Errors
    ///
    /// That of the system call; none is known to happen on a bound socket.
    pub fn local_address(&self) -> io::Result<Address> {
        match &self.socket {
            Bound::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Bound::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Address::Unix(
                    address
                        .as_pathname()
                        .map(Path::to_owned)
                        .unwrap_or_default(),
                ))
            }
        }
    }

    /// Waits for a free slot, then for a connection. Never fails: an error of one connection concerns that one,
    /// and when the system is out of descriptors or memory it waits for some to come free.
    ///
    /// Cancel safe: a connection is never lost.
    pub(super) async fn accept(
        &mut self,
        slots: &Arc<Semaphore>,
        metrics: &ServerMetrics,
    ) -> Accepted {
        loop {
            // Remembered here: the wait may be given up and begun again.
            self.delayed |= slots.available_permits() == 0;
            let slot = Arc::clone(slots)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            match self.accept_socket().await {
                Ok((socket, address)) => {
                    self.pause = FIRST_PAUSE;
                    if std::mem::take(&mut self.delayed) {
                        metrics.delayed.inc();
                    }
                    return Accepted {
                        socket,
                        address,
                        slot,
                    };
                }
                Err(error) => self.recover(&error).await,
            }
        }
    }

    async fn accept_socket(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match &self.socket {
            Bound::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, peer)| tcp(stream, peer)),
            Bound::Unix(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| (Socket::Unix(stream), None)),
        }
    }

    async fn recover(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionRefused | ConnectionReset
        ) {
            return debug!(%error, "a client left before it was accepted");
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        warn!(%error, ?pause, "cannot accept connections");
        tokio::time::sleep(pause).await;
    }

    /// Closes the socket and gives what had already connected, as far as there are slots.
    pub(super) fn into_backlog(self, slots: &Arc<Semaphore>) -> Vec<Accepted> {
        let Ok(listener) = Backlog::of(self.socket) else {
            return Vec::new();
        };
        let mut accepted = Vec::new();
        while let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            match listener.accept() {
                Ok((socket, address)) => accepted.push(Accepted {
                    socket,
                    address,
                    slot,
                }),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => break,
            }
        }
        accepted
    }
}

/// A listener out of the reactor: it says at once when nobody waits.
enum Backlog {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Backlog {
    fn of(bound: Bound) -> io::Result<Self> {
        match bound {
            Bound::Tcp(listener) => listener.into_std().map(Self::Tcp),
            Bound::Unix(listener) => listener.into_std().map(Self::Unix),
        }
    }

    fn accept(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(tcp(TcpStream::from_std(stream)?, peer))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Socket::Unix(UnixStream::from_std(stream)?), None))
            }
        }
    }
}

fn tcp(stream: TcpStream, peer: SocketAddr) -> (Socket, Option<IpAddr>) {
    // Failure means that the client has left already; the first read will say so.
    let _ = stream.set_nodelay(true);
    (Socket::Tcp(stream), Some(peer.ip().to_canonical()))
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // `[::]` means every address of both families, whatever the machine's default.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Removes the socket's file if nobody answers there.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        // Someone listens, or may do so: its socket is not ours to take.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_the_same() {
        for text in [
            "0.0.0.0:8080",
            "[::]:8080",
            "127.0.0.1:0",
            "unix:/run/reprise.sock",
            "unix:relative.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for text in [
            "",
            "8080",
            "localhost:8080",
            "0.0.0.0",
            "http://0.0.0.0:8080",
            "unix:",
        ] {
            let message = text.parse::<Address>().unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("\"{text}\" is not an address")),
                "{message}"
            );
        }
    }

    #[tokio::test]
    async fn a_port_in_use_says_so_and_how_to_find_the_holder() {
        let first = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_address().unwrap();
        let Address::Tcp(socket) = &address else {
            panic!("a TCP address")
        };
        let message = Listener::bind(&address).unwrap_err().to_string();
        let port = socket.port();
        let expected = format!(
            "cannot listen on 127.0.0.1:{port}: the port is in use (`ss -ltnp 'sport = :{port}'` shows who holds it)"
        );
        assert_eq!(message, expected);
    }

    #[tokio::test]
    async fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let directory = scratch("stale");
        let address = Address::Unix(directory.join("s"));
        drop(Listener::bind(&address).unwrap());
        let live = Listener::bind(&address).unwrap();
        assert_eq!(live.local_address().unwrap(), address);
        let message = Listener::bind(&address).unwrap_err().to_string();
        assert!(
            message.contains("another process listens there"),
            "{message}"
        );

        let file = directory.join("file");
        std::fs::write(&file, "precious").unwrap();
        let message = Listener::bind(&Address::Unix(file.clone()))
            .unwrap_err()
            .to_string();
        assert!(
            message.ends_with("the path exists and is not a socket"),
            "{message}"
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
        std::fs::remove_dir_all(directory).unwrap();
    }

    fn scratch(name: &str) -> PathBuf {
        let directory =
            std::env::temp_dir().join(format!("reprise-listener-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }
}
