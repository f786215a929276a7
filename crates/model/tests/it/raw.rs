//! A server that answers fixed bytes: what no well-behaved server would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Answers every connection with the same bytes, then closes it, or holds it open.
pub(crate) struct Raw {
    pub(crate) addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Raw {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// A 200 with an event stream of `body`, then the end of the connection.
    pub(crate) async fn events(body: &str) -> Raw {
        Raw::start(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}"), false)
            .await
    }

    pub(crate) async fn start(answer: String, hold: bool) -> Raw {
        Raw::by_path(vec![("", answer)], hold).await
    }

    /// A JSON body under a status, as an answer for [`Raw::by_path`].
    pub(crate) fn json(status: u16, body: &str) -> String {
        format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{body}"
        )
    }

    /// Answers by what stands in the head of the request: the first that fits.
    pub(crate) async fn by_path(answers: Vec<(&'static str, String)>, hold: bool) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, answers.clone(), hold));
            }
        });
        Raw {
            addr,
            _tasks: tasks,
        }
    }
}

async fn serve(mut socket: TcpStream, answers: Vec<(&str, String)>, hold: bool) {
    let mut seen = Vec::new();
    let mut buffer = [0_u8; 16 * 1024];
    // The request is small: its head and the declared body.
    loop {
        let Ok(n) = socket.read(&mut buffer).await else {
            return;
        };
        seen.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&seen);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| {
                l.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .map(str::to_owned)
            });
            if body.len() >= length.map_or(0, |l| l.trim().parse().unwrap()) {
                break;
            }
        }
        if n == 0 {
            return;
        }
    }
    let head = String::from_utf8_lossy(&seen);
    let Some((_, answer)) = answers.iter().find(|(part, _)| head.contains(part)) else {
        return;
    };
    if socket.write_all(answer.as_bytes()).await.is_err() {
        return;
    }
    if hold {
        while socket.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    }
}
