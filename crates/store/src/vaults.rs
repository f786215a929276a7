//! Vaults and credentials. Secrets arrive sealed and leave sealed; this module cannot open one.

use std::collections::BTreeMap;

use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::time::Micros;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::feed::Changed;
use crate::page::{List, Slice};
use crate::store::{Store, on_back};

/// A vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultRow {
    /// Its id.
    pub id: VaultId,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Counts its changes; an update names the one it was made on.
    pub revision: u32,
    /// What its owner calls it.
    pub display_name: String,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Micros,
    /// When it last changed.
    pub updated_at: Micros,
    /// Archived since.
    pub archived_at: Option<Micros>,
}

/// The kinds of credentials of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// OAuth tokens for an MCP server.
    McpOauth,
    /// One token.
    StaticBearer,
    /// A value injected at egress.
    EnvironmentVariable,
}

impl CredentialKind {
    /// Its name in the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::McpOauth => "mcp_oauth",
            Self::StaticBearer => "static_bearer",
            Self::EnvironmentVariable => "environment_variable",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        [
            Self::McpOauth,
            Self::StaticBearer,
            Self::EnvironmentVariable,
        ]
        .into_iter()
        .find(|k| k.name() == name)
    }
}

/// What at most one active credential of a vault may occupy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// An MCP server, by its normalised URL.
    McpServerUrl(String),
    /// The name of an environment variable.
    SecretName(String),
}

/// An encrypted secret as it lies at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The ciphertext with its wrapped data key.
    pub blob: Vec<u8>,
    /// Which master key wrapped it.
    pub key_version: u32,
}

/// A credential.
#[derive(Debug, Clone)]
pub struct CredentialRow {
    /// Its id.
    pub id: CredentialId,
    /// The vault it is in.
    pub vault: VaultId,
    /// Counts its changes.
    pub revision: u32,
    /// Its kind.
    pub kind: CredentialKind,
    /// What it occupies in its vault; none for the model key of an LLM vault.
    pub slot: Option<Slot>,
    /// The `auth` object as clients see it, without any secret.
    pub auth: Box<RawValue>,
    /// What its owner calls it.
    pub display_name: Option<String>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// The secret; none once archived.
    pub sealed: Option<Sealed>,
    /// When it was made.
    pub created_at: Micros,
    /// When it last changed.
    pub updated_at: Micros,
    /// Archived since.
    pub archived_at: Option<Micros>,
}

/// A new credential.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// Its id: minted before the secret is sealed, which binds it.
    pub id: CredentialId,
    /// Its kind.
    pub kind: CredentialKind,
    /// What it occupies.
    pub slot: Option<Slot>,
    /// The `auth` object as clients see it.
    pub auth: Box<RawValue>,
    /// What its owner calls it.
    pub display_name: Option<String>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// The secret.
    pub sealed: Sealed,
}

/// The changed part of a credential. Kind and slot never change.
#[derive(Debug, Clone)]
pub struct CredentialChange {
    /// The revision it was made on.
    pub base: u32,
    /// The `auth` object as clients see it.
    pub auth: Box<RawValue>,
    /// What its owner calls it.
    pub display_name: Option<String>,
    /// Its metadata, whole.
    pub metadata: BTreeMap<String, String>,
    /// The new secret; none keeps the old one.
    pub sealed: Option<Sealed>,
}

/// A vault with its active credentials, oldest first.
#[derive(Debug, Clone)]
pub struct VaultView {
    /// The vault.
    pub vault: VaultRow,
    /// Its active credentials.
    pub credentials: Vec<CredentialRow>,
}

impl Store {
    /// Stores a new vault.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Unavailable`].
    pub async fn create_vault(
        &self,
        workspace: WorkspaceId,
        id: VaultId,
        display_name: String,
        metadata: BTreeMap<String, String>,
        now: Micros,
    ) -> Result<VaultRow, Error> {
        let row = VaultRow {
            id,
            workspace,
            revision: 1,
            display_name,
            metadata,
            created_at: now,
            updated_at: now,
            archived_at: None,
        };
        let caps = self.caps();
        on_back!(self, write, |cx| vaults::create(cx, row, caps))
    }

    /// One vault.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn vault(&self, workspace: WorkspaceId, id: VaultId) -> Result<VaultRow, Error> {
        on_back!(self, read, |c| vaults::get(c, workspace, id))
    }

    /// Replaces name and metadata, which were made from revision `base`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Archived`], [`crate::Conflict::Revision`] (read again and redo).
    pub async fn update_vault(
        &self,
        workspace: WorkspaceId,
        id: VaultId,
        base: u32,
        display_name: String,
        metadata: BTreeMap<String, String>,
        now: Micros,
    ) -> Result<VaultRow, Error> {
        let done = on_back!(self, write, |cx| vaults::update(
            cx,
            workspace,
            id,
            base,
            display_name,
            metadata,
            now
        ))?;
        self.feed().changed(Changed::Vault(id));
        Ok(done)
    }

    /// Archives a vault and its credentials, and removes their secrets. Again changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn archive_vault(
        &self,
        workspace: WorkspaceId,
        id: VaultId,
        now: Micros,
    ) -> Result<VaultRow, Error> {
        let done = on_back!(self, write, |cx| vaults::archive(cx, workspace, id, now))?;
        self.feed().changed(Changed::Vault(id));
        Ok(done)
    }

    /// Deletes a vault with its credentials, for good.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_vault(&self, workspace: WorkspaceId, id: VaultId) -> Result<(), Error> {
        on_back!(self, write, |cx| vaults::delete(cx, workspace, id))?;
        self.feed().changed(Changed::Vault(id));
        Ok(())
    }

    /// Vaults by (created_at, id).
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn vaults(
        &self,
        workspace: WorkspaceId,
        list: List<VaultId>,
    ) -> Result<Slice<VaultRow>, Error> {
        on_back!(self, read, |c| vaults::list(c, workspace, &list))
    }

    /// These vaults with their active credentials, in the order given, archived vaults included (a
    /// running session goes on; its credentials are gone then).
    ///
    /// # Errors
    /// [`Error::NotFound`] naming the vault.
    pub async fn vault_views(
        &self,
        workspace: WorkspaceId,
        ids: Vec<VaultId>,
    ) -> Result<Vec<VaultView>, Error> {
        on_back!(self, read, |c| vaults::views(c, workspace, &ids))
    }

    /// The active credential that occupies `slot` in the first of these vaults that has one: found by its
    /// index, however many the vaults hold. Vaults that are gone have none.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn credential_at(
        &self,
        workspace: WorkspaceId,
        vaults: Vec<VaultId>,
        slot: Slot,
    ) -> Result<Option<CredentialRow>, Error> {
        on_back!(self, read, |c| vaults::credential_at(
            c, workspace, &vaults, &slot
        ))
    }

    /// Stores a new credential.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Archived`] of the vault, [`crate::Conflict::McpServerUrl`],
    /// [`crate::Conflict::SecretName`], [`Error::TooManyCredentials`].
    pub async fn create_credential(
        &self,
        workspace: WorkspaceId,
        vault: VaultId,
        new: NewCredential,
        now: Micros,
    ) -> Result<CredentialRow, Error> {
        let most = self.caps().vault_credentials;
        let done = on_back!(self, write, |cx| credentials::create(
            cx,
            workspace,
            vault,
            new,
            (now, most)
        ))?;
        self.feed().changed(Changed::Vault(vault));
        Ok(done)
    }

    /// One credential.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the vault or the credential.
    pub async fn credential(
        &self,
        workspace: WorkspaceId,
        vault: VaultId,
        id: CredentialId,
    ) -> Result<CredentialRow, Error> {
        on_back!(self, read, |c| credentials::get(c, workspace, vault, id))
    }

    /// Changes a credential.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Archived`], [`crate::Conflict::Revision`] (read again and redo).
    pub async fn update_credential(
        &self,
        workspace: WorkspaceId,
        vault: VaultId,
        id: CredentialId,
        change: CredentialChange,
        now: Micros,
    ) -> Result<CredentialRow, Error> {
        let done = on_back!(self, write, |cx| credentials::update(
            cx, workspace, vault, id, change, now
        ))?;
        self.feed().changed(Changed::Vault(vault));
        Ok(done)
    }

    /// Archives a credential, frees its slot and removes its secret. Again changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn archive_credential(
        &self,
        workspace: WorkspaceId,
        vault: VaultId,
        id: CredentialId,
        now: Micros,
    ) -> Result<CredentialRow, Error> {
        let done = on_back!(self, write, |cx| credentials::archive(
            cx, workspace, vault, id, now
        ))?;
        self.feed().changed(Changed::Vault(vault));
        Ok(done)
    }

    /// Deletes a credential for good.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_credential(
        &self,
        workspace: WorkspaceId,
        vault: VaultId,
        id: CredentialId,
    ) -> Result<(), Error> {
        on_back!(self, write, |cx| credentials::delete(
            cx, workspace, vault, id
        ))?;
        self.feed().changed(Changed::Vault(vault));
        Ok(())
    }

    /// The credentials of a vault by (created_at, id).
    ///
    /// # Errors
    /// [`Error::NotFound`] of the vault.
    pub async fn credentials(
        &self,
        workspace: WorkspaceId,
        vault: VaultId,
        list: List<CredentialId>,
    ) -> Result<Slice<CredentialRow>, Error> {
        on_back!(self, read, |c| credentials::list(
            c, workspace, vault, &list
        ))
    }
}
