//! Listening to channels, over a connection of its own that is made again for ever.
//!
//! What was published while there was none is lost, and Redis does not say so: this does, each time it has begun to
//! listen. So whoever listens has another way to find out what happened, and messages only make it quicker.

use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind};
use fred::interfaces::{EventInterface, FredResult, PubsubInterface, Resp3Frame};
use fred::types::Message;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::command::Order;
use super::connection::{Connection, Pause};
use super::dial::{Dialer, Failure};

/// How many messages may wait to be read.
const WAITING: usize = 4096;
/// How often the other side is asked for a sign of life: nothing else would tell that it is gone.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A connection that lasted this long ends the haste of the attempts before it.
const STEADY: Duration = Duration::from_secs(1);

/// What a subscription has to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Heard {
    /// A message.
    Message {
        /// Where it was published.
        channel: String,
        /// What it says.
        text: String,
    },
    /// More came than was read: something is missing.
    Lagged,
    /// Listening begins here, for the first time or again: something may be missing.
    Reconnected,
}

/// What is published on some channels, from now on. Ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    heard: broadcast::Receiver<Heard>,
    _listener: AbortOnDropHandle<()>,
}

impl Subscription {
    pub(super) fn new(dialer: Dialer, channels: Vec<String>) -> Self {
        let (sender, heard) = broadcast::channel(WAITING);
        let listener = TaskTracker::new().spawn(listen(dialer, channels, sender));
        Self {
            heard,
            _listener: AbortOnDropHandle::new(listener),
        }
    }

    /// The next thing to be heard.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub async fn recv(&mut self) -> Heard {
        match self.heard.recv().await {
            Ok(heard) => heard,
            Err(RecvError::Lagged(_)) => Heard::Lagged,
            // The listener lives as long as this does; should it have panicked, there is nothing more to hear.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Listens, for ever.
async fn listen(dialer: Dialer, channels: Vec<String>, heard: broadcast::Sender<Heard>) {
    let mut pause = Pause::default();
    let mut told = false;
    for turn in 0.. {
        let ended = match dialer.for_messages(turn).dial().await {
            Ok((client, end)) => {
                let began = Instant::now();
                let ended = hear(client, &channels, &heard, dialer.patience(), end).await;
                if began.elapsed() > STEADY {
                    (pause, told) = (Pause::default(), false);
                }
                ended
            }
            Err(failure) => failure,
        };
        let (url, reason) = (dialer.url(), ended.reason);
        if told {
            tracing::debug!(%url, reason, "not listening to Redis");
        } else {
            tracing::warn!(%url, reason, "not listening to Redis");
            told = true;
        }
        pause.wait().await;
    }
}

/// Listens over one connection, until it ends; why it did.
async fn hear(
    client: Client,
    channels: &[String],
    heard: &broadcast::Sender<Heard>,
    patience: Duration,
    mut end: AbortOnDropHandle<FredResult<()>>,
) -> Failure {
    let mut messages = client.message_rx();
    let subscribed = client.subscribe(channels.to_vec()).await;
    let connection = Connection::new(client);
    if let Err(error) = subscribed {
        return error.into();
    }
    // Redis confirms a subscription with a message, which fred swallows; the reply to the next command comes after it. And
    // an error would be taken for that reply.
    if let Err(failure) = sign_of_life(&connection, patience).await {
        return failure;
    }
    let _ = heard.send(Heard::Reconnected);
    let mut beat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    loop {
        tokio::select! {
            ended = &mut end => return Failure::of_end(ended),
            message = messages.recv() => match message {
                // Nobody listens any more only while this is being dropped.
                Ok(message) => drop(heard.send(said(message))),
                Err(RecvError::Lagged(_)) => drop(heard.send(Heard::Lagged)),
                Err(RecvError::Closed) => return Failure::away("closed".to_owned()),
            },
            _ = beat.tick() => if let Err(failure) = sign_of_life(&connection, patience).await {
                return failure;
            }
        }
    }
}

async fn sign_of_life(connection: &Connection, patience: Duration) -> Result<(), Failure> {
    match connection.send(Order::ping(patience)).await {
        Ok(Resp3Frame::SimpleError { data, .. }) => {
            Err(FredError::new(ErrorKind::Unknown, data.to_string()).into())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn said(message: Message) -> Heard {
    Heard::Message {
        channel: message.channel.to_string(),
        text: message.value.into_string().unwrap_or_default(),
    }
}
