//! Owns the files that say which snapshots there are. Each is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::reached::reached;
use super::stack::Stack;
use crate::snapshot::{Snapshot, SnapshotId};

/// Of the forms below; one of another is not understood, and nothing it may refer to is garbage. A build that knows no
/// templates would take the files of one for changes of the host's: what lies on one says so by its form.
const FORMAT: u32 = 1;
const ON_TEMPLATE: u32 = 2;

/// A snapshot as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    #[serde(flatten)]
    pub(super) snapshot: Snapshot,
    #[serde(flatten)]
    pub(super) stack: Stack,
}

impl Manifest {
    pub(super) fn new(snapshot: Snapshot, stack: Stack) -> Self {
        Self {
            format: form(&stack),
            snapshot,
            stack,
        }
    }

    /// Writes it down for good: when this returns it outlives a power cut. All that it refers to must be on the disk.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] for a name that is taken.
    pub(super) fn publish(&self, dir: &Path) -> io::Result<()> {
        let path = file(dir, &self.snapshot.id);
        let draft = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut written = options.open(&draft)?;
        written.write_all(&serde_json::to_vec(self)?)?;
        written.sync_all()?;
        reached("manifest written");
        // A link, unlike a rename, takes no name that is taken.
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft)?;
        linked?;
        reached("manifest named");
        File::open(dir)?.sync_all()
    }

    /// The one of that name, if there is one.
    pub(super) fn read(dir: &Path, id: &SnapshotId) -> io::Result<Option<Self>> {
        match fs::read(file(dir, id)) {
            Ok(bytes) => Self::parse(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.format == form(&manifest.stack) {
            return Ok(manifest);
        }
        let problem = format!("a snapshot of format {}", manifest.format);
        Err(io::Error::new(io::ErrorKind::InvalidData, problem))
    }

    /// Every one there is.
    pub(super) fn all(dir: &Path) -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match fs::read(&path) {
                Ok(bytes) => all.push(Self::parse(&bytes)?),
                // Removed since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Removes one for good; false if there was none.
    pub(super) fn remove(dir: &Path, id: &SnapshotId) -> io::Result<bool> {
        match fs::remove_file(file(dir, id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        }
        File::open(dir)?.sync_all()?;
        Ok(true)
    }
}

fn form(stack: &Stack) -> u32 {
    match stack.template {
        None => FORMAT,
        Some(_) => ON_TEMPLATE,
    }
}

fn file(dir: &Path, id: &SnapshotId) -> PathBuf {
    dir.join(format!("{id}.json"))
}
