//! Owns what this host does with whole workspaces: it has the sandbox rest or stand still, and its layers changed
//! meanwhile. Which layers there are it does not know.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use jail::image::IMAGE;

use super::running::Running;
use super::sweep::settle;
use super::{Change, Known, Local, Shared, adopt, blocking, maker, pool};
use crate::carried::{Export, Exported, Import};
use crate::error::{Doing, Error};
use crate::limits::STANDSTILL;
use crate::provider::SandboxId;
use crate::snapshot::{NewSnapshot, Snapshot, SnapshotId, Workspaces};
use crate::workspace::{Layers, Replaced};

/// A sandbox that nobody else changes.
struct Fixed {
    how: How,
    dir: PathBuf,
    _change: Change,
}

enum How {
    /// Nothing runs in it while the lock is held.
    Resting {
        _lock: File,
    },
    Running(Arc<Running>),
}

#[async_trait]
impl Workspaces for Local {
    async fn snapshot(&self, of: &SandboxId, new: NewSnapshot) -> Result<Snapshot, Error> {
        new.check()?;
        let name = new.id.clone();
        let of_name = of.to_string();
        let (resting, live) = (new.clone(), new);
        let also = of_name.clone();
        let taken = self.change_files(
            of,
            format!("take a snapshot of sandbox {of}"),
            move |layers, dir| layers.snapshot(dir, &of_name, resting),
            move |layers, dir, deadline| layers.snapshot_live(dir, &also, live, deadline),
        );
        taken
            .await
            .map_err(|error| told(error, || format!("a snapshot {name} exists already")))
    }

    async fn snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        let shared = Arc::clone(&self.0);
        let doing = || "list the snapshots".to_owned();
        blocking(doing, move || shared.layers.snapshots())
            .await?
            .doing(doing)
    }

    async fn remove_snapshot(&self, id: &SnapshotId) -> Result<(), Error> {
        let (shared, name) = (Arc::clone(&self.0), id.clone());
        let doing = || format!("remove snapshot {id}");
        let removed = blocking(doing, move || shared.layers.remove(&name)).await?;
        if !removed.doing(doing)? {
            return Err(no_snapshot(id));
        }
        self.collect();
        Ok(())
    }

    async fn fork(&self, from: &SandboxId, to: &SandboxId) -> Result<(), Error> {
        pool::refuse(to)?;
        let place = self.0.dirs.path(to);
        let also = place.clone();
        let forked = self.change_files(
            from,
            format!("fork sandbox {from}"),
            move |layers, dir| {
                layers.fork(dir, &place)?;
                maker::inherit(dir, &place)
            },
            move |layers, dir, deadline| {
                layers.fork_live(dir, &also, deadline)?;
                maker::inherit(dir, &also)
            },
        );
        forked
            .await
            .map_err(|error| told(error, || format!("a sandbox {to} exists already")))
    }

    async fn restore(&self, from: &SnapshotId, to: &SandboxId) -> Result<(), Error> {
        pool::refuse(to)?;
        let (local, from, to) = (self.clone(), from.clone(), to.clone());
        self.owned(async move { local.set_back(&from, &to).await })
            .await
    }

    async fn export(&self, from: &Exported) -> Result<Export, Error> {
        self.begin_export(from).await
    }

    async fn import(&self, to: &SandboxId) -> Result<Import, Error> {
        self.begin_import(to)
    }
}

impl Local {
    /// Does something that goes on though nobody waits for it any more.
    async fn owned<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let task = self.0.tasks.spawn(work);
        task.await.map_err(|_| Error::Gone)?
    }

    /// Has the files of a sandbox worked on: by `resting` while nothing runs in it, or by `live` while what runs
    /// stands still.
    pub(super) async fn change_files<T: Send + 'static>(
        &self,
        id: &SandboxId,
        doing: String,
        resting: impl FnOnce(&Layers, &std::path::Path) -> io::Result<T> + Send + 'static,
        live: impl FnOnce(&Layers, &std::path::Path, Instant) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.0.disks.room()?;
        let (local, id) = (self.clone(), id.clone());
        let work = async move {
            let shared = Arc::clone(&local.0);
            let fixed = local.fix(&id).await?;
            let (dir, what) = (fixed.dir.clone(), doing.clone());
            let done = match &fixed.how {
                How::Resting { .. } => blocking(|| what, move || resting(&shared.layers, &dir))
                    .await?
                    .doing(|| doing),
                How::Running(running) => {
                    let copy = async move {
                        let copy = move || live(&shared.layers, &dir, Instant::now() + STANDSTILL);
                        blocking(|| what, copy).await?.doing(|| doing)
                    };
                    running.still(copy).await
                }
            };
            local.merge_soon(&id);
            match &done {
                Ok(_) => local.count(),
                // What was half made is garbage.
                Err(_) => local.collect(),
            }
            done
        };
        self.owned(work).await
    }

    /// The sandbox, fixed as it is.
    async fn fix(&self, id: &SandboxId) -> Result<Fixed, Error> {
        let (mut change, former) = self.change(id)?;
        let dir = self.0.dirs.path(id);
        if dir.join(IMAGE).exists() {
            return Err(no_layers(id));
        }
        let running = match former.as_ref().and_then(Known::alive) {
            Some(running) => Some(running),
            None => {
                change.then = None;
                if let Some(former) = former {
                    former.ends.end().await?;
                }
                let left = adopt::adopt(&self.0, id).await?.map(Arc::new);
                change.then = left.as_ref().map(Running::known);
                left
            }
        };
        let how = match running {
            Some(running) => How::Running(running),
            None => match self.0.dirs.lock_existing(id).await? {
                Some(lock) => How::Resting {
                    _lock: settle(lock).await?,
                },
                None => return Err(no_sandbox(id)),
            },
        };
        Ok(Fixed {
            how,
            dir,
            _change: change,
        })
    }

    async fn set_back(&self, from: &SnapshotId, to: &SandboxId) -> Result<(), Error> {
        self.0.disks.room()?;
        let (mut change, former) = self.change(to)?;
        let dir = self.0.dirs.path(to);
        if dir.join(IMAGE).exists() {
            return Err(no_layers(to));
        }
        match former {
            Some(former) => drop(former.ends.end().await?),
            None => {
                if let Some(left) = adopt::adopt(&self.0, to).await? {
                    left.end().await?;
                }
            }
        }
        change.then = None;
        let lock = match self.0.dirs.lock_existing(to).await? {
            Some(lock) => Some(settle(lock).await?),
            None => None,
        };
        let (shared, snapshot) = (Arc::clone(&self.0), from.clone());
        let doing = || format!("restore snapshot {from}");
        let restored = move || {
            let replaced = shared.layers.restore(&snapshot, &dir)?;
            if let Some(Replaced(path)) = replaced {
                // One that stays is found as garbage later.
                let _ = shared.trash.take(&path);
            }
            Ok::<_, io::Error>(())
        };
        let restored = blocking(doing, restored).await?;
        drop(lock);
        match restored {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(no_snapshot(from)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::busy(format!("sandbox {to} was just made")))
            }
            other => other.doing(doing),
        }?;
        self.collect();
        Ok(())
    }

    /// Merges the layers of a sandbox if they are many and it rests. Never waits.
    fn merge_soon(&self, id: &SandboxId) {
        if !self.0.layers.is_deep(&self.0.dirs.path(id)) {
            return;
        }
        let (local, id) = (self.clone(), id.clone());
        self.0.tasks.spawn(async move {
            if let Err(error) = local.merge(&id).await {
                tracing::debug!(sandbox = %id, %error, "the layers of a sandbox are not merged now");
            }
        });
    }

    /// Keeps nobody from starting it for longer than one rename takes.
    async fn merge(&self, id: &SandboxId) -> Result<(), Error> {
        let (shared, dir) = (Arc::clone(&self.0), self.0.dirs.path(id));
        let doing = || format!("merge the layers of sandbox {id}");
        let merged = blocking(doing, move || shared.layers.merge(&dir)).await?;
        let Some(merged) = merged.doing(doing)? else {
            return Ok(());
        };
        let Some(lock) = self.0.dirs.lock_resting(id).await? else {
            return Ok(());
        };
        let (shared, dir) = (Arc::clone(&self.0), self.0.dirs.path(id));
        let laid = move || {
            let laid = shared.layers.lay_on(&dir, merged);
            drop(lock);
            laid
        };
        blocking(doing, laid).await?.doing(doing)?;
        self.collect();
        Ok(())
    }

    /// Has the layers counted that were not yet. Never waits.
    fn count(&self) {
        let shared = Arc::clone(&self.0);
        self.0.tasks.spawn_blocking(move || shared.layers.count());
    }

    /// Has layers that nobody refers to removed. Never waits.
    pub(super) fn collect(&self) {
        let shared = Arc::clone(&self.0);
        let collect = move || collect(&shared);
        self.0.tasks.spawn_blocking(collect);
    }
}

/// Removes what nobody refers to. While somebody makes something nothing is: whoever comes next does it.
pub(super) fn collect(shared: &Shared) {
    let trash = |path: &std::path::Path| shared.trash.take(path).map_err(io::Error::other);
    if let Err(error) = shared.layers.collect(trash) {
        tracing::warn!(%error, "layers that nobody needs stay until the next try");
    }
    shared.layers.count();
}

fn no_sandbox(id: &SandboxId) -> Error {
    Error::Missing {
        problem: format!("there is no sandbox {id} with files"),
    }
}

pub(super) fn no_snapshot(id: &SnapshotId) -> Error {
    Error::Missing {
        problem: format!("there is no snapshot {id}"),
    }
}

fn no_layers(id: &SandboxId) -> Error {
    Error::Unsupported {
        step: format!("keep or change the files of sandbox {id} as a whole"),
        errno: 0,
        hint: "it has a disk of its own, which has no layers; one that is made with `sandbox.disk = \"soft\"` has"
            .to_owned(),
    }
}

/// What the caller can do about a failure of the layers.
pub(super) fn told(error: Error, taken: impl FnOnce() -> String) -> Error {
    let Error::Io { doing, source } = error else {
        return error;
    };
    match source.kind() {
        io::ErrorKind::AlreadyExists => Error::invalid(taken()),
        io::ErrorKind::QuotaExceeded => Error::busy(source.to_string()),
        io::ErrorKind::TimedOut => Error::busy(format!(
            "the files of a sandbox that runs are copied, and it would stand still for more than {} s: stop it first, \
             then it takes no time",
            STANDSTILL.as_secs()
        )),
        _ => Error::Io { doing, source },
    }
}
