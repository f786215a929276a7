//! Vaults (api.md §12.1): requests and the object. What a vault's metadata mean (an LLM vault) is
//! interpreted elsewhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::ids::VaultId;
use crate::limits::DISPLAY_NAME;
use crate::metadata::{self, Empty, Metadata, MetadataPatch};
use crate::parse::Invalid;
use crate::time::Micros;

/// Body of `POST /v1/vaults`. [`CreateVault::resolve`] checks it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's
pub struct CreateVault {
    pub display_name: String,
    #[serde(default)]
    pub metadata: Metadata,
}

/// Body of `POST /v1/vaults/{id}`. [`VaultDefinition::updated`] applies it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateVault {
    /// Absent and null keep the name: a vault always has one.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Key by key.
    #[serde(default)]
    pub metadata: MetadataPatch,
}

/// A vault without its identity: what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct VaultDefinition {
    pub display_name: String,
    pub metadata: Metadata,
}

/// A vault as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct Vault {
    pub id: VaultId,
    #[serde(rename = "type")]
    pub kind: VaultTag,
    pub display_name: String,
    pub metadata: Metadata,
    pub created_at: Micros,
    pub updated_at: Micros,
    pub archived_at: Option<Micros>,
}

/// The constant `vault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VaultTag {
    /// The only value.
    #[default]
    Vault,
}

impl Vault {
    /// A vault as it is served.
    #[must_use]
    pub fn new(
        id: VaultId,
        definition: VaultDefinition,
        created_at: Micros,
        updated_at: Micros,
        archived_at: Option<Micros>,
    ) -> Self {
        Self {
            id,
            kind: VaultTag::Vault,
            display_name: definition.display_name,
            metadata: definition.metadata,
            created_at,
            updated_at,
            archived_at,
        }
    }
}

impl CreateVault {
    /// Checks every rule.
    ///
    /// # Errors
    /// The first rule that is broken, with its path.
    pub fn resolve(self) -> Result<VaultDefinition, Invalid> {
        check::length("display_name", &self.display_name, 1, DISPLAY_NAME)?;
        metadata::check(&self.metadata)?;
        Ok(VaultDefinition {
            display_name: self.display_name,
            metadata: self.metadata,
        })
    }
}

impl VaultDefinition {
    /// The vault after an update.
    ///
    /// # Errors
    /// The first rule that the result breaks, with its path.
    pub fn updated(&self, update: UpdateVault) -> Result<Self, Invalid> {
        let display_name = update
            .display_name
            .unwrap_or_else(|| self.display_name.clone());
        check::length("display_name", &display_name, 1, DISPLAY_NAME)?;
        let metadata = metadata::patched(&self.metadata, update.metadata, Empty::Keeps)?;
        Ok(Self {
            display_name,
            metadata,
        })
    }
}
