//! How one server keeps up with the others that commit to its database, whichever it is: it hears that something was
//! committed, reads what changed, says that it is there, and shows those who watch here what was committed elsewhere.
//! What is not heard costs a delay of a beat, never an event. It must never believe news: everything is read.

use std::convert::Infallible;

use contract::ids::SessionId;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use crate::error::{Cause, Error};
use crate::events::Stored;
use crate::faults::{self, Fault};
use crate::feed::{Changed, Item};
use crate::limits;
use crate::store::Shared;

/// Events read at once for those who watch a session.
const PAGE: u32 = 500;

/// Beats between two sweeps of what was read long since.
const SWEEP_EVERY: u64 = 30;

/// What is asked of the database on the one connection of a link. An error is the end of that connection.
pub(crate) trait Bond: Sync {
    /// How far the changes of others were read.
    type Reader: Default + Send;

    /// Is there from now on, and hears of what is told.
    fn enter(&self) -> impl Future<Output = Result<(), Cause>> + Send;
    /// Tells this server what changed since the last call. The first tells nothing.
    fn read(&self, reader: &mut Self::Reader) -> impl Future<Output = Result<(), Cause>> + Send;
    /// Wakes the others.
    fn tell(&self) -> impl Future<Output = Result<(), Cause>> + Send;
    /// Is there still. Whether somebody who is not there any more holds runs.
    fn beat(&self) -> impl Future<Output = Result<bool, Cause>> + Send;
    /// Removes what every server has read long since.
    fn sweep(&self) -> impl Future<Output = Result<(), Cause>> + Send;
    /// Sessions that this server runs.
    fn held(&self) -> impl Future<Output = Result<Vec<SessionId>, Cause>> + Send;
}

/// Where what was committed elsewhere is read for those who watch it here.
pub(crate) trait Log: Sync {
    /// Events of the session behind that place.
    fn after(
        &self,
        session: SessionId,
        seq: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Stored>, Error>> + Send;
    /// Those that wait.
    fn announced(
        &self,
        session: SessionId,
    ) -> impl Future<Output = Result<Vec<Stored>, Error>> + Send;
}

/// Keeps up over one connection until it breaks. `heard` is told that others have committed something, `told` that this
/// server has.
pub(crate) async fn keep_up<B: Bond>(
    bond: &B,
    shared: &Shared,
    heard: &Notify,
    told: &Notify,
) -> Result<Infallible, Cause> {
    bond.enter().await?;
    let mut reader = B::Reader::default();
    bond.read(&mut reader).await?;
    shared.fresh.read_now();
    anew(bond, shared).await?;
    // Side by side: who hears much must not keep silent, nor the other way round.
    tokio::select! {
        biased;
        broke = hears(bond, shared, heard, reader) => broke,
        broke = tells(bond, told) => broke,
    }
}

async fn tells<B: Bond>(bond: &B, told: &Notify) -> Result<Infallible, Cause> {
    loop {
        told.notified().await;
        bond.tell().await?;
    }
}

async fn hears<B: Bond>(
    bond: &B,
    shared: &Shared,
    heard: &Notify,
    mut reader: B::Reader,
) -> Result<Infallible, Cause> {
    let mut beat = tokio::time::interval(limits::BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut read_at, mut beats) = (Instant::now(), 0_u64);
    loop {
        tokio::select! {
            // It comes first: whoever is told something all the time is there as well.
            biased;
            _ = beat.tick() => {
                // What it would have to read may have been swept meanwhile.
                if read_at.elapsed() > limits::CHANGES_KEPT / 2 {
                    anew(bond, shared).await?;
                }
                beats += 1;
                if beats % SWEEP_EVERY == 0 {
                    bond.sweep().await?;
                }
                if bond.beat().await? {
                    shared.signals.wake.notify_one();
                }
                if faults::on(Fault::BeatReadsNothing) {
                    continue;
                }
            }
            () = heard.notified() => {}
        }
        bond.read(&mut reader).await?;
        shared.fresh.read_now();
        read_at = Instant::now();
    }
}

/// Forgets what is remembered and looks at everything: nobody knows what was missed.
async fn anew<B: Bond>(bond: &B, shared: &Shared) -> Result<(), Cause> {
    shared.keys.forget();
    shared.grounds.forget();
    shared.feed.changed(Changed::Anything);
    shared.feed.all_fall_behind();
    for session in bond.held().await? {
        shared.signals.stop(session);
    }
    shared.signals.deleted();
    shared.signals.wake.notify_one();
    Ok(())
}

/// Shows what was committed elsewhere to those who watch it here, for ever.
pub(crate) async fn catch_up<L: Log>(log: &L, shared: &Shared) -> Infallible {
    loop {
        let session = shared.feed.fallen().await;
        let caught_up = timeout(limits::CONNECT, caught_up(log, shared, session)).await;
        match caught_up.unwrap_or_else(|_| Err(Error::Unavailable("no answer in time".into()))) {
            Ok(()) => {}
            Err(Error::NotFound(_)) => shared.feed.end(session),
            Err(error) => {
                tracing::warn!(session_id = %session, %error, "streams wait for their events");
                shared.feed.fall_behind(session);
                // The database may be away: not in a busy loop.
                tokio::time::sleep(limits::BEAT / 10).await;
            }
        }
    }
}

/// Shows what a session's watchers here have not seen.
async fn caught_up<L: Log>(log: &L, shared: &Shared, session: SessionId) -> Result<(), Error> {
    let (feed, counters) = (&shared.feed, &shared.counters);
    while let Some(from) = feed.wants(session) {
        let found = log.after(session, from.saturating_sub(1), PAGE).await?;
        let (read, items) = (found.len(), found.into_iter());
        let items = items.map(|event| Item::Event(event.into()));
        feed.publish(session, &items.collect::<Vec<_>>(), counters);
        if read < PAGE as usize {
            break;
        }
    }
    if feed.is_watched(session) {
        let waiting = log.announced(session).await?.into_iter();
        let items = waiting.map(|event| Item::Announced(event.into()));
        feed.publish(session, &items.collect::<Vec<_>>(), counters);
    }
    Ok(())
}
