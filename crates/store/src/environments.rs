//! Environments. The definition is opaque here; only its name is known, because it is unique among the
//! active ones of a workspace.

use std::sync::Arc;

use contract::ids::{EnvironmentId, WorkspaceId};
use contract::time::Micros;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::feed::Changed;
use crate::page::{List, Slice};
use crate::store::{Store, on_back};

/// An environment.
#[derive(Debug, Clone)]
pub struct EnvironmentRow {
    /// Its id.
    pub id: EnvironmentId,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Counts its changes; an update names the one it was made on.
    pub revision: u32,
    /// Its name.
    pub name: String,
    /// The definition, as the gateway stored it.
    pub body: Arc<RawValue>,
    /// When it was made.
    pub created_at: Micros,
    /// When it last changed.
    pub updated_at: Micros,
    /// Archived since.
    pub archived_at: Option<Micros>,
}

impl Store {
    /// Stores a new environment.
    ///
    /// # Errors
    /// [`crate::Conflict::EnvironmentName`].
    pub async fn create_environment(
        &self,
        workspace: WorkspaceId,
        id: EnvironmentId,
        name: String,
        body: Box<RawValue>,
        now: Micros,
    ) -> Result<EnvironmentRow, Error> {
        let row = EnvironmentRow {
            id,
            workspace,
            revision: 1,
            name,
            body: body.into(),
            created_at: now,
            updated_at: now,
            archived_at: None,
        };
        on_back!(self, write, |cx| environments::create(cx, row))
    }

    /// One environment.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn environment(
        &self,
        workspace: WorkspaceId,
        id: EnvironmentId,
    ) -> Result<EnvironmentRow, Error> {
        on_back!(self, read, |c| environments::get(c, workspace, id))
    }

    /// Replaces name and definition, which were made from revision `base`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Archived`], [`crate::Conflict::Revision`] (read again and redo),
    /// [`crate::Conflict::EnvironmentName`].
    pub async fn update_environment(
        &self,
        workspace: WorkspaceId,
        id: EnvironmentId,
        base: u32,
        name: String,
        body: Box<RawValue>,
        now: Micros,
    ) -> Result<EnvironmentRow, Error> {
        let updated = on_back!(self, write, |cx| environments::update(
            cx, workspace, id, base, name, body, now
        ))?;
        self.feed().changed(Changed::Environment(id));
        Ok(updated)
    }

    /// Archives an environment: its sessions go on, new ones are refused. Again changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn archive_environment(
        &self,
        workspace: WorkspaceId,
        id: EnvironmentId,
        now: Micros,
    ) -> Result<EnvironmentRow, Error> {
        on_back!(self, write, |cx| environments::archive(
            cx, workspace, id, now
        ))
    }

    /// Deletes an environment that no session refers to.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`crate::Conflict::InUse`].
    pub async fn delete_environment(
        &self,
        workspace: WorkspaceId,
        id: EnvironmentId,
    ) -> Result<(), Error> {
        on_back!(self, write, |cx| environments::delete(cx, workspace, id))
    }

    /// Environments by (created_at, id).
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn environments(
        &self,
        workspace: WorkspaceId,
        list: List<EnvironmentId>,
    ) -> Result<Slice<EnvironmentRow>, Error> {
        on_back!(self, read, |c| environments::list(c, workspace, &list))
    }
}
