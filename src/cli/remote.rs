//! Speaking to a sidecar that runs: one request to its admin port.
//!
//! In: which sidecar (an address, else the one that the configuration names) and what to ask. Out: a status and a body, or
//! a message that names the address that was tried. The commands that need it run where the sidecar runs: in its pod, by
//! `kubectl exec`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Builder;

use super::{ConfigFile, Failure};
use crate::body::{self, Body};
use crate::config::{Environment, Secret};
use crate::server::Address;

/// Where the admin port is if nothing says otherwise.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Which sidecar.
#[derive(Args, Clone, Debug)]
pub(super) struct Sidecar {
    /// The admin port of the sidecar, HOST:PORT or unix:PATH [default: the configuration's, else 127.0.0.1:9090].
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Address>,
    #[command(flatten)]
    file: ConfigFile,
}

/// A sidecar that can be asked.
pub(super) struct Remote {
    address: Address,
    token: Option<Secret>,
}

/// What it said.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

impl Sidecar {
    /// Finds out where it is. A file that is not there is no error: the address has a default.
    pub(super) fn find(&self, environment: &Environment) -> Result<Remote, Failure> {
        let token = environment.admin_token.clone();
        if let Some(address) = self.admin.clone() {
            return Ok(Remote { address, token });
        }
        let path = self.file.path(environment);
        let named = self.file.config.is_some() || environment.config.is_some();
        if !named && !Path::exists(&path) {
            let address = Address::Tcp(DEFAULT);
            return Ok(Remote { address, token });
        }
        let admin = self.file.load(environment)?.config.admin;
        Ok(Remote {
            address: reachable(admin.listen),
            token: admin.token.or(token),
        })
    }
}

/// Where an address that is listened on is reached from this host.
fn reachable(address: Address) -> Address {
    match address {
        Address::Tcp(socket) if socket.ip().is_unspecified() => {
            let ip = match socket.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            Address::Tcp(SocketAddr::new(ip, socket.port()))
        }
        address => address,
    }
}

impl Remote {
    /// Asks for a path; with a JSON body, posts it.
    pub(super) fn ask(
        &self,
        path: &str,
        json: Option<String>,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Failed(error.to_string()))?;
        let exchange = async {
            match &self.address {
                Address::Tcp(socket) => {
                    self.exchange(TcpStream::connect(socket).await?, path, json)
                        .await
                }
                Address::Unix(socket) => {
                    self.exchange(UnixStream::connect(socket).await?, path, json)
                        .await
                }
            }
        };
        let answered = runtime.block_on(async { tokio::time::timeout(timeout, exchange).await });
        let failed = |reason: &dyn std::fmt::Display| {
            Failure::Failed(format!(
                "no answer from the sidecar at {}{path}: {reason}\nhelp: is it running, and is this its admin port? --admin ADDRESS names another",
                self.address
            ))
        };
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&format_args!(
                "nothing within {} s",
                timeout.as_secs()
            ))),
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        path: &str,
        json: Option<String>,
    ) -> Result<Answer, Box<dyn std::error::Error>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = self.request(path, json)?;
        let asking = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = body::read_limited(Body::stream(response.into_body()), MAX_ANSWER).await?;
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok(Answer { status, body })
        };
        tokio::pin!(asking);
        tokio::select! {
            answer = &mut asking => answer,
            ended = connection => {
                ended?;
                asking.await
            }
        }
    }

    fn request(&self, path: &str, json: Option<String>) -> http::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .uri(path)
            .header(header::HOST, "localhost");
        if json.is_some() {
            request = request
                .method(Method::POST)
                .header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        request.body(Full::from(json.unwrap_or_default()))
    }
}
