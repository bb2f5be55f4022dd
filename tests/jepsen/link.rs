//! A link between a replica and Redis that can be broken: a TCP proxy in this process, with weather.
//!
//! Bytes that meet bad weather are held back and arrive late, as TCP would have it: that is nastier than losing them. Only
//! a cut ends connections.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a link does to bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Weather {
    Clear,
    /// Connections end, and new ones end at once.
    Cut,
    /// Nothing gets through, and nobody is told.
    Silent,
    /// Commands get through, replies do not.
    Deaf,
    /// Replies get through, commands do not.
    Mute,
    /// Everything takes so much longer, each way.
    Slow(Duration),
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    ToRedis,
    ToReplica,
}

/// One link. It ends with this value, but its connections only with their ends.
pub struct Link {
    pub port: u16,
    weather: watch::Sender<Weather>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// A link to this port.
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (weather, seen) = watch::channel(Weather::Clear);
        let accepting = tokio::spawn(accept(listener, target, seen));
        Self {
            port,
            weather,
            accepting,
        }
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.weather.send_replace(Weather::Cut);
    }
}

async fn accept(listener: TcpListener, target: u16, weather: watch::Receiver<Weather>) {
    while let Ok((replica, _)) = listener.accept().await {
        let weather = weather.clone();
        tokio::spawn(async move {
            if *weather.borrow() == Weather::Cut {
                return;
            }
            let Ok(redis) = TcpStream::connect(("127.0.0.1", target)).await else {
                return;
            };
            let _ = (replica.set_nodelay(true), redis.set_nodelay(true));
            let (from_replica, to_replica) = replica.into_split();
            let (from_redis, to_redis) = redis.into_split();
            tokio::join!(
                pump(from_replica, to_redis, weather.clone(), Way::ToRedis),
                pump(from_redis, to_replica, weather, Way::ToReplica),
            );
        });
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    way: Way,
) {
    let mut cut = weather.clone();
    let carry = async {
        let mut bytes = vec![0; 16 * 1024];
        loop {
            let Ok(count @ 1..) = from.read(&mut bytes).await else {
                return;
            };
            let Ok(now) = weather.wait_for(|it| it.passes(way)).await.map(|it| *it) else {
                return;
            };
            if let Weather::Slow(by) = now {
                tokio::time::sleep(by).await;
            }
            if to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = carry => {}
        _ = cut.wait_for(|it| *it == Weather::Cut) => {}
    }
}

impl Weather {
    fn passes(self, way: Way) -> bool {
        match self {
            Self::Clear | Self::Slow(_) => true,
            Self::Cut | Self::Silent => false,
            Self::Deaf => way == Way::ToRedis,
            Self::Mute => way == Way::ToReplica,
        }
    }
}

/// Shows that links break as they should; what they got wrong.
pub async fn prove() -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let target = listener.local_addr().expect("an address").port();
    let link = Link::to(target).await;
    let mut near = TcpStream::connect(("127.0.0.1", link.port))
        .await
        .expect("a connection");
    let (mut far, _) = listener.accept().await.expect("a connection");
    let mut wrong = Vec::new();
    for (weather, to_redis, to_replica) in [
        (Weather::Clear, true, true),
        (Weather::Deaf, true, false),
        (Weather::Mute, false, true),
        (Weather::Silent, false, false),
        (Weather::Slow(Duration::from_millis(300)), false, false),
    ] {
        for (expected, is_out) in [(to_redis, true), (to_replica, false)] {
            let (from, to) = if is_out {
                (&mut near, &mut far)
            } else {
                (&mut far, &mut near)
            };
            link.set(weather);
            let arrived =
                from.write_all(b"x").await.is_ok() && arrives(to, Duration::from_millis(100)).await;
            link.set(Weather::Clear);
            // What was held back arrives after all.
            let late = arrived || arrives(to, Duration::from_secs(2)).await;
            if arrived != expected || !late {
                wrong.push(format!("{weather:?}: at once {arrived}, at all {late}"));
            }
        }
    }
    link.set(Weather::Cut);
    let mut nothing = [0];
    let end = tokio::time::timeout(Duration::from_secs(2), near.read(&mut nothing));
    if !matches!(end.await, Ok(Ok(0) | Err(_))) {
        wrong.push("a link that is cut goes on".to_owned());
    }
    wrong
}

async fn arrives(to: &mut TcpStream, within: Duration) -> bool {
    let read = tokio::time::timeout(within, to.read_u8()).await;
    matches!(read, Ok(Ok(b'x')))
}
