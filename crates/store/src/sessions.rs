//! Sessions: creation, inputs, rows and lists. Every rule is the core's; here its decision becomes one
//! transaction.

use std::sync::Arc;
use std::time::Duration;

use contract::event::Event;
use contract::ids::{AgentId, EnvironmentId, OutcomeId, SessionId, ThreadId, VaultId, WorkspaceId};
use contract::time::Micros;
use serde_json::value::RawValue;
use session::input::Profile;
use session::{Command, Input, Opening, State, Status, Step};

use crate::agents::AgentRow;
use crate::environments::EnvironmentRow;
use crate::error::{Error, SubmitError};
use crate::events::Stored;
use crate::feed::Changed;
use crate::page::{List, Slice};
use crate::postgres;
use crate::rules::decided::Given;
use crate::runs::Holder;
use crate::sqlite::{self, submit};
use crate::store::{Back, Store, on_back};
use crate::timeline::Beside;
use crate::vaults::VaultView;

/// Whose sessions an operation may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A client's: those of its workspace; all others are not found.
    Workspace(WorkspaceId),
    /// The server's own: all.
    Any,
}

impl From<WorkspaceId> for Scope {
    fn from(workspace: WorkspaceId) -> Self {
        Self::Workspace(workspace)
    }
}

/// A session.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The agent it was made from.
    pub agent_id: AgentId,
    /// The agent's version.
    pub agent_version: u32,
    /// The agent as it was resolved, as the gateway stored it.
    pub agent: Arc<RawValue>,
    /// The environment it was made in.
    pub environment_id: EnvironmentId,
    /// The environment's definition as it was then, as the gateway stored it.
    pub environment: Arc<RawValue>,
    /// The vaults it was made with, in order.
    pub vault_ids: Vec<VaultId>,
    /// Title and metadata.
    pub profile: Profile,
    /// What the core knows of it: status, usage, primary thread.
    pub state: State,
    /// When it was made.
    pub created_at: Micros,
    /// When it last changed.
    pub updated_at: Micros,
    /// Archived since.
    pub archived_at: Option<Micros>,
    /// What it was asked to reach, oldest first.
    pub outcomes: Vec<OutcomeRow>,
}

/// What a session was asked to reach, as its object shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeRow {
    /// Which of the session's outcomes, from 1.
    pub n: u32,
    /// Its id.
    pub id: OutcomeId,
    /// What is to be reached.
    pub description: String,
    /// Which iteration, from 0.
    pub iteration: u32,
    /// Where it stands ([`session::Standing::name`]).
    pub result: String,
    /// What the grader said last.
    pub explanation: Option<String>,
    /// When it was final.
    pub completed_at: Option<Micros>,
}

/// A new session.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The agent.
    pub agent_id: AgentId,
    /// Its version.
    pub agent_version: u32,
    /// The agent as resolved.
    pub agent: Arc<RawValue>,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Its definition.
    pub environment: Arc<RawValue>,
    /// The vaults.
    pub vault_ids: Vec<VaultId>,
    /// Title and metadata.
    pub profile: Profile,
    /// Its ids, tools and first messages.
    pub opening: Opening,
}

impl NewSession {
    /// What it is made from.
    pub(crate) fn ground(&self) -> Ground {
        Ground {
            workspace: self.workspace,
            agent: self.agent_id,
            version: Some(self.agent_version),
            environment: self.environment_id,
            vaults: self.vault_ids.clone(),
        }
    }
}

/// What a session is made from, read at once.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The agent at the wanted version.
    pub agent: AgentRow,
    /// The environment.
    pub environment: EnvironmentRow,
    /// The vaults with their active credentials, in order.
    pub vaults: Vec<VaultView>,
}

impl Resolved {
    /// About how many bytes it takes.
    fn weight(&self) -> usize {
        const ROW: usize = 1_024;
        let credentials = self.vaults.iter().map(|v| v.credentials.len());
        let rows = 2 + self.vaults.len() + credentials.sum::<usize>();
        self.agent.body.get().len() + self.environment.body.get().len() + ROW * rows
    }
}

/// What a session is to be made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ground {
    workspace: WorkspaceId,
    agent: AgentId,
    version: Option<u32>,
    environment: EnvironmentId,
    vaults: Vec<VaultId>,
}

/// What became true by one input, and is durable.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Which session.
    pub session: SessionId,
    /// Its state now.
    pub state: State,
    /// The events that took their place, in order.
    pub events: Vec<Arc<Stored>>,
    /// The sender's events as accepted, for the reply.
    pub echo: Vec<Event>,
    /// What the runner does next in the thread that the input was about.
    pub step: Step,
    /// What is to be begun in other threads.
    pub others: Vec<(ThreadId, Step)>,
    /// The number of the commit that made it durable; grows, and several inputs may share one.
    pub commit: u64,
}

/// Which sessions a list shows, beside its page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionFilter {
    /// Of this agent.
    pub agent_id: Option<AgentId>,
    /// Of this version.
    pub agent_version: Option<u32>,
    /// In one of these; empty is any.
    pub statuses: Vec<Status>,
}

fn numbered((committed, commit): (Box<Committed>, u64)) -> Committed {
    Committed {
        commit,
        ..*committed
    }
}

impl Store {
    /// Reads all that a new session is made from. Nothing is reserved: [`Store::create_session`]
    /// checks again. Remembered in memory until any definition, vault or credential changes: a change
    /// that was answered before the call is always seen.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Archived`], naming what.
    pub async fn resolve_for_session(
        &self,
        workspace: WorkspaceId,
        agent: AgentId,
        version: Option<u32>,
        environment: EnvironmentId,
        vaults: Vec<VaultId>,
    ) -> Result<Arc<Resolved>, Error> {
        let ground = Ground {
            workspace,
            agent,
            version,
            environment,
            vaults: vaults.clone(),
        };
        let epoch = match self.known_grounds().get(&ground) {
            Ok(known) => return Ok(known),
            Err(epoch) => epoch,
        };
        let resolved = on_back!(self, read, |c| sessions::resolve(
            c,
            workspace,
            agent,
            version,
            environment,
            &vaults
        ))?;
        let resolved = Arc::new(resolved);
        let weight = resolved.weight();
        self.known_grounds()
            .put(epoch, ground, Arc::clone(&resolved), weight);
        Ok(resolved)
    }

    /// Makes a session, with its first turn open if it starts on messages. That agent, environment and
    /// vaults exist and are not archived is checked in the same transaction.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Archived`], naming what; [`Error::Full`];
    /// [`crate::Conflict::Exists`] for the id.
    pub async fn create_session(
        &self,
        new: NewSession,
        now: Micros,
        entropy: u128,
    ) -> Result<Box<SessionRow>, Error> {
        let caps = self.caps();
        let new = Box::new(new);
        let made = match self.back() {
            Back::Sqlite(db) => {
                db.write_again(move |cx| sqlite::submit::create(cx, &new, caps, now, entropy))
                    .await
            }
            Back::Postgres(db) => {
                db.write_again(move |cx| {
                    let new = new.clone();
                    Box::pin(
                        async move { postgres::submit::create(cx, &new, caps, now, entropy).await },
                    )
                })
                .await
            }
        };
        made.map(|(row, _)| row)
    }

    /// Decides `input` on the session and makes the decision durable: events, records, inbox, state and
    /// run in one transaction. [`Input::Claim`] goes through [`Store::claim`].
    ///
    /// # Errors
    /// [`SubmitError`]; nothing changed then.
    pub async fn submit(
        &self,
        scope: impl Into<Scope>,
        session: SessionId,
        input: Input,
        now: Micros,
        entropy: u128,
    ) -> Result<Committed, SubmitError> {
        self.submit_beside(scope, session, input, now, entropy, Beside::default())
            .await
    }

    /// As [`Store::submit`], with what a runner has stored along.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing changed then.
    pub async fn submit_beside(
        &self,
        scope: impl Into<Scope>,
        session: SessionId,
        input: Input,
        now: Micros,
        entropy: u128,
        beside: Beside,
    ) -> Result<Committed, SubmitError> {
        let scope = scope.into();
        let archives = matches!(input, Input::Command(Command::ArchiveThread(_)));
        let given = move || Given {
            input: input.clone(),
            now,
            entropy,
            beside: beside.clone(),
        };
        let done = match self.back() {
            Back::Sqlite(db) => {
                db.write_again(move |cx| submit::submit(cx, scope, session, given()))
                    .await
            }
            Back::Postgres(db) => {
                db.write_again(move |cx| {
                    Box::pin(postgres::submit::submit(cx, scope, session, given()))
                })
                .await
            }
        };
        if archives && done.is_ok() {
            self.feed().changed(Changed::Threads(session));
        }
        done.map(numbered)
    }

    /// Takes the open turn of a session for `holder`: the generation goes up, what a lost runner had in
    /// flight is settled, and the first step is opened; the timeline says how long the turn waited. `ttl` bounds the lease; none holds it until
    /// [`Store::release`] or [`Store::requeue_all`].
    ///
    /// # Errors
    /// [`SubmitError::Held`] if the run is held and its lease has not expired;
    /// [`session::Refused::NothingToRun`] if no turn is open.
    pub async fn claim(
        &self,
        session: SessionId,
        holder: Holder,
        ttl: Option<Duration>,
        now: Micros,
        entropy: u128,
    ) -> Result<Committed, SubmitError> {
        let done = match self.back() {
            Back::Sqlite(db) => {
                db.write_again(move |cx| {
                    sqlite::submit::claim(cx, session, &holder, ttl, now, entropy)
                })
                .await
            }
            Back::Postgres(db) => {
                db.write_again(move |cx| {
                    let holder = holder.clone();
                    Box::pin(async move {
                        postgres::submit::claim(cx, session, &holder, ttl, now, entropy).await
                    })
                })
                .await
            }
        };
        done.map(numbered)
    }

    /// One session.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn session(
        &self,
        scope: impl Into<Scope>,
        id: SessionId,
    ) -> Result<SessionRow, Error> {
        let scope = scope.into();
        on_back!(self, read, |c| sessions::get(c, scope, id))
    }

    /// Those of `ids` that exist, archived ones included.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn existing(&self, ids: Vec<SessionId>) -> Result<Vec<SessionId>, Error> {
        on_back!(self, read, |c| sessions::existing(c, &ids))
    }

    /// Sessions by (created_at, id), both ways.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn sessions(
        &self,
        workspace: WorkspaceId,
        list: List<SessionId>,
        filter: SessionFilter,
    ) -> Result<Slice<SessionRow>, Error> {
        on_back!(self, read, |c| sessions::list(c, workspace, &list, &filter))
    }
}
