//! Agents and their versions. The definition is opaque here; a version is never changed.

use contract::ids::{AgentId, WorkspaceId};
use contract::time::Micros;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::page::{List, Slice};
use crate::store::{Store, on_back};

/// An agent as of one version.
#[derive(Debug, Clone)]
pub struct AgentRow {
    /// Its id.
    pub id: AgentId,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The version `body` is of; from 1.
    pub version: u32,
    /// The definition, as the gateway stored it.
    pub body: Box<RawValue>,
    /// When the agent was made.
    pub created_at: Micros,
    /// When this version was made.
    pub updated_at: Micros,
    /// Archived since.
    pub archived_at: Option<Micros>,
}

/// A version of an agent in the list of versions: the number is the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionList {
    /// Items on the page.
    pub limit: u32,
    /// Only versions below this one; none is the first page.
    pub below: Option<u32>,
}

impl Store {
    /// Stores a new agent as version 1.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the id exists.
    pub async fn create_agent(
        &self,
        workspace: WorkspaceId,
        id: AgentId,
        body: Box<RawValue>,
        now: Micros,
    ) -> Result<AgentRow, Error> {
        on_back!(self, write, |cx| agents::create(
            cx, workspace, id, body, now
        ))
    }

    /// An agent as of `version`, or as of its latest.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the agent or of the version.
    pub async fn agent(
        &self,
        workspace: WorkspaceId,
        id: AgentId,
        version: Option<u32>,
    ) -> Result<AgentRow, Error> {
        on_back!(self, read, |c| agents::get(c, workspace, id, version))
    }

    /// Stores `body`, which was made from version `base`, as the next version. A body equal to the
    /// current one keeps the version.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Archived`], or [`crate::Conflict::Version`] if `base` is no longer
    /// the latest: a caller whose client named no version reads again and redoes its change.
    pub async fn update_agent(
        &self,
        workspace: WorkspaceId,
        id: AgentId,
        base: u32,
        body: Box<RawValue>,
        now: Micros,
    ) -> Result<AgentRow, Error> {
        on_back!(self, write, |cx| agents::update(
            cx, workspace, id, base, body, now
        ))
    }

    /// Archives an agent. Archiving again changes nothing; the version stays.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn archive_agent(
        &self,
        workspace: WorkspaceId,
        id: AgentId,
        now: Micros,
    ) -> Result<AgentRow, Error> {
        on_back!(self, write, |cx| agents::archive(cx, workspace, id, now))
    }

    /// Agents as of their latest versions, by (created_at, id).
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn agents(
        &self,
        workspace: WorkspaceId,
        list: List<AgentId>,
    ) -> Result<Slice<AgentRow>, Error> {
        on_back!(self, read, |c| agents::list(c, workspace, &list))
    }

    /// The versions of an agent, newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the agent.
    pub async fn agent_versions(
        &self,
        workspace: WorkspaceId,
        id: AgentId,
        list: VersionList,
    ) -> Result<Slice<AgentRow>, Error> {
        on_back!(self, read, |c| agents::versions(c, workspace, id, list))
    }
}
