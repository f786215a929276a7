//! Owns the volumes of this host: where they lie, which there are, and which sandbox has which. It mounts none, and
//! looks into none but to count.
//!
//! A volume is a directory with a record and a directory of its files. It gets its name by one rename, when it is whole
//! and on the disk, and loses it by another. A sandbox's own directory says which it has: that is written before the
//! sandbox starts, under a lock that whoever removes a volume has for itself.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jail::plan::Attached;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::dirs::{Dirs, private_dir};
use super::{Local, Slot, blocking, usage};
use crate::error::{Doing, Error};
use crate::limits::{
    DISK_BYTES_MIN, SHOWN_SANDBOXES, VOLUME_RECORD_BYTES, VOLUMES_OF_ONE, VOLUMES_OF_WORKSPACE,
};
use crate::provider::SandboxId;
use crate::volume::{Mounts, NewVolume, Volume, VolumeId, VolumeName, Volumes};
use crate::workspace::HELD;

/// In the directory of a volume: what it is, and its files.
const RECORD: &str = "volume.json";
const FILES: &str = "files";
/// One that is being made; no volume has such an id.
const DRAFT: &str = "new";
const LOCK: &str = "lock";
/// How long to wait before looking again whether a sandbox has let go of its lock.
const LET_GO_RETRY: Duration = Duration::from_millis(5);
/// Of [`Record`]; one of another form is not understood, and stays.
const FORMAT: u32 = 1;

/// What is written down of a volume. It never changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    format: u32,
    id: VolumeId,
    name: VolumeName,
    workspace: String,
    at: i64,
    bytes: u64,
}

/// A volume that a sandbox has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    id: VolumeId,
    name: VolumeName,
    read_only: bool,
}

/// A volume that a sandbox writes to.
#[derive(Debug)]
pub(super) struct Writable {
    pub(super) name: VolumeName,
    pub(super) files: PathBuf,
    /// Bytes that may lie in it; 0: as many as there is room for.
    pub(super) bytes: u64,
}

/// The volumes of one provider. All of it blocks.
pub(super) struct Registry {
    home: PathBuf,
    /// Bytes that any may have; 0: as many as there is room for.
    most: u64,
}

impl Registry {
    pub(super) fn open(home: PathBuf, most: u64) -> Result<Self, Error> {
        private_dir(&home)?;
        Ok(Self { home, most })
    }

    /// What the sandbox in `dir` is to show, which from now on has the volumes that are wanted, or those that it had. Its
    /// lock is held.
    pub(super) fn attach(
        &self,
        dir: &Path,
        wanted: Option<&Mounts>,
    ) -> Result<Vec<Attached>, Error> {
        let doing = || "attach volumes".to_owned();
        let had = held_by(dir).doing(doing)?;
        if wanted.map_or(had.is_empty(), |wanted| wanted.each.is_empty()) {
            if !had.is_empty() {
                fs::remove_file(dir.join(HELD)).doing(doing)?;
            }
            return Ok(Vec::new());
        }
        let _nobody_removes = self.lock(FlockOperation::LockShared).doing(doing)?;
        let all = self.all().doing(doing)?;
        let has = match wanted {
            Some(wanted) => chosen(wanted, &all)?,
            None => had.clone(),
        };
        if let Some(lost) = has
            .iter()
            .find(|one| !all.iter().any(|there| there.id == one.id))
        {
            return Err(gone(lost.name.as_str()));
        }
        if has != had {
            hold(dir, &has).doing(doing)?;
        }
        let shown = has.into_iter().map(|one| Attached {
            source: self.path(&one.id).join(FILES),
            name: one.name.into(),
            read_only: one.read_only,
        });
        Ok(shown.collect())
    }

    /// Those that the sandbox in `dir` writes to, as far as they can be read.
    pub(super) fn written_by(&self, dir: &Path) -> Vec<Writable> {
        let held = held_by(dir).unwrap_or_default();
        let written = held.into_iter().filter(|one| !one.read_only);
        let written = written.filter_map(|one| {
            let record = self.read(&one.id).ok()??;
            Some(Writable {
                name: record.name,
                files: self.path(&one.id).join(FILES),
                bytes: record.bytes,
            })
        });
        written.collect()
    }

    fn create(&self, new: NewVolume) -> Result<Volume, Error> {
        let bytes = self.size(new.bytes)?;
        let doing = || format!("make volume {}", new.name);
        let _alone = self.lock(FlockOperation::LockExclusive).doing(doing)?;
        let mut own = self.all().doing(doing)?;
        own.retain(|one| one.workspace == new.workspace);
        if own.iter().any(|one| one.name == new.name) {
            let problem = format!("there is a volume {} already", new.name);
            return Err(Error::conflict(problem));
        }
        if own.len() >= VOLUMES_OF_WORKSPACE {
            let problem = format!(
                "the workspace has {VOLUMES_OF_WORKSPACE} volumes, as many as it may: remove some"
            );
            return Err(Error::conflict(problem));
        }
        let record = Record {
            format: FORMAT,
            id: new.id.clone(),
            name: new.name.clone(),
            workspace: new.workspace.clone(),
            at: new.at,
            bytes,
        };
        self.make(&record).doing(doing)?;
        Ok(record.shown(Vec::new()))
    }

    fn size(&self, asked: Option<u64>) -> Result<u64, Error> {
        let bytes = asked.unwrap_or(self.most);
        let too_small = bytes > 0 && bytes < DISK_BYTES_MIN;
        let too_large = self.most > 0 && (bytes == 0 || bytes > self.most);
        if !too_small && !too_large {
            return Ok(bytes);
        }
        let most = match self.most {
            0 => "as much as there is room for".to_owned(),
            most => format!("{} MiB", most >> 20),
        };
        Err(Error::invalid(format!(
            "a volume may have between {} MiB and {most}, not {} MiB",
            DISK_BYTES_MIN >> 20,
            bytes >> 20
        )))
    }

    fn make(&self, record: &Record) -> io::Result<()> {
        let draft = self.home.join(DRAFT);
        match fs::remove_dir_all(&draft) {
            // Else of somebody who was killed.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&draft)?;
        let files = draft.join(FILES);
        fs::create_dir(&files)?;
        // The mode asked for, whatever the umask.
        fs::set_permissions(&files, Permissions::from_mode(0o755))?;
        write(&draft.join(RECORD), &serde_json::to_vec(record)?)?;
        File::open(&draft)?.sync_all()?;
        let path = self.path(&record.id);
        renameat_with(CWD, &draft, CWD, &path, RenameFlags::NOREPLACE)?;
        File::open(&self.home)?.sync_all()
    }

    /// Every volume with those of `sandboxes` that have it, the oldest first.
    fn list(&self, sandboxes: &Dirs) -> Result<Vec<Volume>, Error> {
        let doing = || "list the volumes".to_owned();
        let mut all = self.all().doing(doing)?;
        all.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        let holders = holders(sandboxes)?;
        let shown = all.into_iter().map(|record| {
            let of_this = holders.iter().filter(|(_, id)| *id == record.id);
            let of_this = of_this.map(|(sandbox, _)| sandbox.clone()).collect();
            record.shown(of_this)
        });
        Ok(shown.collect())
    }

    /// Gives a volume to `trash`, if none of `sandboxes` has it; with `force`, if none of those may run. Else says which.
    fn remove(
        &self,
        id: &VolumeId,
        force: bool,
        sandboxes: &Dirs,
        trash: impl Fn(&Path) -> Result<(), Error>,
    ) -> Result<Result<(), InUse>, Error> {
        let doing = || format!("remove volume {id}");
        let _alone = self.lock(FlockOperation::LockExclusive).doing(doing)?;
        let record = self.read(id).doing(doing)?;
        let record = record.ok_or_else(|| gone(id.as_str()))?;
        let mut against = holders(sandboxes)?;
        against.retain(|(sandbox, held)| {
            held == id && !(force && is_resting(&sandboxes.path(sandbox)))
        });
        if !against.is_empty() {
            let by = against.into_iter().map(|(sandbox, _)| sandbox).collect();
            let name = record.name;
            return Ok(Err(InUse { name, by }));
        }
        trash(&self.path(id))?;
        let gone = File::open(&self.home).and_then(|home| home.sync_all());
        gone.doing(doing).map(Ok)
    }

    fn path(&self, id: &VolumeId) -> PathBuf {
        self.home.join(id.as_str())
    }

    /// The kernel gives it back for a process that is killed.
    fn lock(&self, how: FlockOperation) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let lock = options.mode(0o600).open(self.home.join(LOCK))?;
        rustix::io::retry_on_intr(|| flock(&lock, how))?;
        Ok(lock)
    }

    fn all(&self) -> io::Result<Vec<Record>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.home)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Ok(id) = VolumeId::new(name) {
                // Else it was removed since.
                all.extend(self.read(&id)?);
            }
        }
        Ok(all)
    }

    fn read(&self, id: &VolumeId) -> io::Result<Option<Record>> {
        let Some(bytes) = bytes(&self.path(id).join(RECORD))? else {
            return Ok(None);
        };
        let record: Record = serde_json::from_slice(&bytes)?;
        if record.format == FORMAT {
            return Ok(Some(record));
        }
        let problem = format!("volume {id} is of format {}", record.format);
        Err(io::Error::new(io::ErrorKind::InvalidData, problem))
    }
}

impl Record {
    fn shown(self, sandboxes: Vec<SandboxId>) -> Volume {
        Volume {
            id: self.id,
            name: self.name,
            workspace: self.workspace,
            at: self.at,
            bytes: self.bytes,
            sandboxes,
        }
    }
}

#[async_trait]
impl Volumes for Local {
    async fn create_volume(&self, new: NewVolume) -> Result<Volume, Error> {
        self.0.disks.room()?;
        let shared = Arc::clone(&self.0);
        let doing = || format!("make volume {}", new.name);
        let what = doing();
        blocking(|| what, move || shared.volumes.create(new)).await?
    }

    async fn list_volumes(&self) -> Result<Vec<Volume>, Error> {
        let shared = Arc::clone(&self.0);
        let list = move || shared.volumes.list(&shared.dirs);
        blocking(|| "list the volumes".to_owned(), list).await?
    }

    async fn volume_usage(&self, id: &VolumeId) -> Result<(u64, bool), Error> {
        let files = self.0.volumes.path(id).join(FILES);
        let name = id.clone();
        let counted = move || match files.is_dir() {
            true => Ok(usage::disk(&files)),
            false => Err(gone(name.as_str())),
        };
        blocking(|| format!("count volume {id}"), counted).await?
    }

    async fn remove_volume(&self, id: &VolumeId, force: bool) -> Result<(), Error> {
        let deadline = Instant::now() + self.0.dirs.handover();
        loop {
            let (shared, name) = (Arc::clone(&self.0), id.clone());
            let removed = move || {
                let trash = |path: &Path| shared.trash.take(path);
                shared.volumes.remove(&name, force, &shared.dirs, trash)
            };
            let removed = blocking(|| format!("remove volume {id}"), removed).await??;
            let Err(in_use) = removed else { return Ok(()) };
            let stays = !force || in_use.by.iter().any(|id| self.may_run(id));
            if stays || Instant::now() >= deadline {
                return Err(in_use.told(force));
            }
            // One that was stopped just now has its lock until its last mount is gone.
            sleep(LET_GO_RETRY).await;
        }
    }
}

impl Local {
    /// Whether this process runs that sandbox, or is about to.
    fn may_run(&self, id: &SandboxId) -> bool {
        let live = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        match live.get(id) {
            Some(Slot::Running(known)) => known.alive().is_some(),
            Some(Slot::Changing) => true,
            None => false,
        }
    }
}

/// The volumes of that workspace that have those names.
fn chosen(wanted: &Mounts, all: &[Record]) -> Result<Vec<Held>, Error> {
    if wanted.each.len() > VOLUMES_OF_ONE {
        let problem = format!("a sandbox may have {VOLUMES_OF_ONE} volumes");
        return Err(Error::invalid(problem));
    }
    let mut held: Vec<Held> = Vec::with_capacity(wanted.each.len());
    for mount in &wanted.each {
        let is_it = |record: &&Record| {
            record.name.as_str() == mount.name && *record.workspace == *wanted.workspace
        };
        let record = all.iter().find(is_it).ok_or_else(|| gone(&mount.name))?;
        if held.iter().any(|one| one.id == record.id) {
            let problem = format!("volume {} is asked for twice", mount.name);
            return Err(Error::invalid(problem));
        }
        held.push(Held {
            id: record.id.clone(),
            name: record.name.clone(),
            read_only: mount.read_only,
        });
    }
    Ok(held)
}

/// Which sandbox has which volume.
fn holders(sandboxes: &Dirs) -> Result<Vec<(SandboxId, VolumeId)>, Error> {
    let mut holders = Vec::new();
    for sandbox in sandboxes.list()? {
        let held = held_by(&sandboxes.path(&sandbox));
        let held = held.doing(|| format!("read which volumes sandbox {sandbox} has"))?;
        holders.extend(held.into_iter().map(|one| (sandbox.clone(), one.id)));
    }
    Ok(holders)
}

/// Whether nobody has the lock of the sandbox in `dir`, as whoever runs it does.
fn is_resting(dir: &Path) -> bool {
    let lock = File::open(dir.join("lock"));
    lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_ok())
}

fn held_by(dir: &Path) -> io::Result<Vec<Held>> {
    match bytes(&dir.join(HELD))? {
        Some(bytes) => Ok(serde_json::from_slice(&bytes)?),
        None => Ok(Vec::new()),
    }
}

/// Writes down which volumes the sandbox in `dir` has: a power cut leaves what was there before, or this.
fn hold(dir: &Path, held: &[Held]) -> io::Result<()> {
    let path = dir.join(HELD);
    let draft = path.with_extension("new");
    write(&draft, &serde_json::to_vec(held)?)?;
    fs::rename(draft, path)?;
    File::open(dir)?.sync_all()
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// What stands in a small file, if there is one.
fn bytes(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(VOLUME_RECORD_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn gone(name: &str) -> Error {
    Error::Missing {
        problem: format!(
            "there is no volume {name} here: `longhand volume list` shows those there are, `longhand volume create` \
             makes one"
        ),
    }
}

/// The sandboxes that keep a volume from being removed.
struct InUse {
    name: VolumeName,
    by: Vec<SandboxId>,
}

impl InUse {
    fn told(&self, force: bool) -> Error {
        let shown = self.by.iter().take(SHOWN_SANDBOXES);
        let names = shown.map(SandboxId::as_str).collect::<Vec<_>>().join(", ");
        let more = match self.by.len().saturating_sub(SHOWN_SANDBOXES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let next = match force {
            true => "they run: stop them first",
            false => "remove them, or with `force` take it from those that do not run",
        };
        let name = &self.name;
        Error::conflict(format!("volume {name} is in use by {names}{more}; {next}"))
    }
}
