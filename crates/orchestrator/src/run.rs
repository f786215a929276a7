//! One run: claim, work, end. Whatever goes wrong ends in a fact the session shows, or leaves
//! the run to the next claim; never in silence.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use contract::ids::SessionId;
use futures_util::FutureExt as _;
use harness::causes::chain;
use harness::{PlaneError, Step};
use session::Generation;
use store::SubmitError;
use store::sessions::{Committed, Scope};
use tokio::sync::OwnedSemaphorePermit;

use crate::active::Active;
use crate::crew::Crew;
use crate::endpoint::NoEndpoint;
use crate::faults::{self, Fault};
use crate::loss::Loss;
use crate::{Inner, SHORTEST_PAUSE};

/// How long a run that could not go on waits before somebody takes it again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Unregisters a run when its task ends, however it ends.
pub(crate) struct Ends {
    pub(crate) inner: Arc<Inner>,
    pub(crate) session: SessionId,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.inner.active().remove(&self.session);
        // Before the wake-up, or whoever looks again finds no room and looks no more.
        drop(self.permit.take());
        self.inner.again.notify_one();
    }
}

/// Runs one turn to its end.
pub(crate) async fn turn(inner: &Arc<Inner>, session: SessionId, active: Active) {
    if inner.draining.is_cancelled() {
        // It stays due, and nothing of it is in flight.
        return;
    }
    let (now, entropy) = (inner.now(), inner.config.clock.entropy());
    let claimed = inner
        .store
        .claim(session, inner.holder.clone(), inner.lease(), now, entropy)
        .await;
    let claimed = match claimed {
        Ok(claimed) => claimed,
        // Somebody else was first; or was at the session for another reason, and the run is still due.
        Err(SubmitError::Held { .. }) => {
            if inner.replica.is_some() {
                tokio::time::sleep(SHORTEST_PAUSE).await;
                inner.look_again();
            }
            return;
        }
        // There is nothing left to do.
        Err(SubmitError::NotFound | SubmitError::Refused(_)) => return,
        Err(error) => {
            // The run stays due. Whoever looks next comes no sooner than this.
            tracing::error!(session_id = %session, error = %chain(&error), "run not claimed");
            pause(inner).await;
            return;
        }
    };
    let generation = claimed.state.generation;
    active.hold(generation);
    // A defect ends its run, not the process.
    let worked = AssertUnwindSafe(work(inner, claimed, active.clone()))
        .catch_unwind()
        .await;
    let Err(error) = worked.unwrap_or_else(|_| Err(PlaneError::Bug("the run panicked".to_owned())))
    else {
        inner.sandboxes.flush(session);
        return;
    };
    // A run whose lease is gone ends as if we stopped; only here it is known why.
    let error = if active.is_lost() {
        PlaneError::Lost
    } else {
        error
    };
    match &error {
        PlaneError::Lost | PlaneError::Stopping => {
            tracing::info!(session_id = %session, reason = %error, "run put down");
            if matches!(error, PlaneError::Stopping) {
                hand_back(inner, session, generation).await;
            }
            return;
        }
        PlaneError::Unavailable(_) | PlaneError::Bug(_) => {
            tracing::error!(session_id = %session, error = %chain(&error), "run failed");
        }
    }
    tokio::select! {
        biased;
        // Somebody else has it, and this session's next turn may wait for the end of this one.
        () = active.until_lost() => {}
        () = give_back(inner, session, generation) => {}
    }
}

/// Lets somebody else have the run at once instead of when its lease ends. If the store cannot take it now,
/// the lease does.
async fn hand_back(inner: &Inner, session: SessionId, generation: Generation) {
    if faults::on(Fault::HandBackDropped) {
        return;
    }
    let now = inner.now();
    if let Err(error) = inner.store.release(session, generation, now).await {
        tracing::warn!(session_id = %session, error = %chain(&error), "run not handed back");
    }
}

/// Makes the run due again, for whoever claims it next to settle; the core bounds how often. A store
/// that cannot take it is asked again: a run nobody gives back would stand still until a restart.
async fn give_back(inner: &Inner, session: SessionId, generation: Generation) {
    if faults::on(Fault::GiveBackDropped) {
        return;
    }
    loop {
        pause(inner).await;
        match inner.store.release(session, generation, inner.now()).await {
            Ok(_) => return,
            Err(error) => {
                tracing::error!(session_id = %session, error = %chain(&error), "run not released");
            }
        }
        // Asked once more all the same: what failed just before the end must not wait for its lease.
        if inner.stopping.is_cancelled() {
            return;
        }
    }
}

/// Makes due again what this server holds without working on it: the answer to its claim was lost, or came when nobody
/// waited for it any more. Alone it would wait for the end of the lease; among several it has none, and would wait for
/// ever.
pub(crate) async fn give_back_unknown(inner: &Inner) {
    if faults::on(Fault::LostClaimKept) {
        return;
    }
    let held = match inner.store.held_by(inner.holder.clone()).await {
        Ok(held) => held,
        Err(error) => {
            tracing::error!(error = %chain(&error), "what this server holds cannot be read");
            return;
        }
    };
    // After that was read: whoever claims is known here before, and what has ended since is not held any more.
    for (session, generation) in held.into_iter().filter(|(id, _)| !inner.runs(*id)) {
        match inner.store.release(session, generation, inner.now()).await {
            Ok(true) => {
                tracing::warn!(session_id = %session, "a turn was held and not run; it is due again");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(session_id = %session, error = %chain(&error), "run not released");
            }
        }
    }
}

async fn pause(inner: &Inner) {
    let _ = inner
        .stopping
        .run_until_cancelled(tokio::time::sleep(AGAIN_AFTER))
        .await;
}

async fn work(inner: &Arc<Inner>, claimed: Committed, active: Active) -> Result<(), PlaneError> {
    if claimed.step == Step::Rest && claimed.others.is_empty() {
        return Ok(());
    }
    let row = inner.store.session(Scope::Any, claimed.session).await;
    let row = row.map_err(|e| PlaneError::Unavailable(Box::new(e)))?;
    let model = match crate::endpoint::of(inner, &row).await {
        Ok(endpoint) => Ok(endpoint),
        Err(NoEndpoint::Unusable(message)) => Err(message),
        Err(NoEndpoint::Unread(error)) => return Err(PlaneError::Unavailable(Box::new(error))),
    };
    let lost = lost_workspace(inner, claimed.session).await?;
    let (session, generation) = (claimed.session, claimed.state.generation);
    let crew = Crew::new(Arc::clone(inner), row, &claimed, model, active, lost)?;
    let worked = Arc::clone(&crew).work(claimed).await;
    crew.close_door().await;
    worked?;
    if crew.has_used_sandbox() {
        inner.export(session, generation);
    }
    Ok(())
}

/// The loss of the session's workspace with the server that had it, if that was another: it is gone, or the run would be
/// its. What this one has of that workspace is older, and must not be taken for it. Or a loss of which an earlier run did
/// not come to tell the model.
async fn lost_workspace(inner: &Inner, session: SessionId) -> Result<Option<Loss>, PlaneError> {
    let Some(me) = &inner.replica else {
        return Ok(None);
    };
    let bound = inner.store.binding(Scope::Any, session).await;
    let bound = bound.map_err(|e| PlaneError::Unavailable(Box::new(e)))?;
    let Some(bound) = bound else { return Ok(None) };
    let Some(host) = bound.host.filter(|host| host != me.as_str()) else {
        return Ok(Loss::untold(&bound.body, me.as_str()));
    };
    if faults::on(Fault::LostWorkspaceKept) {
        return Ok(None);
    }
    tracing::warn!(session_id = %session, host, "the server that has this session's workspace is gone");
    if let Err(error) = inner.sandboxes.delete(session).await {
        return Err(PlaneError::Unavailable(Box::new(error)));
    }
    Ok(Some(Loss::of(host)))
}
