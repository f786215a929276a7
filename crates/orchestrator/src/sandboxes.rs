//! Which session has which sandbox: one of its own name, claimed at the first tool call. How long it runs is
//! the keeper's matter; its workspace goes when its session does.

use std::sync::Arc;

use contract::environment::EnvironmentDefinition;
use contract::ids::{EventId, SessionId, ThreadId};
use contract::session::{SandboxProvider, SandboxWishes, VolumeWish};
use sandbox::{
    DiaryEntry, Error, Keeper, Mount, Mounts, Provider, ProviderName, Sandbox, SandboxId, Settings,
    Spec, Terms, Visit,
};
use session::Status;
use store::Store;
use store::sessions::{Scope, SessionRow};

use crate::clock::Clock;

/// The sandboxes of sessions.
pub(crate) struct Sandboxes(Keeper);

impl Sandboxes {
    pub(crate) fn new(provider: Arc<dyn Provider>, settings: Settings, clock: Clock) -> Self {
        Self(Keeper::new(provider, settings, move || clock.now().0))
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.0
    }

    /// The session's sandbox, started if it does not run, and kept by these terms. While the visit lasts it makes
    /// room for no other.
    pub(crate) async fn claim(&self, session: SessionId, terms: &Terms) -> Result<Visit, Error> {
        self.0.visit(Spec::new(sandbox_id(session)?), terms).await
    }

    /// What happened to the session's sandbox that its timeline does not tell of yet.
    pub(crate) async fn news(&self, session: SessionId) -> Vec<DiaryEntry> {
        match sandbox_id(session) {
            Ok(id) => self.0.news(&id).await,
            Err(_) => Vec::new(),
        }
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

    /// Has the session's sandbox, if it runs, end the shells of all threads but those. Never waits.
    pub(crate) fn callers(&self, session: SessionId, threads: &[ThreadId]) {
        let running = sandbox_id(session).ok().and_then(|id| self.0.running(&id));
        if let Some(running) = running {
            running.callers(threads.iter().map(ThreadId::to_string).collect());
        }
    }

    /// Has what an earlier process left running count, before anything new runs.
    pub(crate) async fn count_left(&self) {
        if let Err(error) = self.0.count_left().await {
            tracing::error!(error = %error, "what an earlier process left running is not counted");
        }
    }

    /// Looks after what an earlier process left running: as its session has it now, or ends it if that is over.
    /// What belongs to no session any more goes when workspaces are collected.
    pub(crate) async fn take_over(&self, store: &Store) {
        let taken = self.0.take_over().await.unwrap_or_else(|error| {
            tracing::error!(error = %error, "what an earlier process left running is not looked after");
            Vec::new()
        });
        for id in taken {
            let Some(session) = session_of(&id) else {
                continue;
            };
            match store.session(Scope::Any, session).await {
                Ok(row) if is_over(&row) => self.0.put_to_sleep(&id, "its session is over").await,
                Ok(row) => self.0.agree(&id, terms(&row)),
                Err(store::Error::NotFound(_)) => {}
                Err(error) => {
                    tracing::error!(session_id = %session, error = %error, "a sandbox is kept as it was: its session cannot be read");
                }
            }
        }
    }

    /// A turn of the session is over: what it wrote goes to the disk, in the background. Never waits.
    pub(crate) fn flush(&self, session: SessionId) {
        if let Ok(id) = sandbox_id(session) {
            self.0.flush(&id);
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

/// What the session wants of its sandbox.
pub(crate) fn wishes(row: &SessionRow) -> SandboxWishes {
    let environment = serde_json::from_str::<EnvironmentDefinition>(row.environment.get());
    let environment = environment.map(|it| it.metadata).unwrap_or_default();
    // Checked when it was set; what is older than the check counts as none.
    SandboxWishes::of(&row.profile.metadata, &environment).unwrap_or_default()
}

/// How the session wants its sandbox kept.
pub(crate) fn terms(row: &SessionRow) -> Terms {
    let wishes = wishes(row);
    Terms {
        workspace: Some(row.workspace.to_string().into()),
        lifetime: wishes.ttl,
        awake: wishes.keep_awake,
        // Checked when it was set, too.
        template: wishes.template.and_then(|template| template.parse().ok()),
        provider: wishes.provider.map(|wished| match wished {
            SandboxProvider::Local => ProviderName::Local,
            SandboxProvider::Gvisor => ProviderName::Gvisor,
        }),
        // One that names no volume has none.
        volumes: Some(Mounts {
            workspace: row.workspace.to_string().into(),
            each: wishes.volumes.into_iter().map(mount).collect(),
        }),
    }
}

fn mount(wish: VolumeWish) -> Mount {
    Mount {
        name: wish.name,
        read_only: wish.read_only,
    }
}

/// Whether nothing can run in that session any more.
fn is_over(row: &SessionRow) -> bool {
    row.archived_at.is_some() || row.state.primary.status() == Status::Terminated
}

fn sandbox_id(session: SessionId) -> Result<SandboxId, Error> {
    SandboxId::new(session.to_string())
}

fn session_of(id: &SandboxId) -> Option<SessionId> {
    id.as_str().parse().ok()
}
