//! The change feed of this process: what was committed, to whoever watches a session, and the previews
//! of what is being written. It never blocks the writer and costs nothing for a session nobody watches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::ids::{EnvironmentId, EventId, SessionId, ThreadId};
use tokio::sync::broadcast;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::events::Stored;
use crate::limits::{CHANGES, SUBSCRIBER_LAG};
use crate::stats::Counters;
use crate::store::Store;

/// Which part of a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewKind {
    /// `event_start`.
    Start,
    /// `event_delta`.
    Delta,
}

/// A preview of an event that is still being written. Never stored.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The thread it belongs to.
    pub thread: ThreadId,
    /// The event it will become.
    pub event: EventId,
    /// That event's type: `agent.message` or `agent.thinking`.
    pub of: &'static str,
    /// Which part.
    pub kind: PreviewKind,
    /// The frame's data as JSON.
    pub json: Arc<str>,
}

/// What a subscriber sees.
#[derive(Debug, Clone)]
pub enum Item {
    /// An event took its place.
    Event(Arc<Stored>),
    /// An event was accepted and waits; it appears again when it takes its place.
    Announced(Arc<Stored>),
    /// Part of an event that is being written.
    Preview(Arc<Preview>),
}

/// Why a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The session was deleted.
    Deleted,
    /// The subscriber lagged too far behind: it reconnects and reads what it missed from the list.
    Lagged,
    /// The store is being closed.
    Closed,
}

#[derive(Debug)]
struct Seat {
    tag: u64,
    items: Sender<Item>,
    lagged: Arc<AtomicBool>,
    deleted: Arc<AtomicBool>,
    /// The event of which this watcher gets no more previews: one was shed, and what follows a gap would
    /// be no prefix of the event.
    shed: Option<EventId>,
}

impl Seat {
    /// Hands over one item; false if there is no room for it. Previews only ever fill half of the room: a
    /// reader that is slow loses them long before it loses its stream.
    fn offer(&mut self, item: &Item) -> bool {
        if let Item::Preview(preview) = item {
            let crowded = self.items.capacity() * 2 < self.items.max_capacity();
            if self.shed == Some(preview.event) || crowded {
                self.shed = Some(preview.event);
                return true;
            }
        }
        self.items.try_send(item.clone()).is_ok()
    }
}

/// A definition that changed, on which depends what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// An environment.
    Environment(EnvironmentId),
    /// What a session is made of: its agent.
    Session(SessionId),
}

/// Who is told of [`Changed`].
#[derive(Debug)]
struct Changes(broadcast::Sender<Changed>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(CHANGES))
    }
}

/// Who watches what.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    seats: Mutex<HashMap<SessionId, Vec<Seat>>>,
    changes: Changes,
    tags: AtomicU64,
}

impl Feed {
    fn seats(&self) -> MutexGuard<'_, HashMap<SessionId, Vec<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands items to the watchers of a session; cuts those that lag.
    pub(crate) fn publish(&self, session: SessionId, items: &[Item], counters: &Counters) {
        let mut seats = self.seats();
        let Some(watching) = seats.get_mut(&session) else {
            return;
        };
        watching.retain_mut(|seat| {
            let fits = items.iter().all(|item| seat.offer(item));
            if !fits {
                seat.lagged.store(true, Ordering::Release);
                counters.cut.fetch_add(1, Ordering::Relaxed);
            }
            fits
        });
        if watching.is_empty() {
            seats.remove(&session);
        }
    }

    /// A definition changed. It was committed before.
    pub(crate) fn changed(&self, what: Changed) {
        // Nobody may be listening.
        let _ = self.changes.0.send(what);
    }

    /// The session is gone: its watchers get what was published and then the end.
    pub(crate) fn end(&self, session: SessionId) {
        for seat in self.seats().remove(&session).unwrap_or_default() {
            seat.deleted.store(true, Ordering::Release);
        }
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.seats().clear();
    }

    fn leave(&self, session: SessionId, tag: u64) {
        let mut seats = self.seats();
        if let Some(watching) = seats.get_mut(&session) {
            watching.retain(|s| s.tag != tag);
            if watching.is_empty() {
                seats.remove(&session);
            }
        }
    }
}

/// One watcher of one session. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    session: SessionId,
    tag: u64,
    items: Receiver<Item>,
    lagged: Arc<AtomicBool>,
    deleted: Arc<AtomicBool>,
    store: Store,
}

impl Subscription {
    /// The next item, or why there is none any more. Cancel safe.
    ///
    /// # Errors
    /// [`Ended`], once everything published before it was returned; and again on every later call.
    pub async fn next(&mut self) -> Result<Item, Ended> {
        match self.items.recv().await {
            Some(item) => Ok(item),
            None if self.lagged.load(Ordering::Acquire) => Err(Ended::Lagged),
            None if self.deleted.load(Ordering::Acquire) => Err(Ended::Deleted),
            None => Err(Ended::Closed),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.store.feed().leave(self.session, self.tag);
    }
}

impl Store {
    /// Watches a session from now on: everything committed after this call is seen, in order. Subscribe
    /// first, then read the list. That the session exists is not checked.
    #[must_use]
    pub fn subscribe(&self, session: SessionId) -> Subscription {
        self.subscribe_with(session, SUBSCRIBER_LAG)
    }

    /// As [`Store::subscribe`] with another bound on how far the watcher may lag.
    #[must_use]
    pub fn subscribe_with(&self, session: SessionId, lag: usize) -> Subscription {
        let (sender, items) = channel(lag);
        let tag = self.feed().tags.fetch_add(1, Ordering::Relaxed);
        let lagged = Arc::<AtomicBool>::default();
        let deleted = Arc::<AtomicBool>::default();
        let seat = Seat {
            tag,
            items: sender,
            lagged: Arc::clone(&lagged),
            deleted: Arc::clone(&deleted),
            shed: None,
        };
        self.feed().seats().entry(session).or_default().push(seat);
        Subscription {
            session,
            tag,
            items,
            lagged,
            deleted,
            store: self.clone(),
        }
    }

    /// Definitions that change from now on, after their commit. Who lags behind is told so, and looks at all.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.feed().changes.0.subscribe()
    }

    /// True if anyone watches the session: otherwise a preview need not be made.
    #[must_use]
    pub fn is_watched(&self, session: SessionId) -> bool {
        self.feed().seats().contains_key(&session)
    }

    /// Shows part of an event that is being written to whoever watches. Never blocks.
    pub fn publish_preview(&self, session: SessionId, preview: Preview) {
        let item = Item::Preview(Arc::new(preview));
        self.feed().publish(session, &[item], self.counters());
    }
}
