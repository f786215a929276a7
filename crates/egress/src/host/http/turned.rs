//! A body that comes out other than it goes in, piece by piece: unpacked, and with something in it replaced. It must
//! never hold more of it than a piece, nor keep back for long what may be nothing.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use vault::scrub::Forms;

use super::super::limits::{LOOKED_THROUGH, TURNED};
use super::body::Sent;
use super::sought::Sought;
use super::withheld::{Out, Withheld};
use crate::inject::{Stream, Unpack};

/// How long a few bytes are kept back that nothing follows: whoever sends one message at a time waits for the answer.
const QUIET: Duration = Duration::from_millis(250);

pub(super) type Wrong = Box<dyn std::error::Error + Send + Sync>;

/// What is done to each piece of a body.
pub(super) trait Turn: Unpin {
    /// Takes the next piece and appends to `out` what is decided by now.
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong>;
    /// Bytes of a piece that are to be taken at one time, so that what comes of them is not much longer.
    fn step(&self) -> usize;
    /// Whether what is kept back goes on when nothing follows it for a while.
    fn is_impatient(&self) -> bool;
    /// Appends what was kept back.
    fn let_go(&mut self, out: &mut Vec<u8>);
    /// How long that while is.
    fn patience(&self) -> Duration {
        QUIET
    }
    /// Takes the fields behind the body.
    fn trailers(&self, _: &mut HeaderMap) {}
}

impl Turn for Stream {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
        Ok(Self::push(self, piece, out)?)
    }

    fn step(&self) -> usize {
        Self::step(self)
    }

    fn is_impatient(&self) -> bool {
        self.holds_little()
    }

    fn let_go(&mut self, out: &mut Vec<u8>) {
        Self::let_go(self, out);
    }
}

/// Takes secrets out of an answer.
pub(super) struct Scrub(Withheld, Arc<Forms>);

impl Scrub {
    pub(super) fn new(forms: Arc<Forms>) -> Self {
        let sought = Sought::of(Some(Arc::clone(&forms)));
        Self(Withheld::new(sought, Out::Replaced), forms)
    }
}

impl Turn for Scrub {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
        self.0.push(piece, out);
        Ok(())
    }

    fn step(&self) -> usize {
        LOOKED_THROUGH
    }

    fn is_impatient(&self) -> bool {
        self.0.holds()
    }

    fn let_go(&mut self, out: &mut Vec<u8>) {
        self.0.let_go(out);
    }

    fn patience(&self) -> Duration {
        self.0.patience(QUIET)
    }

    fn trailers(&self, trailers: &mut HeaderMap) {
        scrub(&self.1, trailers);
    }
}

/// Takes secrets out of fields; one that has any in its name goes.
pub(super) fn scrub(forms: &Arc<Forms>, headers: &mut HeaderMap) {
    let named: Vec<_> = headers
        .keys()
        .filter(|name| forms.are_in_name(name.as_str()))
        .cloned()
        .collect();
    for name in named {
        headers.remove(name);
    }
    for value in headers.values_mut() {
        if let Some(clean) = forms.whole(value.as_bytes())
            && let Ok(clean) = HeaderValue::from_bytes(&clean)
        {
            *value = clean;
        }
    }
}

/// A body on its way through a turn.
pub(super) struct Turned<B, T> {
    body: B,
    unpack: Option<Unpack>,
    turn: T,
    /// What has come and is not unpacked.
    pending: Bytes,
    /// What is unpacked, or was never packed, and not turned.
    plain: Bytes,
    trailers: Option<HeaderMap>,
    /// Nothing more comes.
    ended: bool,
    /// Nothing more goes on but the trailers.
    over: bool,
    quiet: Option<Pin<Box<Sleep>>>,
}

impl<B, T> Turned<B, T> {
    pub(super) fn new(body: B, unpack: Option<Unpack>, turn: T) -> Self {
        Self {
            body,
            unpack,
            turn,
            pending: Bytes::new(),
            plain: Bytes::new(),
            trailers: None,
            ended: false,
            over: false,
            quiet: None,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin, T: Turn> Turned<B, T>
where
    B::Error: Into<Wrong>,
{
    /// What comes of the next bytes that are here, as far as it is short: the rest waits until that has gone on.
    fn turn(&mut self, out: &mut Vec<u8>) -> Result<(), Wrong> {
        if self.plain.is_empty() {
            self.plain = match &mut self.unpack {
                None => std::mem::take(&mut self.pending),
                Some(unpack) => {
                    let step = self.pending.split_to(Unpack::step(self.pending.len()));
                    unpack.push(&step)?.into()
                }
            };
        }
        while !self.plain.is_empty() && out.len() < TURNED {
            let step = self.plain.len().min(self.turn.step());
            self.turn.push(&self.plain.split_to(step), out)?;
        }
        Ok(())
    }

    /// Nothing more comes.
    fn end(&mut self) -> Result<(), Wrong> {
        self.ended = true;
        if let Some(unpack) = &mut self.unpack {
            self.plain = unpack.end()?.into();
        }
        Ok(())
    }

    /// Whether nothing has followed what is kept back for a while.
    fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.turn.is_impatient() {
            return false;
        }
        let patience = self.turn.patience();
        let until = || Box::pin(sleep_until(Instant::now() + patience));
        let quiet = self.quiet.get_or_insert_with(until);
        let is_quiet = quiet.as_mut().poll(cx).is_ready();
        if is_quiet {
            self.quiet = None;
        }
        is_quiet
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Wrong>>> {
        let mut out = Vec::new();
        loop {
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
            if !self.pending.is_empty() || !self.plain.is_empty() {
                self.turn(&mut out)?;
                continue;
            }
            if self.over {
                let trailers = self.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            if self.ended {
                self.over = true;
                self.turn.let_go(&mut out);
                continue;
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending if self.is_quiet(cx) => {
                    self.turn.let_go(&mut out);
                    continue;
                }
                Poll::Pending => return Poll::Pending,
            };
            self.quiet = None;
            let frame = frame.transpose().map_err(Into::into)?;
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => self.pending = data,
                Some(Err(other)) => {
                    self.trailers = other.into_trailers().ok();
                    if let Some(trailers) = &mut self.trailers {
                        self.turn.trailers(trailers);
                    }
                    self.end()?;
                }
                None => self.end()?,
            }
        }
    }
}

/// A request's body, into which credentials are put.
pub(super) type Spent = Turned<Sent, Stream>;

impl Spent {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Wrong>>> {
        self.poll(cx)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.over && self.trailers.is_none() && self.pending.is_empty()
    }

    /// How long it is, where nothing in it changes.
    pub(super) fn size_hint(&self) -> SizeHint {
        let here = (self.turn.held() + self.pending.len() + self.plain.len()) as u64;
        match self.body.size_hint().exact() {
            Some(length) if !self.turn.changes() => SizeHint::with_exact(length + here),
            _ => SizeHint::default(),
        }
    }
}

/// A server's answer, as it goes back.
pub(super) enum Got {
    /// As it comes.
    Plain(hyper::body::Incoming),
    /// It was read already.
    Whole(Option<Bytes>),
    /// Secrets are taken out of it.
    Scrubbed(Box<Turned<hyper::body::Incoming, Scrub>>),
}

impl Body for Got {
    type Data = Bytes;
    type Error = Wrong;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Wrong>>> {
        match self.get_mut() {
            Self::Plain(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Self::Whole(whole) => Poll::Ready(whole.take().map(|whole| Ok(Frame::data(whole)))),
            Self::Scrubbed(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Whole(whole) => whole.is_none(),
            Self::Scrubbed(body) => body.over && body.trailers.is_none() && body.pending.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Whole(whole) => SizeHint::with_exact(whole.as_ref().map_or(0, Bytes::len) as u64),
            Self::Scrubbed(_) => SizeHint::default(),
        }
    }
}
