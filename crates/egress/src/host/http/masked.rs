//! What a server says on a connection that is no HTTP any more, without the secrets that it was told: as long as it
//! was, since it is framed by whatever it is now.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;
use vault::scrub::Forms;

use crate::limits;

/// How long something is kept back that nothing follows.
const QUIET: Duration = Duration::from_millis(20);

/// A server's side of a connection.
pub(in super::super) struct Masked<R> {
    from: R,
    forms: Option<Arc<Forms>>,
    /// What has come; the first bytes of it may go on.
    come: BytesMut,
    ready: usize,
    over: bool,
    quiet: Option<Pin<Box<Sleep>>>,
}

impl<R> Masked<R> {
    /// With nothing to look for it is passed on as it comes.
    pub(in super::super) fn new(from: R, forms: Option<Arc<Forms>>) -> Self {
        Self {
            from,
            forms,
            come: BytesMut::new(),
            ready: 0,
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
        let Some(forms) = &this.forms else {
            return Pin::new(&mut this.from).poll_read(cx, buffer);
        };
        loop {
            if this.ready > 0 || this.over {
                let length = this.ready.min(buffer.remaining());
                buffer.put_slice(this.come.get(..length).unwrap_or_default());
                this.come.advance(length);
                this.ready -= length;
                return Poll::Ready(Ok(()));
            }
            this.come.reserve(limits::COPY);
            match poll_read_buf(Pin::new(&mut this.from), cx, &mut this.come) {
                Poll::Ready(read) => {
                    this.quiet = None;
                    forms.mask(&mut this.come);
                    this.over = read? == 0;
                    let kept = if this.over {
                        0
                    } else {
                        forms.begun(&this.come)
                    };
                    this.ready = this.come.len() - kept;
                }
                Poll::Pending if this.come.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    let until = || Box::pin(sleep_until(Instant::now() + QUIET));
                    let quiet = this.quiet.get_or_insert_with(until);
                    if quiet.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    this.quiet = None;
                    this.ready = this.come.len();
                }
            }
        }
    }
}
