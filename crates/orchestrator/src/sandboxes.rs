//! Which session has a sandbox running. Claimed at the first tool call, stopped when idle for long or
//! when its session goes; a workspace outlives all of that. Holds no lock across a provider call except
//! the session's own, so that one slow start holds up nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::ids::SessionId;
use sandbox::{Error, Provider, Sandbox, SandboxId, Spec};
use tokio::time::Instant;

/// A session's place: its sandbox, if one runs, and when it was last wanted.
#[derive(Default)]
struct Place {
    running: Option<Arc<dyn Sandbox>>,
    wanted: Option<Instant>,
}

/// The sandboxes of this server.
pub(crate) struct Sandboxes {
    provider: Arc<dyn Provider>,
    places: Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<Place>>>>,
}

impl Sandboxes {
    pub(crate) fn new(provider: Arc<dyn Provider>) -> Self {
        Self {
            provider,
            places: Mutex::default(),
        }
    }

    /// The session's sandbox, started if it does not run; whether it was.
    pub(crate) async fn claim(
        &self,
        session: SessionId,
    ) -> Result<(Arc<dyn Sandbox>, bool), Error> {
        let place = self.place(session);
        let mut place = place.lock().await;
        place.wanted = Some(Instant::now());
        if let Some(running) = place.running.as_ref().filter(|s| s.is_alive()) {
            return Ok((running.clone(), false));
        }
        let started = self
            .provider
            .attach(Spec::new(sandbox_id(session)?))
            .await?;
        place.running = Some(started.clone());
        Ok((started, true))
    }

    /// Whether the session's sandbox runs, as far as can be said without waiting.
    pub(crate) fn runs(&self, session: SessionId) -> bool {
        let place = self.map().get(&session).cloned();
        let held = place.as_ref().and_then(|place| place.try_lock().ok());
        held.is_some_and(|held| held.running.as_ref().is_some_and(|s| s.is_alive()))
    }

    /// Stops the sandboxes that nobody wanted for `idle` and whose session is not `busy` with a turn.
    /// Their workspaces stay.
    pub(crate) async fn reap(&self, idle: Duration, busy: impl Fn(SessionId) -> bool) {
        for (session, place) in self.all() {
            // A place that is held is in use.
            let Ok(mut held) = place.try_lock() else {
                continue;
            };
            if busy(session) || held.wanted.is_some_and(|at| at.elapsed() < idle) {
                continue;
            }
            stop(session, &mut held).await;
            drop(held);
            self.forget(session, &place);
        }
    }

    /// Stops every sandbox.
    pub(crate) async fn stop_all(&self) {
        for (session, place) in self.all() {
            stop(session, &mut *place.lock().await).await;
        }
    }

    /// The sessions that have a workspace. Names that are no session's are left alone.
    pub(crate) async fn kept(&self) -> Vec<SessionId> {
        let kept = self.provider.list().await;
        let kept = kept.unwrap_or_else(|error| {
            tracing::error!(error = %error, "workspaces cannot be listed");
            Vec::new()
        });
        kept.iter()
            .filter_map(|id| id.as_str().parse().ok())
            .collect()
    }

    /// Stops the session's sandbox and removes its workspace.
    pub(crate) async fn delete(&self, session: SessionId) -> Result<(), Error> {
        let place = self.place(session);
        let mut held = place.lock().await;
        stop(session, &mut held).await;
        let deleted = self.provider.delete(&sandbox_id(session)?).await;
        drop(held);
        self.forget(session, &place);
        deleted
    }

    fn place(&self, session: SessionId) -> Arc<tokio::sync::Mutex<Place>> {
        self.map().entry(session).or_default().clone()
    }

    fn all(&self) -> Vec<(SessionId, Arc<tokio::sync::Mutex<Place>>)> {
        self.map()
            .iter()
            .map(|(session, place)| (*session, place.clone()))
            .collect()
    }

    /// Drops an empty place that nobody else holds: two count it, the map and the caller. Who comes
    /// later makes a new one, and there are never two places of one session.
    fn forget(&self, session: SessionId, place: &Arc<tokio::sync::Mutex<Place>>) {
        let mut map = self.map();
        let empty = place.try_lock().is_ok_and(|held| held.running.is_none());
        if empty && Arc::strong_count(place) == 2 {
            map.remove(&session);
        }
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Arc<tokio::sync::Mutex<Place>>>> {
        // The map is whole between any two statements: a panic elsewhere does not spoil it.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn stop(session: SessionId, place: &mut Place) {
    if let Some(running) = place.running.take()
        && let Err(error) = running.stop().await
    {
        tracing::warn!(session_id = %session, error = %error, "sandbox did not stop cleanly");
    }
}

fn sandbox_id(session: SessionId) -> Result<SandboxId, Error> {
    SandboxId::new(session.to_string())
}
