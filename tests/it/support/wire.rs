//! An app that answers in bytes, for what a well-behaved HTTP library would not send.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Gives each connection the next of its answers and closes it; after the last one, connections are refused.
pub struct Wire {
    pub url: String,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Wire {
    pub async fn answering<const N: usize>(answers: [&'static str; N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for (count, answer) in answers.iter().enumerate() {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await.expect("a request head"));
                }
                let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                seen.lock().expect("heads").push(head);
                if count + 1 == answers.len() {
                    // Before the answer, so that whoever has it finds the app gone.
                    drop(listener);
                    socket.write_all(answer.as_bytes()).await.expect("a reader");
                    return;
                }
                socket.write_all(answer.as_bytes()).await.expect("a reader");
            }
        });
        Self {
            url,
            heads,
            _tasks: tasks,
        }
    }

    /// The request heads so far, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("heads").clone()
    }
}
