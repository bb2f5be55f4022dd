//! A wire between two sides that can be cut, made silent, slowed down and mended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What a link does with what passes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    /// Passes it on, after this time.
    Open(Duration),
    /// Keeps it, as a network does that has gone away and may come back: nothing is lost, and nothing arrives.
    Silent,
    /// Resets what there is, and everything new.
    Cut,
}

/// A TCP proxy in this process.
pub struct Link {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepted: Arc<AtomicUsize>,
    listener: JoinHandle<()>,
}

impl Link {
    /// A link to this address.
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mode, current) = watch::channel(Mode::Open(Duration::ZERO));
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let listener = tokio::spawn(accept(listener, target.to_owned(), current, count));
        Self {
            address,
            mode,
            accepted,
            listener,
        }
    }

    /// Where this end of it is.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many connections came so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Resets every connection, and those that come.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Lets nothing through. What is sent meanwhile arrives when it is mended.
    pub fn silence(&self) {
        self.mode.send_replace(Mode::Silent);
    }

    /// Each piece takes this much longer, either way.
    pub fn delay(&self, by: Duration) {
        self.mode.send_replace(Mode::Open(by));
    }

    /// Lets everything through.
    pub fn mend(&self) {
        self.delay(Duration::ZERO);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    mode: watch::Receiver<Mode>,
    count: Arc<AtomicUsize>,
) {
    let mut pairs = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.expect("a connection");
        count.fetch_add(1, Ordering::Relaxed);
        pairs.spawn(join(near, target.clone(), mode.clone()));
        while pairs.try_join_next().is_some() {}
    }
}

async fn join(near: TcpStream, target: String, mut mode: watch::Receiver<Mode>) {
    let reset = |stream: &TcpStream| {
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    };
    reset(&near);
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    reset(&far);
    let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pump(near_in, far_out, mode.clone()) => {}
        () = pump(far_in, near_out, mode.clone()) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else {
            return;
        };
        let current = *mode.borrow();
        if let Mode::Open(delay) = current
            && !delay.is_zero()
        {
            tokio::time::sleep(delay).await;
        }
        if mode.wait_for(|mode| *mode != Mode::Silent).await.is_err() {
            return;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
