//! Runs: exactly the sessions with an open turn. Who holds one, which are due, and the wake-ups for
//! whoever takes them. All costs follow the number of open turns, never the number of sessions.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use contract::ids::SessionId;
use contract::time::Micros;
use session::Generation;
use tokio::sync::Notify;

use crate::error::Error;
use crate::store::{Store, on_back};

/// Who holds runs: one process of one start.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder(pub String);

/// A run that somebody should take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRun {
    /// The session.
    pub session: SessionId,
    /// The generation it has now; a claim makes the next one.
    pub generation: Generation,
    /// Since when it waits.
    pub due_at: Micros,
}

/// Wake-ups that outlive a missed poll: nothing signalled is lost before it is taken.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) wake: Notify,
    stops: Mutex<BTreeSet<SessionId>>,
    stopped: Notify,
    deleted: Notify,
}

impl Signals {
    /// The set holds at most the sessions with an open turn.
    pub(crate) fn stop(&self, session: SessionId) {
        let mut stops = self
            .stops
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        stops.insert(session);
        drop(stops);
        self.stopped.notify_one();
    }

    /// Sessions were deleted: what lies outside the store may be garbage now.
    pub(crate) fn deleted(&self) {
        self.deleted.notify_one();
    }

    pub(crate) fn take_stops(&self) -> BTreeSet<SessionId> {
        std::mem::take(
            &mut *self
                .stops
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

impl Store {
    /// Waits until a run may have become due since the last call. One waiter at a time; a wake-up with
    /// no waiter is kept for the next. Cancel safe.
    pub async fn run_due(&self) {
        self.signals().wake.notified().await;
    }

    /// Waits for sessions whose runner must stop what it does, because an interrupt waits. One waiter
    /// at a time. Cancel safe: what was not returned is returned by the next call.
    pub async fn stops(&self) -> BTreeSet<SessionId> {
        loop {
            let stopped = self.signals().stopped.notified();
            let stops = self.signals().take_stops();
            if !stops.is_empty() {
                return stops;
            }
            stopped.await;
        }
    }

    /// Waits until a session was deleted since the last call. One waiter at a time; a wake-up with no
    /// waiter is kept for the next. It names none: whoever owns things outside the store compares them
    /// with [`Store::existing`]. Cancel safe.
    pub async fn session_deleted(&self) {
        self.signals().deleted.notified().await;
    }

    /// Runs that are due at `now`, longest waiting first, and held ones whose lease has expired; also those
    /// that only a clock set back since can have put off for so long. With a cap on the turns of a workspace
    /// ([`crate::caps::Caps::turns`]), no more of each than it may still run.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn due_runs(&self, limit: u32, now: Micros) -> Result<Vec<DueRun>, Error> {
        let most = self.caps().turns;
        match most {
            None => on_back!(self, read, |c| runs::due(c, limit, now)),
            Some(most) => on_back!(self, read, |c| runs::due_fairly(c, limit, now, most)),
        }
    }

    /// When, after `now`, the next run becomes due or the next lease expires, if any does.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next_due(&self, now: Micros) -> Result<Option<Micros>, Error> {
        on_back!(self, read, |c| runs::next_due(c, now))
    }

    /// Makes every held run that is not `holder`'s due again: at start, when this process alone has the
    /// database. Returns how many.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn requeue_all(&self, holder: Holder, now: Micros) -> Result<u64, Error> {
        on_back!(self, write, |cx| runs::requeue_all(cx, &holder, now))
    }

    /// Gives a held run back, so that anyone may take it from `due_at` on. False if `generation` does
    /// not hold it any more; nothing changed then.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn release(
        &self,
        session: SessionId,
        generation: Generation,
        due_at: Micros,
    ) -> Result<bool, Error> {
        on_back!(self, write, |cx| runs::release(
            cx, session, generation, due_at
        ))
    }

    /// The runs that `holder` has, and under which generation each.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn held_by(&self, holder: Holder) -> Result<Vec<(SessionId, Generation)>, Error> {
        on_back!(self, read, |c| runs::held_by(c, &holder))
    }

    /// Prolongs the leases of `holder`'s runs to `ttl` from `now`, or for good, all in one transaction. Returns those
    /// that it does not hold any more under the generation it names: their runners must stop.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; then nothing is known and nothing changed.
    pub async fn renew_all(
        &self,
        holder: Holder,
        held: Vec<(SessionId, Generation)>,
        ttl: Option<Duration>,
        now: Micros,
    ) -> Result<Vec<SessionId>, Error> {
        on_back!(self, write, |cx| runs::renew_all(
            cx, &holder, &held, ttl, now
        ))
    }

    /// Prolongs the lease of a held run to `ttl` from `now`. False if `generation` does not hold it any
    /// more: the runner must stop.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn renew(
        &self,
        session: SessionId,
        generation: Generation,
        ttl: Duration,
        now: Micros,
    ) -> Result<bool, Error> {
        on_back!(self, write, |cx| runs::renew(
            cx, session, generation, ttl, now
        ))
    }
}
