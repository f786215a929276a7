//! One run: claim, brief, harness, end. Whatever goes wrong ends in a fact the session shows, or leaves
//! the run to the next claim; never in silence.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use contract::event::SessionErrorKind;
use contract::ids::SessionId;
use futures_util::FutureExt as _;
use harness::causes::chain;
use harness::{Fact, Plane as _, PlaneError, Step};
use session::{Generation, Remedy, Used};
use store::SubmitError;
use store::sessions::{Committed, Scope};

use crate::Inner;
use crate::active::Active;
use crate::endpoint::NoEndpoint;
use crate::faults::{self, Fault};
use crate::plane::SessionPlane;

/// How long a run that could not go on waits before somebody takes it again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Runs one turn to its end.
pub(crate) async fn turn(inner: &Arc<Inner>, session: SessionId, active: Active) {
    if inner.draining.is_cancelled() {
        // It stays due, and nothing of it is in flight.
        return;
    }
    let (now, entropy) = (inner.now(), inner.config.clock.entropy());
    let claimed = inner
        .store
        .claim(
            session,
            inner.holder.clone(),
            Some(inner.config.lease),
            now,
            entropy,
        )
        .await;
    let claimed = match claimed {
        Ok(claimed) => claimed,
        // Somebody else was first, or there is nothing left to do.
        Err(SubmitError::Held { .. } | SubmitError::NotFound | SubmitError::Refused(_)) => return,
        Err(error) => {
            // The run stays due. Whoever looks next comes no sooner than this.
            tracing::error!(session_id = %session, error = %chain(&error), "run not claimed");
            pause(inner).await;
            return;
        }
    };
    let generation = claimed.state.generation;
    active.hold(generation);
    // It was for the runner that is lost; what that one had started is for this one to end.
    if claimed.state.primary.interrupting {
        active.interrupt();
    }
    // A defect ends its run, not the process.
    let worked = AssertUnwindSafe(work(inner, claimed, active.clone()))
        .catch_unwind()
        .await;
    let Err(error) = worked.unwrap_or_else(|_| Err(PlaneError::Bug("the run panicked".to_owned())))
    else {
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

async fn pause(inner: &Inner) {
    let _ = inner
        .stopping
        .run_until_cancelled(tokio::time::sleep(AGAIN_AFTER))
        .await;
}

async fn work(inner: &Arc<Inner>, claimed: Committed, active: Active) -> Result<(), PlaneError> {
    let first = claimed.step;
    if first == Step::Rest {
        return Ok(());
    }
    let row = inner.store.session(Scope::Any, claimed.session).await;
    let row = row.map_err(|e| PlaneError::Unavailable(Box::new(e)))?;
    let endpoint = crate::endpoint::of(inner, &row).await;
    match endpoint {
        Ok(endpoint) => {
            let plane = SessionPlane::new(inner.clone(), row, &claimed, endpoint, active)?;
            inner.harness.run(&plane, first).await
        }
        Err(NoEndpoint::Unusable(message)) => {
            unreachable_model(inner, row, &claimed, first, message, active).await
        }
        Err(NoEndpoint::Unread(error)) => Err(PlaneError::Unavailable(Box::new(error))),
    }
}

/// No model can be asked: the session says why, and rests.
async fn unreachable_model(
    inner: &Arc<Inner>,
    row: store::sessions::SessionRow,
    claimed: &Committed,
    first: Step,
    message: String,
    active: Active,
) -> Result<(), PlaneError> {
    let plane = SessionPlane::without_model(inner.clone(), row, claimed, active)?;
    let mut step = first;
    loop {
        let fact = match step {
            Step::Rest => return Ok(()),
            Step::Request { span } | Step::Compact { span } | Step::Grade { start: span, .. } => {
                Fact::RequestFailed {
                    span,
                    kind: SessionErrorKind::ModelRequestFailedError,
                    message: message.clone(),
                    used: Used::default(),
                    remedy: Remedy::None,
                }
            }
            Step::Recover { call } => Fact::Lost { call },
            Step::Execute { call } => Fact::Finished {
                call,
                content: vec![contract::content::Block::text(
                    "The call was not run: the session has no model any more.",
                )],
                is_error: true,
            },
        };
        step = plane.report(fact).await?.step;
    }
}
