//! What runs in a session's sandbox before its first turn: the loop of its harness, if that lives there. It begins no turn
//! and asks no model; the turn that comes finds it there, or does without.

use std::sync::{Arc, Weak};

use harness::PlaneError;
use sandbox::Sandbox;
use store::sessions::Scope;

use crate::Inner;
use crate::crew;
use crate::endpoint::{self, NoEndpoint};
use crate::plane::read;
use contract::agent::SessionAgent;
use contract::ids::SessionId;

/// Has it there in all sandboxes that are made ready ahead.
pub(crate) fn furnish(inner: &Arc<Inner>) {
    let inner = Arc::downgrade(inner);
    let keeper = inner.upgrade().map(|it| it.sandboxes.keeper().clone());
    if let Some(keeper) = keeper {
        keeper.furnish(move |id, sandbox| {
            let inner = Weak::clone(&inner);
            Box::pin(async move {
                let (Some(inner), Ok(session)) = (inner.upgrade(), id.as_str().parse()) else {
                    return;
                };
                if let Err(error) = prepare(&inner, session, &sandbox).await {
                    tracing::info!(session_id = %session, %error, "nothing is started ahead of the first turn");
                }
            })
        });
    }
}

async fn prepare(
    inner: &Inner,
    session: SessionId,
    sandbox: &Arc<dyn Sandbox>,
) -> Result<(), PlaneError> {
    let row = inner.store.session(Scope::Any, session).await;
    let row = row.map_err(|e| PlaneError::Unavailable(Box::new(e)))?;
    let chosen = match endpoint::of(inner, &row).await {
        Ok(chosen) => chosen,
        // Its first turn says so.
        Err(NoEndpoint::Unusable(_)) => return Ok(()),
        Err(NoEndpoint::Unread(error)) => return Err(PlaneError::Unavailable(Box::new(error))),
    };
    let agent: SessionAgent = read(&row.agent, "agent snapshot")?;
    let brief = crew::primary_brief(inner, &row, &agent, &row.state.primary.rules)?;
    chosen.harness.prepare(session, &brief, sandbox).await;
    Ok(())
}
