//! One run: claim, brief, harness, end. Whatever goes wrong ends in a fact the session shows, or leaves
//! the run to the next claim; never in silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::event::{ModelUsage, SessionErrorKind};
use contract::ids::SessionId;
use harness::{Fact, Plane as _, PlaneError, Step};
use store::SubmitError;
use store::sessions::{Committed, Scope};
use tokio_util::sync::CancellationToken;

use crate::Inner;
use crate::plane::SessionPlane;

/// How long a run that could not go on waits before somebody takes it again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The handle on a running turn.
#[derive(Clone)]
pub(crate) struct Active {
    /// Cancelled when what is in flight must end.
    pub(crate) cancel: CancellationToken,
    interrupted: Arc<AtomicBool>,
}

impl Active {
    pub(crate) fn new(stopping: &CancellationToken) -> Self {
        Self {
            cancel: stopping.child_token(),
            interrupted: Arc::default(),
        }
    }

    pub(crate) fn interrupt(&self) {
        // The flag stands before anyone can see the cancellation.
        self.interrupted.store(true, Ordering::Release);
        self.cancel.cancel();
    }

    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }
}

/// Runs one turn to its end.
pub(crate) async fn turn(inner: &Arc<Inner>, session: SessionId, active: Active) {
    let (now, entropy) = (store::clock::now(), store::clock::entropy());
    let claimed = inner
        .store
        .claim(session, inner.holder.clone(), None, now, entropy)
        .await;
    let claimed = match claimed {
        Ok(claimed) => claimed,
        // Somebody else was first, or there is nothing left to do.
        Err(SubmitError::Held { .. } | SubmitError::NotFound | SubmitError::Refused(_)) => return,
        Err(error) => {
            tracing::error!(session_id = %session, error = %error, "run not claimed");
            return;
        }
    };
    let generation = claimed.state.generation;
    let Err(error) = work(inner, claimed, active).await else {
        return;
    };
    match &error {
        PlaneError::Lost | PlaneError::Stopping => {
            tracing::info!(session_id = %session, reason = %error, "run put down");
            return;
        }
        PlaneError::Unavailable(_) | PlaneError::Bug(_) => {
            tracing::error!(session_id = %session, error = %crate::plane::chain(&error), "run failed");
        }
    }
    // Whoever claims it next settles what was in flight; the core bounds how often.
    let again = store::clock::now();
    let due = contract::time::Micros(again.0 + i64::try_from(AGAIN_AFTER.as_micros()).unwrap_or(0));
    match inner.store.release(session, generation, due).await {
        Ok(_) => {
            inner
                .stopping
                .run_until_cancelled(tokio::time::sleep(AGAIN_AFTER))
                .await;
        }
        Err(error) => tracing::error!(session_id = %session, error = %error, "run not released"),
    }
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
        Err(message) => unreachable_model(inner, row, &claimed, first, message, active).await,
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
            Step::Request { .. } => Fact::RequestFailed {
                kind: SessionErrorKind::ModelRequestFailedError,
                message: message.clone(),
                usage: ModelUsage::default(),
            },
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
