//! How a connection is made: fred's settings, the password of the moment, and why it did not come about.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind};
use fred::interfaces::{ClientLike, FredResult};
use fred::types::RespVersion;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, Server, TcpConfig, TlsConfig,
};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::Password;
use super::address::{Address, Host, Place};
use super::tls;

/// The least time that connecting, greeting and a sign of life may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most that all of it may take, however many servers are asked.
const ALTOGETHER: Duration = Duration::from_secs(10);
/// How many messages of a subscription may wait to be read.
const MESSAGES: usize = 4096;

/// Makes connections to one address.
#[derive(Clone)]
pub(super) struct Dialer {
    url: Arc<str>,
    address: Address,
    password: Password,
    tls: Option<TlsConfig>,
    patience: Duration,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whether it is the credentials.
    pub(super) refused: bool,
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn away(reason: String) -> Self {
        let refused = false;
        Self { refused, reason }
    }

    /// Why a connection ended.
    pub(super) fn of_end(ended: Result<FredResult<()>, JoinError>) -> Self {
        match ended {
            Ok(Err(error)) => error.into(),
            _ => Self::away("the connection was closed".to_owned()),
        }
    }
}

impl From<FredError> for Failure {
    fn from(error: FredError) -> Self {
        let text = error.details();
        // NOPERM: a user that may not even do what a connection begins with.
        let refused = *error.kind() == ErrorKind::Auth
            || ["NOAUTH", "WRONGPASS", "NOPERM"]
                .iter()
                .any(|code| text.contains(code))
            || text.contains("AUTH <password> called without any password");
        let reason = readable(text);
        Self { refused, reason }
    }
}

impl Dialer {
    pub(super) fn new(
        url: &str,
        password: Password,
        command_timeout: Duration,
    ) -> Result<Self, String> {
        let address = Address::parse(url)?;
        Ok(Self {
            url: url.into(),
            tls: tls::config(&address)?,
            address,
            password,
            patience: command_timeout.max(PATIENCE),
        })
    }

    pub(super) fn url(&self) -> Arc<str> {
        Arc::clone(&self.url)
    }

    /// How long a sign of life may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn is_clustered(&self) -> bool {
        matches!(self.address.place, Place::Cluster(_))
    }

    /// Adds the masters of a cluster to the nodes that are asked next time: those of the URL may be gone by then.
    pub(super) fn remember(&mut self, masters: Vec<Server>) {
        if let Place::Cluster(hosts) = &mut self.address.place {
            let known = masters
                .into_iter()
                .map(|node| (node.host.to_string(), node.port));
            for node in known.collect::<Vec<Host>>() {
                if !hosts.contains(&node) {
                    hosts.push(node);
                }
            }
        }
    }

    /// A dialer for one node of a cluster alone: every node hears every published message. The turn says which.
    pub(super) fn for_messages(&self, turn: usize) -> Self {
        let mut dialer = self.clone();
        if let Place::Cluster(hosts) = &self.address.place
            && let Some(host) = hosts.get(turn % hosts.len().max(1))
        {
            dialer.address.place = Place::Single(host.clone());
        }
        dialer
    }

    /// Connects. The handle resolves when the connection has ended, and closes it when it is dropped.
    pub(super) async fn dial(
        &self,
    ) -> Result<(Client, AbortOnDropHandle<FredResult<()>>), Failure> {
        let password = self.password.read().map_err(|reason| Failure {
            refused: true,
            reason,
        })?;
        let client = self.client(password);
        let mut end = None;
        // Polled first, so that it listens before anything can happen. fred's `init` would leave the task of an attempt
        // that is given up running.
        let connected = tokio::select! {
            biased;
            connected = client.wait_for_connect() => connected,
            ended = async { end.insert(AbortOnDropHandle::new(client.connect())).await } => match ended {
                Ok(Err(error)) => Err(error),
                _ => Err(FredError::new(ErrorKind::IO, "the connection was closed")),
            },
            () = tokio::time::sleep(ALTOGETHER) => {
                Err(FredError::new(ErrorKind::Timeout, "no connection in time"))
            }
        };
        connected?;
        end.map(|end| (client, end))
            .ok_or_else(|| Failure::away("it was never begun".to_owned()))
    }

    /// A client that connects once. Its deadlines are those of connecting; commands bring their own.
    fn client(&self, password: Option<String>) -> Client {
        // A user without a password still has to say who he is.
        let user = self.address.user.clone();
        let password = password.or_else(|| user.as_ref().map(|_| String::new()));
        let database = self.address.database;
        let config = Config {
            fail_fast: true,
            server: self.address.server(password.as_ref()),
            username: user.as_deref().map(word),
            password: password.as_deref().map(word),
            version: RespVersion::RESP3,
            database: (database > 0).then_some(database),
            tls: self.tls.clone(),
            ..Config::default()
        };
        let connection = ConnectionConfig {
            connection_timeout: self.patience,
            internal_command_timeout: self.patience,
            max_command_attempts: 1,
            // A bound here breaks the client for good when it is reached; `Redis` has its own.
            max_command_buffer_len: 0,
            tcp: TcpConfig {
                nodelay: Some(true),
                ..TcpConfig::default()
            },
            // Each of these would tear the connection down under the commands of others: `Connection` decides.
            reconnect_errors: Vec::new(),
            ..ConnectionConfig::default()
        };
        let performance = PerformanceConfig {
            default_command_timeout: self.patience,
            broadcast_channel_capacity: MESSAGES,
            ..PerformanceConfig::default()
        };
        Client::new(config, Some(performance), Some(connection), None)
    }
}

/// A word as it stands in a command on one line: that is how fred sends `HELLO`, and it quotes nothing.
fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    let escaped = text.bytes().fold(String::new(), |escaped, byte| {
        escaped + &format!("\\x{byte:02x}")
    });
    format!("\"{escaped}\"")
}

/// An error of the operating system as people read it; fred hands on what it looks like inside.
fn readable(text: &str) -> String {
    let inner = text
        .split_once("message: \"")
        .and_then(|(_, rest)| rest.split_once('"'));
    inner.map_or(text, |(message, _)| message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_server_that_is_away() {
        for (kind, text, refused, reason) in [
            (
                ErrorKind::Auth,
                "WRONGPASS invalid",
                true,
                "WRONGPASS invalid",
            ),
            (
                ErrorKind::Unknown,
                "NOPERM this user",
                true,
                "NOPERM this user",
            ),
            (
                ErrorKind::IO,
                r#"Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }"#,
                false,
                "Connection refused",
            ),
        ] {
            let failure = Failure::from(FredError::new(kind, text));
            assert_eq!(
                (failure.refused, failure.reason.as_str()),
                (refused, reason)
            );
        }
    }
}
