//! Owns the provider for this Linux host: which sandboxes live, their directories and id ranges.
//! It builds none itself: that is the helper's work.

mod adopt;
mod allowance;
mod answer;
mod archives;
mod client;
mod config;
mod dirs;
mod disk;
mod ending;
mod environment;
mod flush;
mod freezer;
mod groups;
mod inside;
mod isolation;
mod kept;
mod launch;
mod maker;
mod memory;
mod net;
mod notes;
mod nursery;
mod pipes;
mod pool;
mod probe;
mod ranges;
mod running;
mod slots;
mod sub_ids;
mod supervisor;
mod sweep;
mod template;
mod templates;
mod trash;
mod trust;
mod unclaimed;
mod usage;
mod volumes;
mod workspaces;

use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use jail::plan::{ID_COUNT, SHARED, SubIds};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::error::{Doing, Error};
use crate::isolation::Isolation;
use crate::limits::STARTS_PER_CPU;
use crate::provider::{Provider, ProviderName, Report, Sandbox, SandboxId, Spec};
use crate::snapshot::Workspaces;
use crate::template::{self as templated, TemplateRef};
use crate::volume::Volumes;
use crate::workspace::Layers;
pub use allowance::Allowance;
pub use config::Config;
use dirs::Dirs;
pub use disk::{Disk, DiskKind};
use disk::{Disks, Images};
use ending::Ended;
use environment::check_env;
use flush::Flushes;
use groups::{Groups, Together};
pub use maker::Gvisor;
pub use net::{Ends, Network};
use nursery::Nursery;
use pool::Pool;
use ranges::Ranges;
use running::Running;
use slots::{Known, Live, Slot};
use sweep::{settle, sweep};
use template::Templates;
pub use template::template_home;
use trash::Trash;
pub use trust::Trusting;
use unclaimed::Unclaimed;
use volumes::Registry;

/// Sandboxes on this host, isolated by the kernel. Cheap to clone.
#[derive(Clone)]
pub struct Local(Arc<Shared>);

struct Shared {
    dirs: Dirs,
    templates: Templates,
    /// What a workspace that is made lies on unless somebody says otherwise.
    template: TemplateRef,
    layers: Layers,
    volumes: Registry,
    flushes: Flushes,
    trash: Trash,
    ranges: Arc<Ranges>,
    own_ids: bool,
    /// Without ids of their own: those that this user may give away.
    sub_ids: Option<SubIds>,
    programs: Option<PathBuf>,
    disks: Disks,
    images: Images,
    helper: OnceLock<Arc<OwnedFd>>,
    nursery: Nursery,
    unclaimed: Unclaimed,
    allowance: Allowance,
    groups: OnceLock<Arc<Groups>>,
    together: Option<Together>,
    orphan: Duration,
    pool: Pool,
    maker: ProviderName,
    gvisor: Gvisor,
    own_kernels_only: bool,
    network: Option<Arc<dyn Network>>,
    /// Whether sandboxes are left to the next server from now on.
    leaving: Arc<AtomicBool>,
    live: Arc<Mutex<Live>>,
    /// One for each sandbox that may be on its way up; first come, first served.
    starts: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// The right to change what lives under an id. Given back when dropped.
struct Change {
    live: Arc<Mutex<Live>>,
    id: SandboxId,
    then: Option<Known>,
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
    /// removal of what is in the trash and of what killed sandboxes left on the host, and tries nothing
    /// else: see [`Provider::probe`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] when `dir`, the trash or the templates is there and not this user's alone;
    /// [`Error::Invalid`] for an allowance that is too small; [`Error::Io`].
    pub fn new(dir: PathBuf, config: Config) -> Result<Self, Error> {
        config.allowance.check()?;
        // The helper gets them from another working directory.
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).doing(|| format!("make {} absolute", path.display()))
        };
        let (trash, templates) = (absolute(config.trash)?, absolute(config.templates)?);
        let snapshots = absolute(config.snapshots)?;
        let volumes = absolute(config.volumes)?;
        let dir = absolute(dir)?;
        let together = (config.memory_together > 0).then(|| Together {
            name: format!("longhand-all-{:08x}", ranges::hash(&dir.to_string_lossy())),
            bytes: config.memory_together,
        });
        dirs::private_dir(&snapshots)?;
        let own_ids = isolation::gives_own_ids();
        let layers = Layers::open(snapshots, dir.clone(), own_ids)
            .doing(|| "open the snapshots".to_owned())?;
        let sub_ids = if own_ids {
            None
        } else {
            sub_ids::of_this_user()
        };
        let starts = Arc::new(Semaphore::new(starts_at_once()));
        let shared = Arc::new(Shared {
            layers: layers.with_shares(config.layers),
            disks: Disks::new(dir.clone(), config.allowance.disk, config.disk_reserve),
            flushes: Flushes::default(),
            volumes: Registry::open(volumes, config.volume_bytes)?,
            images: Images::new(templates.clone()),
            templates: Templates::open(templates, config.usr, config.disk_reserve)?,
            template: config.template,
            trash: Trash::open(trash, sub_ids, Arc::clone(&starts))?,
            ranges: Ranges::of(&dir, own_ids.then_some(Path::new(ranges::OF_THE_HOST))),
            dirs: Dirs::open(dir, config.handover)?,
            own_ids,
            sub_ids,
            programs: config.programs,
            helper: OnceLock::new(),
            nursery: Nursery::default(),
            unclaimed: Unclaimed::default(),
            allowance: config.allowance,
            groups: OnceLock::new(),
            together,
            orphan: config.orphan,
            pool: Pool::new(config.warm),
            maker: config.provider,
            gvisor: config.gvisor,
            own_kernels_only: config.own_kernels_only,
            network: config.network,
            leaving: Arc::default(),
            live: Arc::default(),
            starts,
            tasks: TaskTracker::new(),
        });
        let swept = Arc::downgrade(&shared);
        thread::Builder::new()
            .name("sweep".to_owned())
            .spawn(move || sweep(&swept))
            .doing(|| "start the search for what was left behind".to_owned())?;
        Ok(Self(shared))
    }

    /// Stops every sandbox that this value attached and waits until all are gone. Workspaces stay.
    pub async fn shutdown(&self) {
        self.close_pool().await;
        let running = self.running();
        for running in &running {
            running.kill();
        }
        drop(running);
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// How well the sandboxes that it makes now are kept apart. Tries the host's means the first time.
    ///
    /// # Errors
    /// [`Error::Gone`] when the process is ending.
    pub async fn isolation(&self) -> Result<Isolation, Error> {
        let shared = Arc::clone(&self.0);
        let found = tokio::task::spawn_blocking(move || {
            let base = if shared.own_ids { 1 } else { SHARED };
            let many = shared.own_ids || shared.sub_ids.is_some();
            let ids = if many { ID_COUNT } else { 1 };
            let apart = shared.maker == ProviderName::Gvisor;
            isolation::isolation(
                base,
                ids,
                apart,
                &shared.limits(shared.disks.settings().wanted()),
            )
        });
        found.await.map_err(|_| Error::Gone)
    }

    fn running(&self) -> Vec<Arc<Running>> {
        let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        let running = live.values().filter_map(|slot| match slot {
            Slot::Running(known) => known.running.upgrade(),
            Slot::Changing => None,
        });
        running.collect()
    }

    fn change(&self, id: &SandboxId) -> Result<(Change, Option<Known>), Error> {
        let mut live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        let former = match live.get(id) {
            Some(Slot::Changing) => {
                return Err(Error::busy(format!(
                    "sandbox {id} is being attached or deleted"
                )));
            }
            Some(Slot::Running(known)) => Some(known.clone()),
            None => None,
        };
        let then = former.clone();
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
        pool::refuse(&spec.id)?;
        let (mut change, former) = self.change(&spec.id)?;
        let apart = self.0.own_kernels_only || spec.provider == Some(ProviderName::Gvisor);
        let enough = |running: &Running| running.has_own_kernel() || !apart;
        if let Some(former) = former {
            if let Some(running) = former.alive().filter(|running| enough(running)) {
                return Ok(running);
            }
            former.ends.end().await?;
        }
        change.then = None;
        let mut adopted = adopt::adopt(&self.0, &spec.id).await?;
        if let Some(less) = adopted.take_if(|running| !enough(running)) {
            less.end().await?;
        }
        let running = match adopted {
            Some(running) => running,
            None => match self.claim(&spec).await? {
                Some(running) => running,
                None => launch::launch(&self.0, spec).await?,
            },
        };
        let running = Arc::new(running);
        change.then = Some(running.known());
        Ok(running)
    }

    async fn adopt(&self, id: &SandboxId) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        let (mut change, former) = self.change(id)?;
        if let Some(running) = former.as_ref().and_then(Known::alive) {
            return Ok(Some(running));
        }
        let mut adopted = adopt::adopt(&self.0, id).await?;
        let apart = self.0.own_kernels_only;
        if let Some(less) = adopted.take_if(|running| apart && !running.has_own_kernel()) {
            less.end().await?;
        }
        let Some(running) = adopted else {
            change.then = None;
            return Ok(None);
        };
        let running = Arc::new(running);
        change.then = Some(running.known());
        Ok(Some(running))
    }

    async fn left(&self) -> Result<Vec<SandboxId>, Error> {
        let shared = Arc::clone(&self.0);
        let left = move || shared.dirs.left();
        let left = blocking(|| "look for what an earlier server left".to_owned(), left).await?;
        left.map(somebodys)
    }

    async fn remember(&self, id: &SandboxId, bytes: &[u8]) -> Result<(), Error> {
        let (dir, bytes) = (self.0.dirs.path(id), bytes.to_owned());
        let doing = || format!("keep what is to be known of sandbox {id}");
        let kept = blocking(doing, move || kept::keep(&dir, kept::DIARY, &bytes)).await?;
        kept.doing(doing)
    }

    async fn recall(&self, id: &SandboxId) -> Result<Option<Vec<u8>>, Error> {
        let dir = self.0.dirs.path(id);
        let doing = || format!("read what is known of sandbox {id}");
        blocking(doing, move || kept::find(&dir, kept::DIARY))
            .await?
            .doing(doing)
    }

    async fn close(&self) {
        self.close_pool().await;
    }

    fn waiting(&self) -> usize {
        self.0.pool.len()
    }

    async fn leave(&self) {
        self.close_pool().await;
        self.0.leaving.store(true, Ordering::Relaxed);
        for running in self.running() {
            running.leave();
        }
    }

    async fn flush(&self, id: &SandboxId) -> Result<(), Error> {
        self.flush_files(id).await
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), Error> {
        let (mut change, former) = self.change(id)?;
        let ended = match former {
            Some(former) => former.ends.end().await?,
            None => match adopt::adopt(&self.0, id).await? {
                Some(left) => left.end().await?,
                None => Ended::default(),
            },
        };
        change.then = None;
        let lock = if ended.whole {
            // Its supervisor has the lock until the last mount is gone. The trash waits for that.
            None
        } else {
            match self.0.dirs.lock_existing(id).await? {
                Some(lock) => Some(settle(lock).await?),
                None => return Ok(()),
            }
        };
        let shared = Arc::clone(&self.0);
        let path = self.0.dirs.path(id);
        let taken = move || {
            let leaves = shared.layers.leaves(&path);
            shared.trash.take(&path).map(|()| leaves)
        };
        let leaves = blocking(|| format!("delete sandbox {id}"), taken).await??;
        drop(lock);
        if leaves {
            self.collect();
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<SandboxId>, Error> {
        let shared = Arc::clone(&self.0);
        let list = move || shared.dirs.list();
        let listed = blocking(|| "list the sandboxes".to_owned(), list).await?;
        listed.map(somebodys)
    }

    fn workspaces(&self) -> Option<&dyn Workspaces> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }

    fn templates(&self) -> Option<&dyn templated::Templates> {
        Some(self)
    }

    fn makes(&self, provider: ProviderName) -> Result<(), Error> {
        self.0.makes(provider)
    }

    async fn probe(&self) -> Report {
        probe::probe(self).await
    }
}

/// Those that belong to somebody: not what waits for its first use, and not what is only tried.
fn somebodys(ids: Vec<SandboxId>) -> Vec<SandboxId> {
    let mut ids = pool::left_out(ids);
    ids.retain(|id| !probe::is_of(id));
    ids
}

/// How many may be on their way up at a time.
fn starts_at_once() -> usize {
    /// The kernel is asked once: the answer comes from several files.
    static AT_ONCE: OnceLock<usize> = OnceLock::new();
    let processors = || thread::available_parallelism().map_or(1, NonZero::get);
    *AT_ONCE.get_or_init(|| processors() * STARTS_PER_CPU)
}

/// What `work` gives, which waits for the disk.
async fn blocking<T: Send + 'static>(
    doing: impl FnOnce() -> String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other).doing(doing)
}
