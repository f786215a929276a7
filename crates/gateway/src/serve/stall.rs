//! A stream whose peer must begin within a time, and take what is written to it within another. It changes
//! nothing else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes after which hyper knows which HTTP is spoken, and its own bounds hold: before that it waits for
/// ever, also for a peer that says nothing at all.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// Cuts a peer that does not begin, and a write that makes no progress for `limit`.
pub(super) struct Stall<S> {
    inner: S,
    limit: Duration,
    /// Bytes that must still come before the peer has begun.
    missing: usize,
    /// Runs until the peer has begun, and while a write is pending.
    deadline: Pin<Box<Sleep>>,
    armed: bool,
}

impl<S> Stall<S> {
    pub(super) fn new(inner: S, begin: Duration, limit: Duration) -> Self {
        Self {
            inner,
            limit,
            missing: PREFACE,
            deadline: Box::pin(tokio::time::sleep(begin)),
            armed: false,
        }
    }

    fn guard<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        // Whoever is answered has begun, however short it was.
        self.missing = 0;
        if progress.is_ready() {
            self.armed = false;
            return progress;
        }
        if !self.armed {
            self.armed = true;
            self.deadline.as_mut().reset(Instant::now() + self.limit);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not read",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stall<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let progress = Pin::new(&mut self.inner).poll_read(cx, buf);
        if self.missing == 0 {
            return progress;
        }
        if progress.is_ready() {
            let came = buf.filled().len() - before;
            self.missing = self.missing.saturating_sub(came);
            return progress;
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not begin",
        )))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.guard(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.guard(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_flush(cx);
        self.guard(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.guard(cx, progress)
    }
}
