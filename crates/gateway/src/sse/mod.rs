//! Event streams: what was missed (if the client says what it saw last), then what happens, until the
//! session is over or deleted, the server stops or the reader lags too far behind. It stores nothing and makes
//! no event.

pub(crate) mod frame;
pub(crate) mod preview;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use contract::error::{ApiError, ErrorKind};
use contract::ids::{EventId, SessionId, ThreadId};
use contract::query::StreamEvents;
use futures_util::stream;
use store::events::{Of, Stored};
use store::feed::{Ended, Item, Preview, PreviewKind, Subscription};
use tokio::time::Instant;

use crate::error::store_error;
use crate::gateway::Gateway;
use crate::limits::REPLAY_PAGE;
use crate::metrics::Limit;
use crate::reply::{self, Meta};
use crate::serve::handover::GoesOn;
use crate::shares::Seat;
use preview::{Previewed, Previews};

/// What one connection watches.
pub(crate) struct Watch {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) meta: Meta,
    pub(crate) id: SessionId,
    pub(crate) of: Of,
    /// The primary thread of the session.
    pub(crate) thread: ThreadId,
    pub(crate) deltas: StreamEvents,
    /// Made before anything was read.
    pub(crate) subscription: Subscription,
    /// The place of the last event the client saw.
    pub(crate) replay_after: Option<u64>,
    /// The session is over: nothing will happen in it any more.
    pub(crate) terminated: bool,
    /// Of the streams that its key may have open.
    pub(crate) _seat: Seat,
}

/// The response that streams.
pub(crate) fn respond(watch: Watch) -> Response {
    let writer = Writer::new(watch);
    let frames = stream::unfold(writer, |mut writer| async move {
        let bytes = writer.next().await?;
        Some((Ok::<_, Infallible>(bytes), writer))
    });
    let mut response = Response::new(Body::from_stream(frames));
    reply::stream_headers(response.headers_mut());
    response.extensions_mut().insert(GoesOn);
    response
}

/// Waiting events of which a resumed stream remembers that it has shown them in their place. More
/// cannot wait at once.
const REMEMBERED: usize = session::limits::INBOX as usize;

struct Writer {
    watch: Watch,
    previews: Previews,
    /// Reads the log from here before it follows the feed.
    replay: Option<u64>,
    /// The last place shown; the feed may repeat what was replayed.
    shown: u64,
    /// User events shown by the replay, the latest of them.
    replayed: VecDeque<EventId>,
    pending: VecDeque<Bytes>,
    ping_at: Instant,
    over: bool,
}

impl Writer {
    fn new(watch: Watch) -> Self {
        let wanted = [
            (watch.deltas.message_deltas, Previewed::Message),
            (watch.deltas.thinking_deltas, Previewed::Thinking),
        ];
        Self {
            previews: Previews::new(
                wanted
                    .into_iter()
                    .filter_map(|(on, kind)| on.then_some(kind)),
            ),
            replay: watch.replay_after,
            shown: watch.replay_after.unwrap_or(0),
            replayed: VecDeque::new(),
            pending: VecDeque::new(),
            ping_at: Instant::now() + watch.gateway.config.ping,
            over: false,
            watch,
        }
    }

    /// The next bytes; `None` at the end of the stream.
    ///
    /// Cancel safe: yes, what was taken from the feed is in `pending` before anything is awaited.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                self.ping_at = Instant::now() + self.watch.gateway.config.ping;
                return Some(bytes);
            }
            if self.over {
                return None;
            }
            if let Some(seq) = self.replay {
                self.read_log(seq).await;
                continue;
            }
            if self.watch.terminated {
                self.end(None);
                continue;
            }
            let gateway = Arc::clone(&self.watch.gateway);
            tokio::select! {
                biased;
                () = gateway.shutdown.cancelled() => self.end(Some(frame::GOODBYE)),
                item = self.watch.subscription.next() => match item {
                    Ok(item) => self.show(item),
                    Err(ended) => self.ended(ended),
                },
                () = tokio::time::sleep_until(self.ping_at) => self.pending.push_back(frame::PING),
            }
        }
    }

    /// Shows one page of what the client missed.
    async fn read_log(&mut self, seq: u64) {
        let read = self
            .watch
            .gateway
            .store
            .events_after(self.watch.id, seq, REPLAY_PAGE)
            .await;
        let events = match read {
            Ok(events) => events,
            // Deleted meanwhile: the feed brings the last words.
            Err(store::Error::NotFound(_)) => Vec::new(),
            Err(failure) => return self.fail(&store_error(failure, self.watch.meta)),
        };
        let more = events.len() == REPLAY_PAGE as usize;
        self.replay = events.last().and_then(|event| event.seq).filter(|_| more);
        for event in events {
            if event.kind.starts_with("user.") {
                if self.replayed.len() == REMEMBERED {
                    self.replayed.pop_front();
                }
                self.replayed.push_back(event.id);
            }
            self.event(&event);
        }
    }

    fn show(&mut self, item: Item) {
        match item {
            Item::Event(event) => self.event(&event),
            Item::Announced(event) => {
                // Its place may already have been shown by the replay.
                if self.is_mine(&event) && !self.replayed.contains(&event.id) {
                    self.frame(None, &event);
                }
            }
            Item::Preview(preview) => self.preview(&preview),
        }
    }

    fn event(&mut self, event: &Stored) {
        if event.seq.is_some_and(|seq| seq <= self.shown) {
            return;
        }
        self.shown = event.seq.unwrap_or(self.shown);
        if self.is_mine(event) {
            self.previews.stored(&event.kind, event.id);
            self.frame(Some(event.id), event);
        }
        // Whatever reads until the end of the stream must come to it (api.md §1.9).
        self.watch.terminated |= event.kind == "session.status_terminated";
    }

    fn preview(&mut self, preview: &Preview) {
        let mine = match self.watch.of {
            Of::Primary => preview.thread == self.watch.thread,
            Of::Thread(thread) => preview.thread == thread,
        };
        let Some(kind) = Previewed::named(preview.of).filter(|_| mine) else {
            return;
        };
        let (wanted, name) = match preview.kind {
            PreviewKind::Start => (self.previews.start(kind, preview.event), "event_start"),
            PreviewKind::Delta => (self.previews.delta(preview.event), "event_delta"),
        };
        if wanted {
            let name = frame::name(name, self.watch.meta.generation);
            self.pending
                .push_back(frame::transient(name, &preview.json));
        }
    }

    fn frame(&mut self, id: Option<EventId>, event: &Stored) {
        let name = frame::name(&event.kind, self.watch.meta.generation);
        self.pending
            .extend(frame::event(id, name, Arc::clone(&event.json)));
    }

    fn is_mine(&self, event: &Stored) -> bool {
        match self.watch.of {
            Of::Primary => event.on_primary,
            Of::Thread(thread) => event.thread == thread,
        }
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Deleted => self.end(None),
            Ended::Closed => self.end(Some(frame::GOODBYE)),
            Ended::Lagged => self.lagged(),
        }
    }

    fn lagged(&mut self) {
        self.watch.gateway.metrics.hit(Limit::StreamLag);
        self.fail(&ApiError::new(
            ErrorKind::Overloaded,
            "This connection did not read its events fast enough and was cut. Connect again, with \
                 Last-Event-ID or by reading the list first.",
        ));
    }

    /// Ends the stream with an error that the SDKs raise.
    fn fail(&mut self, error: &ApiError) {
        let meta = self.watch.meta;
        let json = error.envelope(meta.generation, &meta.request).to_string();
        self.end(Some(frame::transient("error", &json)));
    }

    fn end(&mut self, last: Option<Bytes>) {
        self.pending.extend(last);
        self.replay = None;
        self.over = true;
    }
}
