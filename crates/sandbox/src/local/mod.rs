//! Owns the provider for this Linux host: which sandboxes live, their directories and id ranges.
//! It builds none itself: that is the helper's work.

mod answer;
mod client;
mod dirs;
mod launch;
mod pipes;
mod probe;
mod ranges;
mod running;
mod template;
mod trash;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use crate::error::{Doing, Error};
use crate::limits::{ENV_VARS, HANDOVER};
use crate::provider::{Provider, Report, Sandbox, SandboxId, Spec};
use dirs::Dirs;
use ranges::Ranges;
use running::Running;
use template::Templates;
use trash::Trash;

/// What an operator can set.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where deleted sandboxes wait for removal; on the same file system as the sandboxes.
    pub trash: PathBuf,
    /// Where generated templates are kept; on the same file system as the sandboxes.
    pub templates: PathBuf,
    /// What sandboxes see as `/usr`, read-only.
    pub usr: PathBuf,
    /// How long attach and delete wait while another process has the sandbox: long enough for one
    /// that was just killed to finish dying.
    pub handover: Duration,
}

impl Config {
    /// The usual places beside `dir`: `trash` and `templates` in its parent, the host's `/usr`.
    #[must_use]
    pub fn beside(dir: &Path) -> Self {
        let parent = dir.parent().unwrap_or(dir);
        Self {
            trash: parent.join("trash"),
            templates: parent.join("templates"),
            usr: PathBuf::from("/usr"),
            handover: HANDOVER,
        }
    }
}

/// Sandboxes on this host, isolated by the kernel. Cheap to clone.
#[derive(Clone)]
pub struct Local(Arc<Shared>);

struct Shared {
    dirs: Dirs,
    templates: Templates,
    trash: Trash,
    ranges: Arc<Ranges>,
    helper: OnceLock<Arc<OwnedFd>>,
    live: Arc<Mutex<Live>>,
    tasks: TaskTracker,
}

type Live = HashMap<SandboxId, Slot>;

enum Slot {
    /// Being attached or deleted.
    Changing,
    Running(Weak<Running>),
}

/// The right to change what lives under an id. Given back when dropped.
struct Change {
    live: Arc<Mutex<Live>>,
    id: SandboxId,
    then: Option<Weak<Running>>,
}

impl Drop for Change {
    fn drop(&mut self) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        match self.then.take() {
            Some(running) => live.insert(self.id.clone(), Slot::Running(running)),
            None => live.remove(&self.id),
        };
    }
}

impl Local {
    /// Sandboxes below `dir`, one directory each. Makes the directories that are missing, starts the
    /// removal of what is in the trash, and tries nothing else: see [`Provider::probe`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] when `dir`, the trash or the templates is there and not this user's alone;
    /// [`Error::Io`].
    pub fn new(dir: PathBuf, config: Config) -> Result<Self, Error> {
        // The helper gets them from another working directory.
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).doing(|| format!("make {} absolute", path.display()))
        };
        let (trash, templates) = (absolute(config.trash)?, absolute(config.templates)?);
        Ok(Self(Arc::new(Shared {
            dirs: Dirs::open(absolute(dir)?, config.handover)?,
            templates: Templates::open(templates, config.usr)?,
            trash: Trash::open(trash)?,
            ranges: Arc::default(),
            helper: OnceLock::new(),
            live: Arc::default(),
            tasks: TaskTracker::new(),
        })))
    }

    /// Stops every sandbox that this value attached and waits until all are gone. Workspaces stay.
    pub async fn shutdown(&self) {
        let running: Vec<_> = {
            let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.values()
                .filter_map(|slot| match slot {
                    Slot::Running(running) => running.upgrade(),
                    Slot::Changing => None,
                })
                .collect()
        };
        for running in &running {
            running.kill();
        }
        drop(running);
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn change(&self, id: &SandboxId) -> Result<(Change, Option<Arc<Running>>), Error> {
        let mut live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        let former = match live.get(id) {
            Some(Slot::Changing) => {
                return Err(Error::busy(format!(
                    "sandbox {id} is being attached or deleted"
                )));
            }
            Some(Slot::Running(running)) => running.upgrade(),
            None => None,
        };
        let then = former.as_ref().map(Arc::downgrade);
        live.insert(id.clone(), Slot::Changing);
        Ok((
            Change {
                live: Arc::clone(&self.0.live),
                id: id.clone(),
                then,
            },
            former,
        ))
    }
}

#[async_trait]
impl Provider for Local {
    async fn attach(&self, spec: Spec) -> Result<Arc<dyn Sandbox>, Error> {
        check_env(&spec.env)?;
        let (mut change, former) = self.change(&spec.id)?;
        if let Some(former) = former {
            if former.is_alive() {
                return Ok(former);
            }
            former.stop().await?;
        }
        change.then = None;
        let running = Arc::new(launch::launch(&self.0, spec).await?);
        change.then = Some(Arc::downgrade(&running));
        Ok(running)
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), Error> {
        let (mut change, former) = self.change(id)?;
        if let Some(former) = former {
            former.stop().await?;
        }
        change.then = None;
        if let Some(lock) = self.0.dirs.lock_existing(id).await? {
            self.0.trash.take(&self.0.dirs.path(id))?;
            drop(lock);
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<SandboxId>, Error> {
        let shared = Arc::clone(&self.0);
        let listed = tokio::task::spawn_blocking(move || shared.dirs.list()).await;
        listed
            .map_err(std::io::Error::other)
            .doing(|| "list the sandboxes".to_owned())?
    }

    async fn probe(&self) -> Report {
        probe::probe(self).await
    }
}

fn check_env(env: &[(String, String)]) -> Result<(), Error> {
    if env.len() > ENV_VARS {
        return Err(Error::invalid(format!(
            "more than {ENV_VARS} environment variables"
        )));
    }
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Error::invalid(format!(
                "environment variable {name:?} is malformed"
            )));
        }
    }
    Ok(())
}
