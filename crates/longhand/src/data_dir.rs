//! The data directory: where it is, who may read it, and that only one process uses it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

/// The data directory, opened.
pub struct DataDir {
    path: PathBuf,
}

/// The exclusive right to use a data directory; it ends with the process.
pub struct Lock {
    _file: File,
}

impl DataDir {
    /// Opens `chosen`, or the default, and makes it (mode 0700) if it is not there.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(chosen: Option<&Path>) -> anyhow::Result<Self> {
        let path = match chosen {
            Some(path) => path.to_owned(),
            None => default()?,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make the data directory {}", path.display()))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("{}", path.display()))?;
        Ok(Self { path })
    }

    /// Where `name` would be in `chosen` or the default directory, without making anything.
    #[must_use]
    pub fn default_file(chosen: Option<&Path>, name: &str) -> Option<PathBuf> {
        let path = chosen.map_or_else(|| default().ok(), |path| Some(path.to_owned()))?;
        Some(path.join(name))
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Something in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A directory in it, made if it is not there, for its owner only.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.join(name);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Where programs of others are that run agents; sandboxes see them there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn programs(&self) -> anyhow::Result<PathBuf> {
        let programs = self.join("harness");
        harness::install::directory(&programs)
            .with_context(|| format!("cannot make {}", programs.display()))?;
        Ok(programs)
    }

    /// Takes the exclusive right to it; `None` if another process has it.
    ///
    /// # Errors
    /// The lock file cannot be made.
    pub fn try_lock(&self) -> anyhow::Result<Option<Lock>> {
        let path = self.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Takes the exclusive right to it.
    ///
    /// # Errors
    /// Another process has it; the text says what to do.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        match self.try_lock()? {
            Some(lock) => Ok(lock),
            None => bail!(
                "another longhand process uses {}; stop it, or choose another directory with --data-dir",
                self.path.display()
            ),
        }
    }
}

fn default() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/longhand"));
    }
    let share = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    share
        .map(|share| share.join("longhand"))
        .context("neither XDG_DATA_HOME nor HOME is set: choose a directory with --data-dir")
}
