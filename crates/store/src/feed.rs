//! The change feed of this process: what was committed, to whoever watches a session, and the previews
//! of what is being written. It never blocks the writer and costs nothing for a session nobody watches.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::ids::{EnvironmentId, EventId, SessionId, ThreadId, VaultId};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Notify, broadcast};

use crate::events::Stored;
use crate::faults::{self, Fault};
use crate::limits::{ANNOUNCED, CHANGES, SUBSCRIBER_LAG};
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
    /// The place of the event that this watcher gets next, if others commit as well; none if any may be the next.
    next: Option<u64>,
    /// Whether it is known from where on it watches. Until then nothing is shown if others commit as well: what one of
    /// them committed before would be missing.
    begun: bool,
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

    /// What [`Self::offer`] does, for items of which another server may have committed what lies before: what is out
    /// of its turn is not taken, but read from the log.
    fn take_in_turn(&mut self, item: &Item) -> Took {
        let Item::Event(event) = item else {
            return Took::of(self.offer(item));
        };
        let Some(seq) = event.seq else {
            return Took::of(self.offer(item));
        };
        match self.next {
            None if !self.begun => Took::Fits,
            Some(next) if seq > next && !faults::on(Fault::GapShown) => Took::Gap,
            Some(next) if seq < next && !faults::on(Fault::ShownAgain) => Took::Fits,
            _ => {
                self.next = Some(seq + 1);
                Took::of(self.offer(item))
            }
        }
    }
}

/// What became of an item.
#[derive(PartialEq, Eq)]
enum Took {
    Fits,
    NoRoom,
    /// Something lies before it.
    Gap,
}

impl Took {
    fn of(fits: bool) -> Self {
        if fits { Self::Fits } else { Self::NoRoom }
    }
}

/// The watchers of one session.
#[derive(Debug, Default)]
struct Watched {
    seats: Vec<Seat>,
    /// User events that were shown, waiting or in their place, the latest of them: among several servers nobody is
    /// told once only.
    shown: VecDeque<EventId>,
}

impl Watched {
    /// Whether an event that waits is to be shown.
    fn is_new(&mut self, item: &Item) -> bool {
        let (id, waits) = match item {
            Item::Announced(event) => (event.id, true),
            Item::Event(event) if event.kind.starts_with("user.") => (event.id, false),
            Item::Event(_) | Item::Preview(_) => return true,
        };
        if self.shown.contains(&id) {
            return !waits;
        }
        if self.shown.len() == ANNOUNCED {
            self.shown.pop_front();
        }
        self.shown.push_back(id);
        true
    }
}

/// A definition that changed, on which depends what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// An environment.
    Environment(EnvironmentId),
    /// What a session is made of: its agent.
    Session(SessionId),
    /// Another server has changed something, or may have.
    Anything,
    /// Which threads a session has: a client archived one.
    Threads(SessionId),
    /// A vault, or a credential in it.
    Vault(VaultId),
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
    seats: Mutex<HashMap<SessionId, Watched>>,
    changes: Changes,
    tags: AtomicU64,
    /// Whether other servers commit as well.
    linked: AtomicBool,
    /// Watched sessions of which something may be in the log that their watchers have not seen.
    behind: Mutex<BTreeSet<SessionId>>,
    fell: Notify,
}

impl Feed {
    fn seats(&self) -> MutexGuard<'_, HashMap<SessionId, Watched>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands items to the watchers of a session; cuts those that lag.
    pub(crate) fn publish(&self, session: SessionId, items: &[Item], counters: &Counters) {
        let linked = self.linked.load(Ordering::Acquire);
        let mut seats = self.seats();
        let Some(watched) = seats.get_mut(&session) else {
            return;
        };
        let mut gap = false;
        let new = items.iter().map(|item| !linked || watched.is_new(item));
        let new = new.collect::<Vec<_>>();
        watched.seats.retain_mut(|seat| {
            let mut fits = true;
            for item in items
                .iter()
                .zip(&new)
                .filter_map(|(item, new)| new.then_some(item))
            {
                let took = if linked {
                    seat.take_in_turn(item)
                } else {
                    Took::of(seat.offer(item))
                };
                gap |= took == Took::Gap;
                fits &= took != Took::NoRoom;
                if took == Took::NoRoom {
                    break;
                }
            }
            if !fits {
                seat.lagged.store(true, Ordering::Release);
                counters.cut.fetch_add(1, Ordering::Relaxed);
            }
            fits
        });
        if watched.seats.is_empty() {
            seats.remove(&session);
        }
        drop(seats);
        if gap {
            self.fall_behind(session);
        }
    }

    /// Other servers commit as well: what is published is shown in the order of the log, and what is missing is asked
    /// for.
    pub(crate) fn link(&self) {
        self.linked.store(true, Ordering::Release);
    }

    /// Something of the session may be in the log that its watchers have not seen.
    pub(crate) fn fall_behind(&self, session: SessionId) {
        if self.is_watched(session) {
            self.behind().insert(session);
            self.fell.notify_one();
        }
    }

    /// The same of all sessions that are watched.
    pub(crate) fn all_fall_behind(&self) {
        let watched = self.seats().keys().copied().collect::<Vec<_>>();
        self.behind().extend(watched);
        self.fell.notify_one();
    }

    /// Waits for a session whose log is to be read for its watchers. One waiter at a time. Cancel safe.
    pub(crate) async fn fallen(&self) -> SessionId {
        loop {
            let fell = self.fell.notified();
            if let Some(session) = self.behind().pop_first() {
                return session;
            }
            fell.await;
        }
    }

    /// The place from which on a watcher of the session lacks events; none if nobody knows one.
    pub(crate) fn wants(&self, session: SessionId) -> Option<u64> {
        let seats = self.seats();
        let watched = seats.get(&session)?;
        watched.seats.iter().filter_map(|seat| seat.next).min()
    }

    /// The session is gone: its watchers get its last words, whatever they lack before them, and then the end.
    pub(crate) fn last_words(&self, session: SessionId, words: &[Item], counters: &Counters) {
        if let Some(watched) = self.seats().get_mut(&session) {
            for seat in &mut watched.seats {
                (seat.next, seat.begun) = (None, true);
            }
        }
        self.publish(session, words, counters);
        self.end(session);
    }

    fn behind(&self) -> MutexGuard<'_, BTreeSet<SessionId>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_watched(&self, session: SessionId) -> bool {
        self.seats().contains_key(&session)
    }

    /// A definition changed. It was committed before.
    pub(crate) fn changed(&self, what: Changed) {
        // Nobody may be listening.
        let _ = self.changes.0.send(what);
    }

    /// The session is gone: its watchers get what was published and then the end.
    pub(crate) fn end(&self, session: SessionId) {
        for seat in self.seats().remove(&session).unwrap_or_default().seats {
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
            watching.seats.retain(|s| s.tag != tag);
            if watching.seats.is_empty() {
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

impl Subscription {
    /// The session was read since this began, and its next event has the place `next`: all from there on are seen,
    /// whoever commits them. Needed only where several servers commit.
    pub fn begin_at(&self, next: u64) {
        let feed = self.store.feed();
        if let Some(watched) = feed.seats().get_mut(&self.session)
            && let Some(seat) = watched.seats.iter_mut().find(|seat| seat.tag == self.tag)
        {
            (seat.next, seat.begun) = (Some(next), true);
        }
        if feed.linked.load(Ordering::Acquire) {
            feed.fall_behind(self.session);
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
            next: None,
            begun: false,
        };
        let mut seats = self.feed().seats();
        seats.entry(session).or_default().seats.push(seat);
        drop(seats);
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
        self.feed().is_watched(session)
    }

    /// Shows part of an event that is being written to whoever watches. Never blocks.
    pub fn publish_preview(&self, session: SessionId, preview: Preview) {
        let item = Item::Preview(Arc::new(preview));
        self.feed().publish(session, &[item], self.counters());
    }
}
