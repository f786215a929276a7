//! An answer that goes on leaves hyper behind once its head is written: what hyper keeps for a connection, two
//! buffers and the state of a parser, is many times what a stream of small frames needs. From then on this writes
//! the body's chunks itself. HTTP/1.1 only; it knows no route and no frame, and writes no head.
//!
//! How it is handed over: the service lays the body aside and gives hyper one that never says anything ([`Aside`]).
//! When hyper asks that one for its first piece, the head is in its buffers; when it flushes after that, the head
//! is with the kernel. Then the connection's task takes the socket back ([`Lent`]) and drops hyper.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// Says of a response (as an extension) that its body goes on for long and comes in small pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GoesOn;

/// Says of a response (as an extension) that its connection ends with it: request or answer has a secret, which
/// stands in the connection's buffers until they are freed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Last;

/// What one connection and its requests know of the handover.
#[derive(Debug, Default)]
pub(super) struct Turn {
    body: Mutex<Option<Body>>,
    /// hyper has asked for the first piece.
    asked: AtomicBool,
    /// And has flushed since.
    flushed: AtomicBool,
    /// No further request is to be taken.
    last: AtomicBool,
}

impl Turn {
    /// Has the connection end with that response. In HTTP/1 the head says so, so that no client sends its next request
    /// into a connection that ends; in HTTP/2 the connection says it (GOAWAY).
    pub(super) fn end_with(&self, response: &mut Response, is_one: bool) {
        if is_one {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        } else {
            self.last.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the connection is to end with what it was asked.
    pub(super) fn is_last(&self) -> bool {
        self.last.load(Ordering::Relaxed)
    }

    /// Lays the body of a response that goes on aside, if it is one.
    pub(super) fn lay_aside(self: &Arc<Self>, response: &mut Response) {
        let goes_on = response.extensions_mut().remove::<GoesOn>().is_some();
        if !goes_on || response.status() != StatusCode::OK {
            return;
        }
        let aside = Body::new(Aside(Arc::clone(self)));
        let body = std::mem::replace(response.body_mut(), aside);
        *self.body.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        // No further request is read here.
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }

    /// The body, once its head is with the kernel.
    pub(super) fn take(&self) -> Option<Body> {
        if !self.flushed.load(Ordering::Relaxed) {
            return None;
        }
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.take()
    }
}

/// The body that hyper sees instead: of unknown length, so that hyper announces chunks, and silent.
struct Aside(Arc<Turn>);

impl http_body::Body for Aside {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // Nobody is to be woken: in this very poll the task that asks looks whether it may take over, or else
        // waits for the socket to take the head.
        self.0.asked.store(true, Ordering::Relaxed);
        Poll::Pending
    }
}

/// A socket that is lent to hyper and can be taken back.
#[derive(Debug)]
pub(super) struct Lent<S> {
    socket: Arc<Mutex<Option<S>>>,
    turn: Arc<Turn>,
}

impl<S> Clone for Lent<S> {
    fn clone(&self) -> Self {
        Self {
            socket: Arc::clone(&self.socket),
            turn: Arc::clone(&self.turn),
        }
    }
}

impl<S> Lent<S> {
    pub(super) fn new(socket: S, turn: Arc<Turn>) -> Self {
        Self {
            socket: Arc::new(Mutex::new(Some(socket))),
            turn,
        }
    }

    /// Takes the socket back; whoever still has it lent finds it broken.
    pub(super) fn take(&self) -> Option<S> {
        self.socket().take()
    }

    fn socket(&self) -> MutexGuard<'_, Option<S>> {
        // One task holds all of its handles: nobody ever waits here.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, act: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>>
    where
        S: Unpin,
    {
        match self.socket().as_mut() {
            Some(socket) => act(Pin::new(socket)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_read(cx, buf))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|socket| socket.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|socket| socket.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket()
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.with(|socket| socket.poll_flush(cx));
        // hyper flushes the socket when its own buffers are empty.
        if matches!(flushed, Poll::Ready(Ok(()))) && self.turn.asked.load(Ordering::Relaxed) {
            self.turn.flushed.store(true, Ordering::Relaxed);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_shutdown(cx))
    }
}

/// Bytes of pieces that go out as one chunk.
const CHUNK: usize = 64 * 1024;

/// Writes a body to its end, or until the client goes.
pub(super) async fn go_on<S>(mut socket: S, mut body: Body) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A client that says something more is not listened to: only that it goes is of interest.
    let (mut listens, mut byte) = (true, [0]);
    loop {
        let mut chunk = tokio::select! {
            biased;
            chunk = next(&mut body) => chunk?,
            read = socket.read(&mut byte), if listens => {
                if read? == 0 {
                    return Ok(());
                }
                listens = false;
                continue;
            }
        };
        let last = chunk.last;
        chunk.close();
        socket.write_all_buf(&mut chunk).await?;
        socket.flush().await?;
        if last {
            return socket.shutdown().await;
        }
    }
}

/// All pieces that are there, as far as they fit a chunk, and whether they are the last.
///
/// Cancel safe: yes, what was taken from the body is returned at once.
async fn next(body: &mut Body) -> io::Result<Chunk> {
    let mut chunk = Chunk::default();
    std::future::poll_fn(|cx| {
        while chunk.length < CHUNK {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => chunk.extend(frame.into_data().ok()),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
                Poll::Ready(None) => {
                    chunk.last = true;
                    break;
                }
                Poll::Pending if chunk.pieces.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await?;
    Ok(chunk)
}

/// Pieces on their way out as one chunk (RFC 9112, 7.1).
#[derive(Debug, Default)]
struct Chunk {
    pieces: VecDeque<Bytes>,
    /// Bytes of all of them.
    length: usize,
    /// Nothing comes after them.
    last: bool,
}

impl Chunk {
    fn extend(&mut self, piece: Option<Bytes>) {
        // An empty chunk would be the last.
        self.pieces
            .extend(piece.filter(|piece| !piece.is_empty()).inspect(|piece| {
                self.length += piece.len();
            }));
    }

    /// Puts the length before the pieces and the end behind them.
    fn close(&mut self) {
        if self.length > 0 {
            let head = Bytes::from(format!("{:x}\r\n", self.length));
            self.length += head.len();
            self.pieces.push_front(head);
            self.extend(Some(Bytes::from_static(b"\r\n")));
        }
        if self.last {
            self.extend(Some(Bytes::from_static(b"0\r\n\r\n")));
        }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let slots = out.iter_mut().zip(&self.pieces);
        slots
            .map(|(slot, piece)| *slot = IoSlice::new(piece))
            .count()
    }

    fn advance(&mut self, mut bytes: usize) {
        self.length -= bytes;
        while let Some(front) = self.pieces.front_mut() {
            if bytes < front.len() {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    /// What a client gets of these pieces, by a socket that takes so many bytes at once.
    async fn written(pieces: &[&'static str], at_once: usize) -> String {
        let pieces = pieces
            .iter()
            .map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes())));
        let body = Body::from_stream(stream::iter(pieces.collect::<Vec<_>>()));
        let (ours, mut theirs) = tokio::io::duplex(at_once);
        let read = async {
            let mut text = String::new();
            theirs.read_to_string(&mut text).await.map(|_| text)
        };
        let (done, text) = tokio::join!(go_on(ours, body), read);
        done.unwrap();
        text.unwrap()
    }

    #[tokio::test]
    async fn what_is_there_goes_out_as_one_chunk_however_little_the_socket_takes() {
        for at_once in [1, 2, 3, 7, 4_096] {
            let text = written(&["data: a\n", "", "\n", "data: b\n\n"], at_once).await;
            assert_eq!(text, "12\r\ndata: a\n\ndata: b\n\n\r\n0\r\n\r\n");
            assert_eq!(written(&[], at_once).await, "0\r\n\r\n");
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_a_body_that_says_nothing() {
        let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let (ours, theirs) = tokio::io::duplex(64);
        drop(theirs);
        go_on(ours, body).await.unwrap();
    }

    #[tokio::test]
    async fn a_body_that_fails_is_not_ended_as_if_it_were_whole() {
        let pieces = [Ok(Bytes::from_static(b"a")), Err(io::Error::other("lost"))];
        let (ours, mut theirs) = tokio::io::duplex(64);
        go_on(ours, Body::from_stream(stream::iter(pieces)))
            .await
            .unwrap_err();
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        assert!(!text.ends_with("0\r\n\r\n"), "{text}");
    }
}
