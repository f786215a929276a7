//! A client's end of a connection, of which one half may be read by whoever passes a body on while the other
//! half is written to. It must never judge what passes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::io::poll_read_buf;

use super::answer::Refusal;
use super::limits::READ;
use crate::http1::{self, Parsed};

/// What a client's bytes come through.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The connection beneath.
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

/// A socket of which there are several handles. Each poll has it for itself; none is held while waiting.
pub(super) struct Line<S>(Arc<Mutex<S>>);

impl<S> Clone for Line<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Socket> Line<S> {
    pub(super) fn new(socket: S) -> Self {
        Self(Arc::new(Mutex::new(socket)))
    }

    /// Has the connection end with a reset when its last handle is dropped, so that nobody takes what came so far
    /// for all of it.
    pub(super) fn cut(&self) {
        // Where it cannot be set the connection ends in order, which says less.
        let _ = set_socket_linger(self.socket().tcp(), Some(Duration::ZERO));
    }

    fn socket(&self) -> MutexGuard<'_, S> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Socket> AsyncRead for Line<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket()).poll_read(cx, buffer)
    }
}

impl<S: Socket> AsyncWrite for Line<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.socket()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket()).poll_shutdown(cx)
    }
}

/// What reads a client's requests, with what was read already.
pub(super) struct Reader {
    from: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) buffer: BytesMut,
}

impl Reader {
    pub(super) fn new(from: impl AsyncRead + Send + Unpin + 'static, first: &[u8]) -> Self {
        Self {
            from: Box::new(from),
            buffer: BytesMut::from(first),
        }
    }

    /// Reads some more behind what is there.
    ///
    /// # Errors
    /// `UnexpectedEof` when the client says no more.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.buffer.reserve(READ);
        let from = Pin::new(&mut self.from);
        match ready!(poll_read_buf(from, cx, &mut self.buffer))? {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    pub(super) async fn more(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_more(cx)).await
    }

    /// The next request's head, whole and well-formed; `None` if the client has ended before one began, or says
    /// nothing for as long as `idle`.
    pub(super) async fn head(&mut self, idle: Duration) -> Result<Option<Bytes>, Refusal> {
        if self.buffer.is_empty() && !matches!(timeout(idle, self.more()).await, Ok(Ok(()))) {
            return Ok(None);
        }
        let refusal = |status, reason| Refusal {
            status,
            rule: "protocol".to_owned(),
            reason,
        };
        let reading = async {
            loop {
                match http1::parse(&self.buffer) {
                    Ok(Parsed::Head(_, length)) => return Ok(length),
                    Ok(Parsed::More) => {}
                    Err(error) => return Err(refusal(error.status(), format!("denied: {error}"))),
                }
                if self.more().await.is_err() {
                    let reason = "denied: the request's head ends early".to_owned();
                    return Err(refusal(400, reason));
                }
            }
        };
        let length = match timeout(crate::limits::HEAD_TIME, reading).await {
            Ok(read) => read?,
            Err(_) => {
                let seconds = crate::limits::HEAD_TIME.as_secs();
                let reason = format!("denied: the request's head took more than {seconds} s");
                return Err(refusal(408, reason));
            }
        };
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}
