//! Which threads have a shell in the sandbox of their session, and that those of archived ones end. It starts none.

use contract::ids::{SessionId, ThreadId};
use harness::causes::chain;
use session::State;
use store::feed::Changed;
use store::sessions::Scope;
use tokio::sync::broadcast::error::RecvError;

use crate::Orchestrator;

impl Orchestrator {
    /// Ends the shells of threads that clients archive.
    pub(crate) async fn archives(&self) {
        let inner = &self.0;
        let mut changes = inner.store.changes();
        loop {
            let changed = tokio::select! {
                biased;
                () = inner.draining.cancelled() => return,
                changed = changes.recv() => changed,
            };
            match changed {
                Ok(Changed::Threads(session)) => self.end_shells(session).await,
                // A shell that is left over ends with the next turn of its session.
                Ok(
                    Changed::Environment(_)
                    | Changed::Session(_)
                    | Changed::Vault(_)
                    | Changed::Anything,
                )
                | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn end_shells(&self, session: SessionId) {
        let inner = &self.0;
        // No run begins meanwhile, and with it no thread whose shell would be taken for one that is left over.
        let _claiming = inner.claiming.lock().await;
        // A run sees to it before its next call.
        if inner.active().contains_key(&session) {
            return;
        }
        match inner.store.session(Scope::Any, session).await {
            Ok(row) => inner.sandboxes.callers(session, &callers(&row.state)),
            Err(store::Error::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(session_id = %session, error = %chain(&error), "the shell of an archived thread goes on until the next turn");
            }
        }
    }
}

/// The threads that may have a shell beside the primary's.
pub(crate) fn callers(state: &State) -> Vec<ThreadId> {
    let threads = state.threads().map(|thread| thread.id);
    threads.filter(|id| *id != state.primary.id).collect()
}
