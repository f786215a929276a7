//! The body of a request, passed on exactly as far as it goes. It must never pass on a byte that is not of it,
//! nor what two servers could frame in two ways.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::bytes::Counts;
use super::super::limits::{SIZE_LINE, UNWANTED};
use super::super::line::Reader;
use super::Scope;
use super::turned::Spent;
use crate::http1::{Body as Framing, header};
use crate::limits;

/// The body of a request on its way to a server.
pub(super) enum Sent {
    /// There is none.
    None,
    /// It was read to be judged, and is all here.
    Whole(Option<Bytes>, Arc<Counts>),
    /// Of HTTP/1.
    One(Box<Read>),
    /// Of HTTP/2, which frames it.
    Two(Framed),
    /// One of these, into which credentials are put.
    Spent(Box<Spent>),
}

/// The client's end of a connection while a body is read from it.
pub(super) enum Back {
    /// There is no body.
    Here(Reader),
    /// It comes back when all of the body was read, and never if that fails.
    Coming(oneshot::Receiver<Reader>),
}

impl Back {
    /// Whether all of the body has been read by now.
    pub(super) fn is_here(&mut self) -> bool {
        if let Self::Coming(coming) = self
            && let Ok(reader) = coming.try_recv()
        {
            *self = Self::Here(reader);
        }
        matches!(self, Self::Here(_))
    }
}

/// A body that is read as HTTP/1 frames it.
pub(super) struct Read {
    reader: Option<Reader>,
    at: At,
    trailers: HeaderMap,
    /// Nothing is read before the client was told to go on.
    gate: Option<oneshot::Receiver<()>>,
    back: Option<oneshot::Sender<Reader>>,
    counts: Arc<Counts>,
}

/// What is read next.
enum At {
    /// So many bytes.
    Length(u64),
    /// The line with a chunk's length.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line's end behind a chunk.
    ChunkEnd,
    /// Fields behind the last chunk, of at most so many bytes.
    Trailers(usize),
}

/// What is in the buffer.
enum Step {
    Frame(Frame<Bytes>),
    End,
    More,
}

impl Sent {
    /// The body that a head announces. It waits for `gate` if there is one.
    pub(super) fn of(
        framing: Framing,
        reader: Reader,
        gate: Option<oneshot::Receiver<()>>,
        counts: Arc<Counts>,
    ) -> (Self, Back) {
        let at = match framing {
            Framing::None | Framing::Length(0) => return (Self::None, Back::Here(reader)),
            Framing::Length(length) => At::Length(length),
            Framing::Chunked => At::Size,
        };
        let (back, coming) = oneshot::channel();
        let read = Read {
            reader: Some(reader),
            at,
            trailers: HeaderMap::new(),
            gate,
            back: Some(back),
            counts,
        };
        (Self::One(Box::new(read)), Back::Coming(coming))
    }
}

impl Sent {
    /// A body that was read already.
    pub(super) fn whole(bytes: Bytes, counts: Arc<Counts>) -> Self {
        if bytes.is_empty() {
            return Self::None;
        }
        Self::Whole(Some(bytes), counts)
    }

    /// The same once more, counted there; none of one that is not all here.
    pub(super) fn copy(&self, counts: &Arc<Counts>) -> Option<Self> {
        match self {
            Self::None => Some(Self::None),
            Self::Whole(whole, _) => Some(Self::Whole(whole.clone(), Arc::clone(counts))),
            Self::One(_) | Self::Two(_) | Self::Spent(_) => None,
        }
    }

    /// Whether nothing of it comes before the server wants it.
    pub(super) fn waits(&self) -> bool {
        matches!(self, Self::One(read) if read.gate.is_some())
    }
}

/// A body of HTTP/2. What nobody wants any more of it is taken from the client for a while: a stream that is reset
/// while its client still sends is a failure to some, though the answer is there (RFC 9113 §8.1 lets them).
pub(super) struct Framed {
    /// None once it was dropped.
    body: Option<Incoming>,
    counts: Arc<Counts>,
    scope: Scope,
}

impl Framed {
    pub(super) fn new(body: Incoming, counts: Arc<Counts>, scope: Scope) -> Self {
        Self {
            body: Some(body),
            counts,
            scope,
        }
    }

    fn body(&self) -> Option<&Incoming> {
        self.body.as_ref()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let length = data.len() as u64;
            self.counts.out.fetch_add(length, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }
}

impl Drop for Framed {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        self.scope.spawn(async move {
            let taking = async { while let Some(Ok(_)) = body.frame().await {} };
            // Then it is reset after all.
            let _ = timeout(UNWANTED, taking).await;
        });
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Whole(whole, counts) => {
                let whole = whole.take();
                let length = whole.as_ref().map_or(0, Bytes::len) as u64;
                counts.out.fetch_add(length, Ordering::Relaxed);
                Poll::Ready(whole.map(|whole| Ok(Frame::data(whole))))
            }
            Self::One(read) => read
                .poll(cx)
                .map(|read| read.map_err(Into::into).transpose()),
            Self::Spent(spent) => spent.poll_frame(cx),
            Self::Two(framed) => framed
                .poll(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Whole(whole, _) => whole.is_none(),
            Self::One(read) => read.reader.is_none(),
            Self::Two(framed) => framed.body().is_none_or(Incoming::is_end_stream),
            Self::Spent(spent) => spent.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Whole(whole, _) => {
                SizeHint::with_exact(whole.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::One(read) => match read.at {
                At::Length(length) => SizeHint::with_exact(length),
                _ => SizeHint::default(),
            },
            Self::Two(framed) => framed.body().map(Incoming::size_hint).unwrap_or_default(),
            Self::Spent(spent) => spent.size_hint(),
        }
    }
}

impl Read {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Frame<Bytes>>>> {
        if let Some(gate) = &mut self.gate {
            // Whoever opens it has gone: so has the request.
            ready!(Pin::new(gate).poll(cx)).map_err(|_| io::ErrorKind::Interrupted)?;
            self.gate = None;
        }
        let Some(reader) = &mut self.reader else {
            return Poll::Ready(Ok(None));
        };
        let frame = loop {
            match self.at.step(reader, &mut self.trailers)? {
                Step::More => ready!(reader.poll_more(cx))?,
                Step::Frame(frame) => break frame,
                Step::End => {
                    self.give_back();
                    let trailers = std::mem::take(&mut self.trailers);
                    let frame = (!trailers.is_empty()).then(|| Frame::trailers(trailers));
                    return Poll::Ready(Ok(frame));
                }
            }
        };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        self.counts.out.fetch_add(length, Ordering::Relaxed);
        // Who knows the length asks no further.
        if matches!(self.at, At::Length(0)) {
            self.give_back();
        }
        Poll::Ready(Ok(Some(frame)))
    }

    fn give_back(&mut self) {
        if let (Some(back), Some(reader)) = (self.back.take(), self.reader.take()) {
            // Nobody waits for it when the connection is over.
            let _ = back.send(reader);
        }
    }
}

impl At {
    fn step(&mut self, reader: &mut Reader, trailers: &mut HeaderMap) -> io::Result<Step> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        match self {
            Self::Length(0) => Ok(Step::End),
            Self::Length(left) => Ok(some(reader, left)),
            Self::Chunk(0) => {
                *self = Self::ChunkEnd;
                self.step(reader, trailers)
            }
            Self::Chunk(left) => Ok(some(reader, left)),
            Self::ChunkEnd => match reader.buffer.get(..2) {
                None => Ok(Step::More),
                Some(b"\r\n") => {
                    reader.buffer.advance(2);
                    *self = Self::Size;
                    self.step(reader, trailers)
                }
                Some(_) => Err(invalid()),
            },
            Self::Size => {
                let Some(line) = line(reader, SIZE_LINE)? else {
                    return Ok(Step::More);
                };
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                *self = match size(digits).ok_or_else(invalid)? {
                    0 => Self::Trailers(limits::HEAD),
                    length => Self::Chunk(length),
                };
                self.step(reader, trailers)
            }
            Self::Trailers(left) => loop {
                let Some(line) = line(reader, *left)? else {
                    return Ok(Step::More);
                };
                if line.is_empty() {
                    return Ok(Step::End);
                }
                *left = left.saturating_sub(line.len() + 2);
                let (name, value) = header(&line)
                    .map(|field| (field.name, field.value))
                    .map_err(|_| invalid())?;
                trailer(trailers, name, value).ok_or_else(invalid)?;
            },
        }
    }
}

/// What there is of `left` bytes.
fn some(reader: &mut Reader, left: &mut u64) -> Step {
    let length = reader.buffer.len();
    let length = length.min(usize::try_from(*left).unwrap_or(usize::MAX));
    if length == 0 {
        return Step::More;
    }
    *left -= length as u64;
    Step::Frame(Frame::data(reader.buffer.split_to(length).freeze()))
}

/// A line of at most `most` bytes, without its CR LF; `None` if it is not all there.
fn line(reader: &mut Reader, most: usize) -> io::Result<Option<Bytes>> {
    let invalid = io::ErrorKind::InvalidData;
    let Some(end) = reader.buffer.iter().position(|byte| *byte == b'\n') else {
        return if reader.buffer.len() < most {
            Ok(None)
        } else {
            Err(invalid.into())
        };
    };
    if end >= most {
        return Err(invalid.into());
    }
    let line = reader.buffer.split_to(end + 1).freeze();
    match line.strip_suffix(b"\r\n") {
        Some(content) if !content.iter().any(|byte| matches!(byte, b'\r' | 0)) => {
            Ok(Some(line.slice(..content.len())))
        }
        _ => Err(invalid.into()),
    }
}

/// Hex digits and nothing else; 16 of them could be more than any server counts.
fn size(digits: &[u8]) -> Option<u64> {
    if !(1..=15).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Keeps a field that may stand behind a body: none that frames, routes or authenticates the request, which was
/// judged without it (RFC 9110 §6.5.1).
fn trailer(trailers: &mut HeaderMap, name: &str, value: &[u8]) -> Option<()> {
    const NEVER: [&str; 11] = [
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
    ];
    if NEVER.iter().any(|never| name.eq_ignore_ascii_case(never)) {
        return Some(());
    }
    if trailers.len() >= limits::HEADERS {
        return None;
    }
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    trailers.append(name, HeaderValue::from_bytes(value).ok()?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of a body that comes in pieces of that many bytes, and what is left behind it.
    async fn passed(
        framing: Framing,
        bytes: &'static [u8],
        piece: usize,
    ) -> Option<(Vec<u8>, HeaderMap, Vec<u8>)> {
        let (mut near, far) = tokio::io::duplex(piece);
        let writing = async move {
            // What nobody reads any more needs not be written.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut near, bytes).await;
        };
        let reading = async {
            let counts = Arc::new(Counts::default());
            let (sent, mut back) = Sent::of(framing, Reader::new(far, b""), None, counts.clone());
            let collected = sent.collect().await.ok()?;
            let trailers = collected.trailers().cloned().unwrap_or_default();
            let bytes = collected.to_bytes().to_vec();
            assert_eq!(counts.out.load(Ordering::Relaxed), bytes.len() as u64);
            assert!(back.is_here());
            let Back::Here(mut reader) = back else {
                return None;
            };
            while reader.more().await.is_ok() {}
            Some((bytes, trailers, reader.buffer.to_vec()))
        };
        tokio::join!(writing, reading).1
    }

    #[tokio::test]
    async fn a_body_ends_where_its_framing_says_and_what_follows_stays() {
        let next = b"GET / HTTP/1.1\r\n";
        let chunked = b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\nContent-Length: 3\r\n\r\nGET / HTTP/1.1\r\n";
        for piece in [1, 2, 3, 7, 1024] {
            let length = passed(Framing::Length(3), b"abcGET / HTTP/1.1\r\n", piece).await;
            assert_eq!(
                length,
                Some((b"abc".to_vec(), HeaderMap::new(), next.to_vec()))
            );
            let (body, trailers, left) = passed(Framing::Chunked, chunked, piece).await.unwrap();
            assert_eq!(
                (body.as_slice(), left.as_slice()),
                (&b"abc0123456789"[..], &next[..])
            );
            assert_eq!(trailers.len(), 1, "{trailers:?}");
            assert_eq!(trailers["x"], "y");
        }
    }

    #[tokio::test]
    async fn chunks_that_two_readers_could_read_in_two_ways_are_refused() {
        for bytes in [
            &b"3\nabc\r\n0\r\n\r\n"[..],
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"+3\r\nabc\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"3 \r\nabc\r\n0\r\n\r\n",
            b"\r\n",
            b"ffffffffffffffff\r\nabc",
            b"3\r\nab",
            b"3\r\r\nabc\r\n0\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
        ] {
            for piece in [1, 1024] {
                assert!(
                    passed(Framing::Chunked, bytes, piece).await.is_none(),
                    "{bytes:?}"
                );
            }
        }
    }
}
