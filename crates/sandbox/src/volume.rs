//! Owns the words in which everybody else speaks about volumes: directories with a name that outlive every sandbox and
//! that several may have at once. It knows no file system.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::limits::VOLUME_NAME_CHARS;
use crate::provider::SandboxId;

/// Where the volumes of a sandbox appear in it, each under its name.
pub const VOLUMES: &str = "/mnt/volumes";

/// What the ids of volumes begin with, and no name of one does.
const ID: &str = "vol_";

/// Which volume it is, for ever: chosen by whoever makes it, and never used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(SandboxId);

impl VolumeId {
    /// `vol_` and more of what a [`SandboxId`] may hold.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn new(id: impl Into<String>) -> Result<Self, Error> {
        let id = id.into();
        match SandboxId::new(id.clone()) {
            Ok(name) if id.len() > ID.len() && id.starts_with(ID) => Ok(Self(name)),
            _ => Err(Error::invalid(format!("{id:?} is no id of a volume"))),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for VolumeId {
    type Error = Error;

    fn try_from(id: String) -> Result<Self, Error> {
        Self::new(id)
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.as_str().to_owned()
    }
}

/// What people call a volume, unique among those of its workspace. It is the name of its directory in sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

impl VolumeName {
    /// 1 to [`VOLUME_NAME_CHARS`] characters of `a-z 0-9 _ -`, the first a letter or digit; not like an id.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let starts = name.bytes().next().is_some_and(small);
        let plain = |byte: u8| small(byte) || byte == b'_' || byte == b'-';
        let short = name.len() <= VOLUME_NAME_CHARS;
        if starts && short && name.bytes().all(plain) && !name.starts_with(ID) {
            return Ok(Self(name));
        }
        Err(Error::invalid(format!(
            "a volume's name is 1 to {VOLUME_NAME_CHARS} small letters, digits, `_` or `-`, the first a letter or \
             digit, and does not begin with `{ID}`: not {name:?}"
        )))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for VolumeName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

/// A volume that a sandbox is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which, by its name. One that there is none of is found missing at the start of the sandbox.
    pub name: String,
    /// Whether the sandbox may only read it.
    pub read_only: bool,
}

/// All volumes that a sandbox is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounts {
    /// Whose they are.
    pub workspace: Arc<str>,
    /// In the order in which they were asked for; at most
    /// [`VOLUMES_OF_ONE`](crate::limits::VOLUMES_OF_ONE), none twice.
    pub each: Vec<Mount>,
}

/// What is to be known of a volume that is made.
#[derive(Debug, Clone)]
pub struct NewVolume {
    /// Its id.
    pub id: VolumeId,
    /// What it is called.
    pub name: VolumeName,
    /// Whose it is.
    pub workspace: String,
    /// The time, in microseconds since 1970.
    pub at: i64,
    /// Bytes that may lie in it; none: as many as the operator lets any have.
    pub bytes: Option<u64>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// What it is called.
    pub name: VolumeName,
    /// Whose it is.
    pub workspace: String,
    /// When it was made, in microseconds since 1970.
    pub at: i64,
    /// Bytes that may lie in it; 0: as many as there is room for.
    pub bytes: u64,
    /// The sandboxes that have it, running or not.
    pub sandboxes: Vec<SandboxId>,
}

/// What a provider can do with volumes. Each is there whole or not at all, whoever is killed meanwhile.
#[async_trait]
pub trait Volumes: Send + Sync {
    /// Makes an empty one. It is on the disk when this returns.
    ///
    /// Cancel safe: yes; what was begun goes on.
    ///
    /// # Errors
    /// [`Error::Conflict`] for a name that its workspace has, or when that has as many as it may;
    /// [`Error::Invalid`] for a size below or above what one may have; [`Error::Io`].
    async fn create_volume(&self, new: NewVolume) -> Result<Volume, Error>;

    /// All there are, the oldest first.
    ///
    /// Cancel safe: yes.
    ///
    /// # Errors
    /// [`Error::Io`].
    async fn list_volumes(&self) -> Result<Vec<Volume>, Error>;

    /// Bytes of it on the disk, and whether there are more than was looked at.
    ///
    /// Cancel safe: yes.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Io`].
    async fn volume_usage(&self, id: &VolumeId) -> Result<(u64, bool), Error>;

    /// Removes one with what is in it: out of sight at once, its bytes in the background. With `force` also one that
    /// sandboxes have that do not run; they do not start again unless they are told to do without it.
    ///
    /// Cancel safe: yes; what was begun goes on.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Conflict`] while a sandbox has it; [`Error::Io`].
    async fn remove_volume(&self, id: &VolumeId, force: bool) -> Result<(), Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_ids_or_leave_their_directory_are_refused() {
        let long = "a".repeat(VOLUME_NAME_CHARS + 1);
        for bad in [
            "", ".", "..", "a/b", "-a", "_a", "A", "a b", "a:ro", "a,b", "é", "vol_1", &long,
        ] {
            assert!(VolumeName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "0", "pip-cache_2", &long[1..]] {
            assert_eq!(VolumeName::new(good).unwrap().as_str(), good);
        }
        for bad in ["vol_", "vol", "snap_1", "vol_/x", "x_vol_1"] {
            assert!(VolumeId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(VolumeId::new("vol_0f").unwrap().to_string(), "vol_0f");
    }
}
