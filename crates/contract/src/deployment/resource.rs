//! The resources of a deployment (api.md §15.0): what a request says without its secrets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::ids::{FileId, MemoryStoreId};
use crate::limits::RESOURCES;
use crate::parse::Invalid;
use crate::secret::Secret;
use crate::session::{Access, Checkout, ResourceParams};

/// A resource of a deployment, as stored and served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are the contract's
pub enum ResourceConfig {
    /// A file of the Files API.
    File {
        file_id: FileId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mount_path: Option<String>,
    },
    /// A repository to clone.
    GithubRepository {
        url: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        checkout: Option<Checkout>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mount_path: Option<String>,
    },
    /// A memory store to mount.
    MemoryStore {
        memory_store_id: MemoryStoreId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        access: Option<Access>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instructions: Option<String>,
    },
}

type Parted = (Vec<ResourceConfig>, Vec<Option<Secret>>);

/// The resources of a request, checked, and the token of each.
pub(super) fn parted(params: Vec<ResourceParams>) -> Result<Parted, Invalid> {
    check::count("resources", params.len(), RESOURCES)?;
    for (index, resource) in params.iter().enumerate() {
        let at = |bad: Invalid| bad.under_index(index).under("resources");
        resource.check().map_err(at)?;
    }
    Ok(params.into_iter().map(part).unzip())
}

fn part(params: ResourceParams) -> (ResourceConfig, Option<Secret>) {
    match params {
        ResourceParams::File(file) => {
            let config = ResourceConfig::File {
                file_id: file.file_id,
                mount_path: file.mount_path,
            };
            (config, None)
        }
        ResourceParams::GithubRepository(repository) => {
            let config = ResourceConfig::GithubRepository {
                url: repository.url,
                checkout: repository.checkout,
                mount_path: repository.mount_path,
            };
            (config, repository.authorization_token)
        }
        ResourceParams::MemoryStore(store) => {
            let config = ResourceConfig::MemoryStore {
                memory_store_id: store.memory_store_id,
                access: store.access,
                instructions: store.instructions,
            };
            (config, None)
        }
    }
}
