//! Owns the directories of sandboxes on the host and the lock of each. It looks into no workspace.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jail::Record;
use jail::control::{self, SOCKET};
use jail::image::{IMAGE, LAYOUT};
use rustix::fs::{FlockOperation, IFlags, flock, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

use crate::error::{Doing, Error};
use crate::provider::SandboxId;

/// How long to wait before asking again for a lock that a dying sandbox still holds; each time twice as long, up
/// to the longest.
const LOCK_RETRY: Duration = Duration::from_micros(500);
const LOCK_RETRY_MOST: Duration = Duration::from_millis(5);

/// Bytes of the record in a lock, with room to spare: a few paths of the host.
const RECORD_BYTES: usize = 16 << 10;

/// The file that counts the providers there were, beside the sandboxes: no sandbox has such a name.
const GENERATION: &str = ".generation";

/// Who has the locks of sandboxes that have left something, or are about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum InUse {
    Nothing,
    /// Their supervisors live, as far as can be seen.
    ByTheLiving,
    /// One has lost its supervisor, and what that has started is on its way out.
    ByTheDying,
}

pub(super) struct Dirs {
    root: PathBuf,
    handover: Duration,
    generation: u32,
}

impl Dirs {
    pub(super) fn open(root: PathBuf, handover: Duration) -> Result<Self, Error> {
        private_dir(&root)?;
        spread(&root);
        let generation = next_generation(&root.join(GENERATION));
        let generation = generation.doing(|| format!("count up {GENERATION}"))?;
        Ok(Self {
            root,
            handover,
            generation,
        })
    }

    /// Above that of every provider before on this directory. What was given a sandbox under an earlier
    /// one never gets it again.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// How long to wait for a sandbox that another process has.
    pub(super) fn handover(&self) -> Duration {
        self.handover
    }

    /// Below which all of them lie.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, id: &SandboxId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// The sandboxes that have a directory; what is not named like one is left out.
    pub(super) fn list(&self) -> Result<Vec<SandboxId>, Error> {
        let doing = || format!("list {}", self.root.display());
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.root).doing(doing)? {
            let name = entry.doing(doing)?.file_name();
            ids.extend(name.to_str().and_then(|name| SandboxId::new(name).ok()));
        }
        Ok(ids)
    }

    /// Those whose supervisor listens, or did when it was killed.
    pub(super) fn left(&self) -> Result<Vec<SandboxId>, Error> {
        let mut ids = self.list()?;
        ids.retain(|id| self.path(id).join(SOCKET).exists());
        Ok(ids)
    }

    /// Makes the sandbox's directory if it is missing and takes its lock.
    ///
    /// Cancel safe: yes.
    pub(super) async fn lock(&self, id: &SandboxId) -> Result<File, Error> {
        let path = self.path(id);
        loop {
            directory(&path, 0o700).doing(|| format!("make the directory of sandbox {id}"))?;
            let lock = take_lock(&path, id, self.handover).await?;
            // A delete may have renamed the directory between the two lines above.
            if same_file(&lock, &path.join("lock")) {
                return Ok(lock);
            }
        }
    }

    /// Whether a locked sandbox has no files yet. Blocks.
    pub(super) fn is_blank(&self, id: &SandboxId) -> bool {
        let path = self.path(id);
        !path.join(IMAGE).exists() && !path.join(LAYOUT[0]).exists()
    }

    /// Makes what is missing in a locked sandbox's directory. Blocks: on a busy disk a new directory
    /// takes milliseconds.
    ///
    /// `image` gives it a disk of its own if it has nothing yet; one that has anything keeps it.
    pub(super) fn fill(
        &self,
        id: &SandboxId,
        image: impl FnOnce(&Path) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        check_private(&self.root)?;
        let path = self.path(id);
        check_private(&path)?;
        if path.join(IMAGE).exists() || !path.join(LAYOUT[0]).exists() && image(&path)? {
            return Ok(());
        }
        LAYOUT.iter().try_for_each(|name| {
            let made = directory(&path.join(name), 0o755);
            made.doing(|| format!("make `{name}` of sandbox {id}"))
        })
    }

    /// Gives to `look` what stands in the locks that nobody has and whose sandbox left something on the
    /// host; each is held meanwhile. Says what is in use.
    pub(super) fn each_left(&self, look: impl Fn(&SandboxId, &Record)) -> InUse {
        let mut in_use = InUse::Nothing;
        for id in self.list().unwrap_or_default() {
            let lock = OpenOptions::new()
                .read(true)
                .open(self.path(&id).join("lock"));
            let Ok(lock) = lock else { continue };
            // Most have left nothing, and a lock that is held only to look is in somebody's way.
            let left = self.path(&id).join(SOCKET).exists()
                || former(&lock).is_some_and(|record| record.left_groups());
            if !left {
                continue;
            }
            let free = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            match former(&lock) {
                Some(record) if free => look(&id, &record),
                Some(record) if !record.supervisor.lives() => in_use = InUse::ByTheDying,
                _ if !free => in_use = in_use.max(InUse::ByTheLiving),
                _ => {}
            }
        }
        in_use
    }

    /// Removes the socket of a supervisor that has ended.
    pub(super) fn remove_socket(&self, id: &SandboxId) {
        remove_socket(&self.path(id));
    }

    /// Whether somebody has the lock of that sandbox just now.
    pub(super) fn is_held(&self, id: &SandboxId) -> bool {
        let lock = OpenOptions::new()
            .write(true)
            .open(self.path(id).join("lock"));
        lock.is_ok_and(|lock| {
            flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
        })
    }

    /// The lock of a sandbox that has a directory.
    pub(super) async fn lock_existing(&self, id: &SandboxId) -> Result<Option<File>, Error> {
        self.lock_within(id, self.handover).await
    }

    /// The same, unless somebody has it just now: [`Error::Busy`].
    pub(super) async fn lock_resting(&self, id: &SandboxId) -> Result<Option<File>, Error> {
        self.lock_within(id, Duration::ZERO).await
    }

    async fn lock_within(&self, id: &SandboxId, handover: Duration) -> Result<Option<File>, Error> {
        let path = self.path(id);
        loop {
            match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error).doing(|| format!("look at {}", path.display())),
                Ok(_) => {}
            }
            let lock = take_lock(&path, id, handover).await?;
            // Another workspace may have taken its place meanwhile.
            if same_file(&lock, &path.join("lock")) {
                return Ok(Some(lock));
            }
        }
    }
}

/// Has ext4 keep the directories in `path` apart from each other, each with what is in it: they have nothing to do
/// with one another. Without a journal it also takes no inode again that was free for less than a minute, and looks
/// at each of those of a group one by one: in one group with all that was deleted, making the files of a sandbox
/// took up to ten times as long. Other file systems do not know the flag. Source: chattr(1), `T`;
/// fs/ext4/ialloc.c, `recently_deleted`.
fn spread(path: &Path) {
    let spread = File::open(path).and_then(|dir| {
        let flags = ioctl_getflags(&dir)?;
        Ok(ioctl_setflags(&dir, flags | IFlags::TOPDIR)?)
    });
    if let Err(error) = spread {
        tracing::debug!(%error, "the directories of sandboxes are not kept apart on the disk");
    }
}

/// One more than ever before. Not synced to the disk: it matters only to sandboxes of this boot.
fn next_generation(file: &Path) -> io::Result<u32> {
    let file = private_file(file)?;
    // Two providers on one directory never count as one.
    flock(&file, FlockOperation::LockExclusive)?;
    let mut last = [0; 4];
    let read = file.read_at(&mut last, 0)?;
    let last = if read == last.len() {
        u32::from_le_bytes(last)
    } else {
        0
    };
    let next = last.checked_add(1).ok_or(io::ErrorKind::InvalidData)?;
    file.write_all_at(&next.to_le_bytes(), 0)?;
    Ok(next)
}

/// Makes a directory that only this user can enter, or looks whether the one that is there is such.
///
/// Files of sandboxes lie on the host with ids from 0 and set-id bits as they were made inside: this
/// mode is what keeps other users of the host from them, so one that was ever wider is not mended
/// silently.
pub(super) fn private_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .doing(|| format!("make the private directory {}", path.display()))?;
    check_private(path)
}

fn check_private(path: &Path) -> Result<(), Error> {
    let metadata = fs::metadata(path).doing(|| format!("look at {}", path.display()))?;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let own = rustix::process::geteuid().as_raw();
    if owner == own && mode == 0o700 && metadata.is_dir() {
        return Ok(());
    }
    let path = path.display();
    Err(Error::Unsupported {
        step: format!("keep {path} from other users"),
        errno: 0,
        hint: format!(
            "it belongs to user {owner} with mode {mode:o}; if nobody else has put anything there: \
             chown {own} {path} && chmod 700 {path}"
        ),
    })
}

/// A file of this user's alone, made if it is missing, with what it held.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn directory(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // The mode asked for, whatever the umask.
        other => other.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode))),
    }
}

/// Waits for a former owner whose sandbox is just dying. The kernel cannot tell when a lock is
/// free without a thread that blocks, so this asks again, and only while somebody holds it.
async fn take_lock(path: &Path, id: &SandboxId, handover: Duration) -> Result<File, Error> {
    let doing = || format!("lock sandbox {id}");
    let lock = private_file(&path.join("lock")).doing(doing)?;
    let deadline = Instant::now() + handover;
    let mut pause = LOCK_RETRY;
    loop {
        let taken = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        let late = Instant::now() >= deadline;
        match taken {
            // A supervisor that was killed leaves the lock before the last process it watched is dead.
            Ok(()) if !former_lives(&lock) => return Ok(lock),
            Ok(()) if late => return Err(Error::busy(format!("sandbox {id} does not die"))),
            Err(Errno::WOULDBLOCK | Errno::INTR) if late => {
                return Err(Error::busy(format!("another process runs sandbox {id}")));
            }
            Ok(()) | Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(errno) => return Err(errno).doing(doing),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOCK_RETRY_MOST);
    }
}

/// Removes the socket that a supervisor of the sandbox in `dir` has listened on.
pub(super) fn remove_socket(dir: &Path) {
    // A directory that has gone has no socket; one that cannot be cleaned is cleaned at the next start.
    let _ = control::directory(dir).and_then(control::remove);
}

/// What the lock says of the sandbox that had it before.
pub(super) fn former(lock: &File) -> Option<Record> {
    let mut record = vec![0; RECORD_BYTES];
    let read = lock.read_at(&mut record, 0).unwrap_or(0);
    // Behind a record that is being written stands the rest of a longer one.
    let mut records = serde_json::Deserializer::from_slice(&record[..read]).into_iter();
    records.next()?.ok()
}

/// Whether anything of the sandbox that had this lock before may still run.
fn former_lives(lock: &File) -> bool {
    former(lock).is_some_and(|former| former.lives())
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => a.ino() == b.ino() && a.dev() == b.dev(),
        _ => false,
    }
}
