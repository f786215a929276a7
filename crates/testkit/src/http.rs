//! A small HTTP/1.1 client on one connection: no retries, no pool, no redirects, so that a test knows exactly
//! what was sent and what was answered, and a load generator costs next to nothing.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes of a head that are read before it is taken for garbage.
const HEAD: usize = 64 * 1024;

/// One connection.
#[derive(Debug)]
pub struct Conn<S> {
    io: S,
    /// Read and not yet consumed.
    buffer: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Everything up to and without the blank line.
    pub text: String,
    /// What is left of the body.
    framing: Framing,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head's text.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    /// So many bytes are left.
    Length(usize),
    Chunked,
    Done,
}

/// The bytes of a request. `headers` are whole lines, each with its line end.
#[must_use]
pub fn request(method: &str, path: &str, headers: &str, body: Option<&[u8]>) -> Vec<u8> {
    let mut bytes =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}").into_bytes();
    if let Some(body) = body {
        let lines = format!(
            "content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        bytes.extend_from_slice(lines.as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conn<S> {
    /// Speaks HTTP over `io`.
    pub const fn new(io: S) -> Self {
        Self {
            io,
            buffer: Vec::new(),
        }
    }

    /// Sends a request as made by [`request`].
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.io.write_all(request).await
    }

    /// Sends a request and reads the whole answer. Cancel safe: no; drop the connection with the future.
    ///
    /// # Errors
    /// The connection ended before the answer was whole.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.send(request).await?;
        let mut head = self.head().await?;
        let mut body = Vec::new();
        while let Some(piece) = self.piece(&mut head).await? {
            body.extend_from_slice(&piece);
        }
        Ok(Answer {
            status: head.status,
            head: head.text,
            body,
        })
    }

    /// Reads the head of an answer.
    ///
    /// # Errors
    /// The connection ended first, or what came is no HTTP.
    pub async fn head(&mut self) -> io::Result<Head> {
        let end = self.find(b"\r\n\r\n").await?;
        let text = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| garbage("status line"))?;
        let framing = if header(&text, "transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            Framing::Chunked
        } else {
            let length = header(&text, "content-length").map_or(Ok(0), str::parse);
            Framing::Length(length.map_err(|_| garbage("content-length"))?)
        };
        Ok(Head {
            status,
            text,
            framing,
        })
    }

    /// The next piece of the body; `None` at its proper end.
    ///
    /// # Errors
    /// The connection ended in the middle of the body.
    pub async fn piece(&mut self, head: &mut Head) -> io::Result<Option<Vec<u8>>> {
        match head.framing {
            Framing::Done | Framing::Length(0) => Ok(None),
            Framing::Length(left) => {
                if self.buffer.is_empty() {
                    self.more().await?;
                }
                let taken = left.min(self.buffer.len());
                head.framing = Framing::Length(left - taken);
                Ok(Some(self.buffer.drain(..taken).collect()))
            }
            Framing::Chunked => {
                let end = self.find(b"\r\n").await?;
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16).map_err(|_| garbage("chunk size"))?;
                let whole = end + 2 + size + 2;
                while self.buffer.len() < whole {
                    self.more().await?;
                }
                let piece = self.buffer[end + 2..end + 2 + size].to_vec();
                self.buffer.drain(..whole);
                if size == 0 {
                    head.framing = Framing::Done;
                    return Ok(None);
                }
                Ok(Some(piece))
            }
        }
    }

    async fn find(&mut self, pattern: &[u8]) -> io::Result<usize> {
        let mut from = 0;
        loop {
            let found = self.buffer[from..]
                .windows(pattern.len())
                .position(|w| w == pattern);
            if let Some(at) = found {
                return Ok(from + at);
            }
            if self.buffer.len() > HEAD {
                return Err(garbage("head"));
            }
            from = self.buffer.len().saturating_sub(pattern.len() - 1);
            self.more().await?;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.io.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// A header's value.
#[must_use]
pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (own, value) = line.split_once(':')?;
        own.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn garbage(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no HTTP answer: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(pieces: &[&str]) -> io::Result<Answer> {
        let (near, mut far) = tokio::io::duplex(8);
        let mut conn = Conn::new(near);
        let write = async {
            for piece in pieces {
                far.write_all(piece.as_bytes()).await?;
            }
            drop(far);
            io::Result::Ok(())
        };
        let read = async {
            let mut head = conn.head().await?;
            let mut body = Vec::new();
            while let Some(piece) = conn.piece(&mut head).await? {
                body.extend_from_slice(&piece);
            }
            Ok(Answer {
                status: head.status,
                head: head.text,
                body,
            })
        };
        tokio::join!(read, write).0
    }

    #[tokio::test]
    async fn bodies_of_both_kinds_are_read_whole() {
        let sized = answer(&["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", "llo"]).await;
        assert_eq!(sized.expect("whole").body, b"hello");
        let chunks =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        assert_eq!(answer(&[chunks]).await.expect("whole").body, b"hello");
    }

    #[tokio::test]
    async fn an_answer_that_was_cut_is_an_error_and_no_answer() {
        for cut in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n",
            "HTTP/1.1 200 OK\r\ncontent-le",
        ] {
            assert!(answer(&[cut]).await.is_err(), "{cut:?} was taken for whole");
        }
    }
}
