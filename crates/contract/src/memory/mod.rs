//! Memory stores (api.md §17): stores, what they hold and its versions. Rules that need the store itself (a
//! path that is taken, a content that changed) are left to the caller.

mod item;
mod version;

pub use item::{
    CreateMemory, Memory, MemoryItem, MemoryPathConflict, MemoryPreconditionFailed, MemoryPrefix,
    MemoryPrefixTag, MemoryTag, PathConflictTag, Precondition, PreconditionFailedTag, Sha256,
    UpdateMemory, View, check_content, check_path, check_prefix, is_sha256,
};
pub use version::{Actor, MemoryVersion, MemoryVersionTag, Operation};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::ids::MemoryStoreId;
use crate::limits::{MEMORY_STORE_DESCRIPTION, MEMORY_STORE_NAME};
use crate::metadata::{self, Empty, Metadata, MetadataPatch};
use crate::parse::Invalid;
use crate::patch::{Patch, present};
use crate::schema::constants;
use crate::time::Micros;

constants! { MemoryStoreTag = MemoryStore; }

/// Body of `POST /v1/memory_stores`. [`CreateMemoryStore::resolve`] checks it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §17.1
pub struct CreateMemoryStore {
    pub name: String,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    pub description: Option<String>,
    #[serde(default)]
    pub metadata: Metadata,
}

/// Body of `POST /v1/memory_stores/{id}`. [`MemoryStoreDefinition::updated`] applies it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateMemoryStore {
    /// Absent and null keep the name: a store always has one.
    #[serde(default)]
    pub name: Option<String>,
    /// Null clears it, as an empty text does.
    #[serde(default)]
    pub description: Patch<String>,
    /// Key by key.
    #[serde(default)]
    pub metadata: MetadataPatch,
}

/// A memory store without its identity: what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct MemoryStoreDefinition {
    pub name: String,
    /// Empty: none.
    pub description: String,
    pub metadata: Metadata,
}

/// A memory store as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §17.1
pub struct MemoryStore {
    pub id: MemoryStoreId,
    #[serde(rename = "type")]
    pub kind: MemoryStoreTag,
    pub name: String,
    pub description: String,
    pub metadata: Metadata,
    pub created_at: Micros,
    pub updated_at: Micros,
    pub archived_at: Option<Micros>,
}

impl MemoryStore {
    /// A memory store as it is served.
    #[must_use]
    pub fn new(
        id: MemoryStoreId,
        definition: MemoryStoreDefinition,
        created_at: Micros,
        updated_at: Micros,
        archived_at: Option<Micros>,
    ) -> Self {
        Self {
            id,
            kind: MemoryStoreTag::MemoryStore,
            name: definition.name,
            description: definition.description,
            metadata: definition.metadata,
            created_at,
            updated_at,
            archived_at,
        }
    }
}

impl CreateMemoryStore {
    /// Checks every rule and fills in the defaults.
    ///
    /// # Errors
    /// The first rule that is broken, with its path.
    pub fn resolve(self) -> Result<MemoryStoreDefinition, Invalid> {
        MemoryStoreDefinition {
            name: self.name,
            description: self.description.unwrap_or_default(),
            metadata: self.metadata,
        }
        .checked()
    }
}

impl MemoryStoreDefinition {
    /// The store after an update.
    ///
    /// # Errors
    /// The first rule that the result breaks, with its path.
    pub fn updated(&self, update: UpdateMemoryStore) -> Result<Self, Invalid> {
        let description = update.description.apply(Some(self.description.clone()));
        Self {
            name: update.name.unwrap_or_else(|| self.name.clone()),
            description: description.unwrap_or_default(),
            metadata: metadata::patched(&self.metadata, update.metadata, Empty::Keeps)?,
        }
        .checked()
    }

    fn checked(self) -> Result<Self, Invalid> {
        check::length("name", &self.name, 1, MEMORY_STORE_NAME)?;
        if self.name.chars().any(char::is_control) {
            return Err(Invalid::at("name", "must not contain control characters"));
        }
        let most = MEMORY_STORE_DESCRIPTION;
        check::length("description", &self.description, 0, most)?;
        metadata::check(&self.metadata)?;
        Ok(self)
    }
}
