//! Bodies of the routes of a session's resources (api.md §11): only files are added to a session that is there,
//! and only the token of a repository changes.

use schemars::JsonSchema;
use serde::Deserialize;

use super::FileResource;
use crate::check;
use crate::limits::{MOUNT_PATH, SECRET_BYTES};
use crate::parse::{Invalid, tagged};
use crate::secret::Secret;

/// Body of `POST /v1/sessions/{id}/resources`. [`AddResource::check`] checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddResource {
    /// The only kind.
    File(FileResource),
}

tagged!(AddResource { "file" => File(FileResource) });

/// Body of `POST /v1/sessions/{id}/resources/{resource_id}`. [`UpdateResource::check`] checks it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateResource {
    /// The new token of a repository.
    pub authorization_token: Secret,
}

impl AddResource {
    /// Checks every rule that does not need the session.
    ///
    /// # Errors
    /// The first rule that is broken, with its path.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self::File(file) = self;
        match &file.mount_path {
            Some(path) => check::length("mount_path", path, 1, MOUNT_PATH),
            None => Ok(()),
        }
    }
}

impl UpdateResource {
    /// Checks every rule that does not need the resource.
    ///
    /// # Errors
    /// The token is empty or too long.
    pub fn check(&self) -> Result<(), Invalid> {
        let token = self.authorization_token.expose();
        check::length("authorization_token", token, 1, SECRET_BYTES)
    }
}
