//! A session's event stream as a client sees it.

use std::io;

use serde_json::Value;
use tokio::net::TcpStream;

use crate::http::{Conn, Head};

/// An open stream.
#[derive(Debug)]
pub struct EventStream {
    conn: Conn<TcpStream>,
    head: Head,
    buffer: Vec<u8>,
}

impl EventStream {
    pub(crate) const fn new(conn: Conn<TcpStream>, head: Head) -> Self {
        Self {
            conn,
            head,
            buffer: Vec::new(),
        }
    }

    /// The next event that is no ping; `None` when the server ended the stream properly. Cancel safe: no.
    ///
    /// # Errors
    /// The connection was cut, or a frame holds no JSON.
    pub async fn next(&mut self) -> io::Result<Option<Value>> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") {
                let frame = self.buffer.drain(..end + 2).collect::<Vec<_>>();
                if let Some(event) = parse(&frame)? {
                    return Ok(Some(event));
                }
            }
            match self.conn.piece(&mut self.head).await? {
                Some(piece) => self
                    .buffer
                    .extend(piece.into_iter().filter(|byte| *byte != b'\r')),
                None => return Ok(None),
            }
        }
    }
}

fn parse(frame: &[u8]) -> io::Result<Option<Value>> {
    let text = String::from_utf8_lossy(frame);
    let Some(data) = text.lines().find_map(|line| line.strip_prefix("data:")) else {
        return Ok(None);
    };
    let event = serde_json::from_str::<Value>(data.trim_start())?;
    Ok(Some(event).filter(|event| event["type"] != "ping"))
}
