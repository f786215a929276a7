//! Bytes in pieces that are worth a call: what TLS reads is asked of the kernel in larger pieces than it asks for, and what
//! comes out of it is gathered from several records. It changes no byte, and holds none while it waits.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use super::limits::AHEAD;

/// A connection beneath TLS, or one of which the first bytes were read already. rustls asks for 4 KiB at a time, of records of
/// 16.
pub(super) struct Ahead {
    held: BytesMut,
    stream: TcpStream,
}

impl Ahead {
    /// `first` comes before what the stream has.
    pub(super) fn new(first: &[u8], stream: TcpStream) -> Self {
        let held = BytesMut::from(first);
        Self { held, stream }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for Ahead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { held, stream } = &mut *self;
        if held.is_empty() {
            if buffer.remaining() >= AHEAD {
                return Pin::new(stream).poll_read(cx, buffer);
            }
            held.reserve(AHEAD);
            let read = poll_read_buf(Pin::new(stream), cx, held);
            if held.is_empty() {
                *held = BytesMut::new();
            }
            ready!(read)?;
        }
        let length = held.len().min(buffer.remaining());
        buffer.put_slice(held.get(..length).unwrap_or_default());
        held.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What is read through several records of TLS at once, as far as they are there: each piece is a change of tasks and a
/// write on the other side.
pub(super) struct Gathered<S>(pub(super) S);

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            let had = buffer.filled().len();
            let read = Pin::new(&mut self.0).poll_read(cx, buffer);
            let has = buffer.filled().len();
            match read {
                // What comes next is said when it is asked for again.
                Poll::Pending | Poll::Ready(Err(_)) if has > before => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if has > had && buffer.remaining() > 0 => {}
                other => return other,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
