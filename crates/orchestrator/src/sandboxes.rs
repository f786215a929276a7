//! Which session has which sandbox: one of its own name, claimed at the first tool call. How long it runs is
//! the keeper's matter; its workspace goes when its session does.

use std::sync::Arc;
use std::time::Duration;

use contract::ids::{EventId, SessionId};
use sandbox::{Error, Keeper, Sandbox, SandboxId, Spec, Visit};

/// The sandboxes of sessions.
pub(crate) struct Sandboxes(Keeper);

impl Sandboxes {
    pub(crate) fn new(keeper: Keeper) -> Self {
        Self(keeper)
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.0
    }

    /// The session's sandbox, started if it does not run, with `lifetime` for no longer than that. While the
    /// visit lasts it makes room for no other.
    pub(crate) async fn claim(
        &self,
        session: SessionId,
        workspace: &str,
        lifetime: Option<Duration>,
    ) -> Result<Visit, Error> {
        let spec = Spec::new(sandbox_id(session)?);
        self.0.visit_in(workspace, spec, lifetime).await
    }

    /// The session's sandbox if it runs, also where an earlier process left it. None is started.
    pub(crate) async fn left(&self, session: SessionId) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        self.0.left(&sandbox_id(session)?).await
    }

    /// The result of a call is in the log: its sandbox need not keep it. Never waits.
    pub(crate) fn taken(&self, session: SessionId, call: EventId) {
        let running = sandbox_id(session).ok().and_then(|id| self.0.running(&id));
        if let Some(running) = running {
            running.taken(&call.to_string());
        }
    }

    /// Looks after what an earlier process left running.
    pub(crate) async fn take_over(&self) {
        if let Err(error) = self.0.take_over().await {
            tracing::error!(error = %error, "what an earlier process left running is not looked after");
        }
    }

    /// Whether the session's sandbox runs, as far as can be said without waiting.
    pub(crate) fn runs(&self, session: SessionId) -> bool {
        sandbox_id(session).is_ok_and(|id| self.0.running(&id).is_some())
    }

    /// Pauses, puts to sleep and ends what is due for it; a session that is `busy` with a turn uses its own.
    pub(crate) async fn tend(&self, busy: impl Fn(SessionId) -> bool) {
        let busy = |id: &SandboxId| session_of(id).is_some_and(&busy);
        self.0.tend(busy).await;
    }

    /// Stops every sandbox.
    pub(crate) async fn stop_all(&self) {
        self.0.stop_all("the server was stopped").await;
    }

    /// The sessions that have a workspace. Names that are no session's are left alone.
    pub(crate) async fn kept(&self) -> Vec<SessionId> {
        match self.0.list().await {
            Ok(kept) => kept.iter().filter_map(|one| session_of(&one.id)).collect(),
            Err(error) => {
                tracing::error!(error = %error, "workspaces cannot be listed");
                Vec::new()
            }
        }
    }

    /// Stops the session's sandbox and removes its workspace.
    pub(crate) async fn delete(&self, session: SessionId) -> Result<(), Error> {
        self.0.delete(&sandbox_id(session)?).await
    }
}

fn sandbox_id(session: SessionId) -> Result<SandboxId, Error> {
    SandboxId::new(session.to_string())
}

fn session_of(id: &SandboxId) -> Option<SessionId> {
    id.as_str().parse().ok()
}
