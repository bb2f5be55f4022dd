//! An app that takes nothing on trust: it reads what the sidecar writes byte by byte, by the letter of RFC 9112, and
//! remembers each request and whatever was not one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::eventually;

/// A request as its bytes were.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The request line.
    pub line: String,
    /// Every field, in small letters and in order.
    pub fields: Vec<(String, String)>,
    /// The content, out of its chunks.
    pub body: String,
    /// The fields behind the last chunk.
    pub trailers: Vec<(String, String)>,
}

impl Written {
    /// The values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let found = self.fields.iter().filter(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Debug, Default)]
struct State {
    whole: Vec<Written>,
    /// What is not a request, or not all of one.
    odd: Vec<String>,
    /// Connections in the middle of a request.
    busy: usize,
}

/// The app.
pub struct Recorder {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl Recorder {
    /// Answers every request with its own target; nothing may be stored.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            _tasks: tasks,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has been written since it was last asked: whole requests, and what is none.
    pub async fn take(&self) -> (Vec<Written>, Vec<String>) {
        eventually("the app has read all there is", || self.state().busy == 0).await;
        let mut state = self.state();
        (
            std::mem::take(&mut state.whole),
            std::mem::take(&mut state.odd),
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a lock")
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    loop {
        let Ok(first) = stream.read_u8().await else {
            return;
        };
        state.lock().expect("a lock").busy += 1;
        let mut read = vec![first];
        let request = request(&mut stream, &mut read).await;
        let answer = {
            let mut state = state.lock().expect("a lock");
            state.busy -= 1;
            let Some(request) = request else {
                return state.odd.push(String::from_utf8_lossy(&read).into_owned());
            };
            let (method, target) = request.line.split_once(' ').expect("a request line");
            let target = target.trim_end_matches(" HTTP/1.1");
            let body = if method == "HEAD" { "" } else { target };
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: {}\r\n\r\n{body}",
                target.len()
            );
            state.whole.push(request);
            answer
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads one request; `None` where the bytes are not one.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Written> {
    let line = line(stream, read, 0).await?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let is_target = target.starts_with('/') || target == "*";
    if method.is_empty() || !is_target || words.next()? != "HTTP/1.1" || words.next().is_some() {
        return None;
    }
    let mut request = Written {
        line,
        fields: fields(stream, read).await?,
        ..Written::default()
    };
    let one = |name: &str| match request.all(name)[..] {
        [] => Some(None),
        [value] => Some(Some(value.to_owned())),
        _ => None,
    };
    one("host")??;
    match (one("content-length")?, one("transfer-encoding")?) {
        (None, None) => {}
        (Some(length), None) => {
            let digits = length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits)?;
            request.body = content(stream, read, length).await?;
        }
        (None, Some(coding)) if coding == "chunked" => loop {
            let size = self::line(stream, read, read.len()).await?;
            let digits = size.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = usize::from_str_radix(&size, 16).ok().filter(|_| digits)?;
            if size == 0 {
                request.trailers = fields(stream, read).await?;
                break;
            }
            request.body += &content(stream, read, size).await?;
            if !self::line(stream, read, read.len()).await?.is_empty() {
                return None;
            }
        },
        _ => return None,
    }
    Some(request)
}

async fn fields(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(stream, read, read.len()).await?;
        if line.is_empty() {
            return Some(fields);
        }
        let (name, value) = line.split_once(':')?;
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let value = value.trim_matches([' ', '\t']).to_owned();
        fields.push((name.to_ascii_lowercase(), value));
    }
}

/// A line that begins here and ends in CRLF, without it; `None` if a control byte is in it.
async fn line(stream: &mut TcpStream, read: &mut Vec<u8>, begin: usize) -> Option<String> {
    loop {
        if read.ends_with(b"\r\n") && read.len() >= begin + 2 {
            break;
        }
        read.push(stream.read_u8().await.ok()?);
    }
    let line = &read[begin..read.len() - 2];
    let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    (!line.iter().any(control)).then(|| String::from_utf8_lossy(line).into_owned())
}

async fn content(stream: &mut TcpStream, read: &mut Vec<u8>, length: usize) -> Option<String> {
    let mut content = Vec::new();
    while content.len() < length {
        let byte = stream.read_u8().await.ok()?;
        content.push(byte);
        read.push(byte);
    }
    Some(String::from_utf8_lossy(&content).into_owned())
}
