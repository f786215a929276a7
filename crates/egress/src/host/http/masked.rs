//! What a server says on a connection that is no HTTP any more, without the secrets that it was told: as long as it
//! was, since it is framed by whatever it is now.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::sought::Sought;
use super::withheld::{Out, Withheld};
use crate::limits;

/// How long a few bytes are kept back that nothing follows.
const QUIET: Duration = Duration::from_millis(20);

/// A server's side of a connection.
pub(in super::super) struct Masked<R> {
    from: R,
    withheld: Option<Withheld>,
    /// Where it is read to.
    come: BytesMut,
    /// What may go on.
    ready: Bytes,
    over: bool,
    quiet: Option<Pin<Box<Sleep>>>,
}

impl<R> Masked<R> {
    /// With nothing to look for it is passed on as it comes.
    pub(in super::super) fn new(from: R, sought: Option<Sought>) -> Self {
        Self {
            from,
            withheld: sought.map(|sought| Withheld::new(sought, Out::Masked)),
            come: BytesMut::new(),
            ready: Bytes::new(),
            over: false,
            quiet: None,
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Masked<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(withheld) = &mut this.withheld else {
            return Pin::new(&mut this.from).poll_read(cx, buffer);
        };
        loop {
            if !this.ready.is_empty() || this.over {
                let length = this.ready.len().min(buffer.remaining());
                buffer.put_slice(this.ready.get(..length).unwrap_or_default());
                this.ready.advance(length);
                return Poll::Ready(Ok(()));
            }
            let mut out = Vec::new();
            this.come.reserve(limits::COPY);
            match poll_read_buf(Pin::new(&mut this.from), cx, &mut this.come) {
                Poll::Ready(read) => {
                    this.over = read? == 0;
                    withheld.push(&this.come, &mut out);
                    this.come.clear();
                    if this.over {
                        withheld.let_go(&mut out);
                    }
                }
                Poll::Pending if !withheld.holds() => return Poll::Pending,
                Poll::Pending => {
                    let patience = withheld.patience(QUIET);
                    let until = || Box::pin(sleep_until(Instant::now() + patience));
                    let quiet = this.quiet.get_or_insert_with(until);
                    if quiet.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    withheld.let_go(&mut out);
                }
            }
            this.quiet = None;
            this.ready = out.into();
        }
    }
}
