//! Owns how much of the disk a sandbox takes: who is looked at when, and what happens to one that takes too
//! much. It counts nothing itself and speaks to no model.
//!
//! One thread looks after all sandboxes of a provider. It walks a sandbox's files only when they can have
//! become too many: what all sandboxes together have taken since its last walk is what the file system has
//! less room for. Between two walks of a sandbox lies [`REST`] times what the last one took.

mod image;
mod measure;
mod told;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use jail::image::IMAGE;
use jail::plan::{By, Limit};
use rustix::fs::statvfs;

use super::client::Client;
use super::volumes::Writable;
use crate::error::Error;
use crate::limits::{DISK_BYTES_MIN, DISK_FILES_MIN, IMAGE_BYTES_MIN};
use crate::volume::VolumeName;
use hand::wire::Ask;

pub(super) use image::Images;
pub(super) use measure::Taken;

/// How often the room on the disk is looked at while sandboxes run.
const TICK: Duration = Duration::from_millis(200);
/// A sandbox that runs is walked at least this often: what others free hides what it takes.
const AT_LEAST: Duration = Duration::from_secs(60);
/// Between two walks lies this many times what the last one took.
const REST: u32 = 3;
/// A sandbox that was just started is left alone for so long.
const FIRST: Duration = Duration::from_secs(2);
/// Bytes that a sandbox which takes too much may take more before what runs in it is ended again: logs, and
/// what removing files writes.
const SLACK: u64 = 1 << 20;
/// Bytes that a sandbox may take while the host's disk is nearly full before what runs in it is ended.
const NEARLY_FULL_SLACK: u64 = 4 << 20;

/// How much of the disk a sandbox may take: its workspace, its outputs and uploads, and what was changed
/// elsewhere in its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes; 0: as many as there are.
    pub bytes: u64,
    /// Files and directories, where they are counted; 0: as many as there are.
    pub files: u64,
    /// How it is held to that.
    pub kind: DiskKind,
}

/// How a sandbox is held to its share of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// What there is is counted from time to time; a sandbox that has too much has what runs in it ended.
    Soft,
    /// A file system of its own of that size, in a file. A sandbox keeps what it was made with.
    Image,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            bytes: 10 << 30,
            files: 2_000_000,
            kind: DiskKind::Soft,
        }
    }
}

impl Disk {
    pub(super) fn check(&self) -> Result<(), Error> {
        let (least, unlimited) = match self.kind {
            DiskKind::Soft => (DISK_BYTES_MIN, self.bytes == 0),
            DiskKind::Image => (IMAGE_BYTES_MIN, false),
        };
        if self.bytes < least && !unlimited {
            let problem = format!(
                "disk of a sandbox: {} is less than {least} bytes",
                self.bytes
            );
            return Err(Error::invalid(problem));
        }
        if self.files > 0 && self.files < DISK_FILES_MIN {
            let problem = format!(
                "files of a sandbox: {} is less than {DISK_FILES_MIN}",
                self.files
            );
            return Err(Error::invalid(problem));
        }
        Ok(())
    }

    /// What holds a sandbox to it that is made now.
    pub(super) fn wanted(&self) -> Limit {
        Limit {
            most: self.bytes,
            by: match self.kind {
                DiskKind::Image => By::Image,
                DiskKind::Soft if self.bytes == 0 => By::Nothing,
                DiskKind::Soft => By::Watch,
            },
        }
    }

    /// What holds a sandbox in `dir` to it.
    pub(super) fn limit(&self, dir: &Path) -> Limit {
        match std::fs::metadata(dir.join(IMAGE)) {
            Ok(image) => Limit {
                most: image.len(),
                by: By::Image,
            },
            Err(_) => Disk {
                kind: DiskKind::Soft,
                ..*self
            }
            .wanted(),
        }
    }
}

/// Looks after the disks of all sandboxes of one provider. Ends its thread when dropped.
pub(super) struct Disks {
    inner: Arc<Inner>,
    settings: Disk,
}

struct Inner {
    /// On the disk that is watched.
    dir: PathBuf,
    /// Bytes that must stay free there.
    reserve: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    watched: Vec<Weak<Guarded>>,
    started: bool,
    ended: bool,
}

/// What the disk is like.
#[derive(Clone, Copy)]
struct Room {
    used: u64,
    files: u64,
    free: u64,
}

/// One running sandbox, or one volume that it writes to.
pub(super) struct Guarded {
    dir: PathBuf,
    /// The volume; none: the sandbox's own share.
    volume: Option<VolumeName>,
    image: bool,
    most: Disk,
    /// Where the numbers of its processes stand; none: below its PID 1.
    group: Option<PathBuf>,
    pid: i32,
    client: Client,
    runtime: tokio::runtime::Handle,
    seen: Mutex<Option<Seen>>,
    /// Whether it takes too much now.
    over: AtomicBool,
    taken: AtomicU64,
    /// How often what runs in it was ended, and how often that was told.
    ended: AtomicU64,
    told: AtomicU64,
    /// Whether the last end was for want of room on the host.
    host: AtomicBool,
}

/// The last walk.
#[derive(Clone, Copy)]
struct Seen {
    taken: Taken,
    at: Instant,
    took: Duration,
    room: Room,
    /// What it may come to before what runs is ended again, while it is over.
    again: u64,
    /// Whether it was.
    walked: bool,
}

impl Seen {
    /// Of a sandbox that nobody has looked at: new ones have next to nothing, and starting many is not to wait
    /// for walks. It is looked at [`FIRST`] later, and before that if the disk says that it can be too much.
    fn unknown(room: Option<Room>) -> Option<Self> {
        Some(Self {
            taken: Taken::default(),
            at: Instant::now(),
            took: FIRST / REST,
            room: room?,
            again: 0,
            walked: false,
        })
    }
}

impl Disks {
    pub(super) fn new(dir: PathBuf, settings: Disk, reserve: u64) -> Self {
        let inner = Inner {
            dir,
            reserve,
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        Self {
            inner: Arc::new(inner),
            settings,
        }
    }

    pub(super) fn settings(&self) -> &Disk {
        &self.settings
    }

    /// Refuses one more sandbox while there is too little room for those there are.
    pub(super) fn room(&self) -> Result<(), Error> {
        let Some(room) = self.inner.room() else {
            return Ok(());
        };
        if room.free >= self.inner.reserve {
            return Ok(());
        }
        Err(Error::busy(format!(
            "the host's disk is nearly full ({} MiB free, {} MiB are kept back): no sandbox starts until \
             its operator makes room",
            room.free >> 20,
            self.inner.reserve >> 20
        )))
    }

    /// Looks after one more, for as long as what is given back lives.
    pub(super) fn watch(
        &self,
        dir: PathBuf,
        live: &jail::plan::Live,
        client: Client,
    ) -> Arc<Guarded> {
        let image = dir.join(IMAGE).exists();
        self.guard((dir, image, None), self.settings, live, client)
    }

    /// Looks after a volume that a sandbox writes to, as long as the sandbox runs: who else writes to it counts too.
    pub(super) fn watch_volume(
        &self,
        volume: Writable,
        live: &jail::plan::Live,
        client: Client,
    ) -> Arc<Guarded> {
        let most = Disk {
            bytes: volume.bytes,
            kind: DiskKind::Soft,
            ..self.settings
        };
        let place = (volume.files, false, Some(volume.name));
        self.guard(place, most, live, client)
    }

    fn guard(
        &self,
        (dir, image, volume): (PathBuf, bool, Option<VolumeName>),
        most: Disk,
        live: &jail::plan::Live,
        client: Client,
    ) -> Arc<Guarded> {
        let watched = Arc::new(Guarded {
            image,
            dir,
            volume,
            most,
            group: live.groups.first().map(|group| group.join("cgroup.procs")),
            pid: live.pid,
            client,
            runtime: tokio::runtime::Handle::current(),
            seen: Mutex::new(Seen::unknown(self.inner.room())),
            over: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            told: AtomicU64::new(0),
            host: AtomicBool::new(false),
        });
        let mut state = self.inner.lock();
        state.watched.push(Arc::downgrade(&watched));
        if !state.started {
            let inner = Arc::clone(&self.inner);
            let thread = thread::Builder::new().name("disks".to_owned());
            match thread.spawn(move || inner.look()) {
                Ok(_) => state.started = true,
                // The next sandbox tries again.
                Err(error) => tracing::error!(%error, "nobody looks after the disks of sandboxes"),
            }
        }
        self.inner.changed.notify_one();
        watched
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        self.inner.lock().ended = true;
        self.inner.changed.notify_one();
    }
}

impl Inner {
    fn look(&self) {
        while let Some(watched) = self.next() {
            let Some(room) = self.room() else { continue };
            let nearly_full = room.free < self.reserve;
            for one in watched.iter().filter_map(Weak::upgrade) {
                one.look(room, nearly_full);
            }
        }
    }

    /// Those that run, after a while; none when the provider is gone.
    fn next(&self) -> Option<Vec<Weak<Guarded>>> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            if !state.watched.is_empty() {
                break;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + TICK;
        while !state.ended {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                break;
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.watched.retain(|one| one.strong_count() > 0);
        Some(state.watched.clone())
    }

    /// `None` where the file system does not say.
    fn room(&self) -> Option<Room> {
        let stat = statvfs(&self.dir).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(Room {
            used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
            files: stat.f_files.saturating_sub(stat.f_ffree),
            free: bytes(stat.f_bavail),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guarded {
    /// Whether it took too much when it was looked at last.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Where its own file system is mounted, seen from here, if it has one.
    pub(super) fn mounted(&self) -> Option<PathBuf> {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        self.image.then_some(root)
    }

    fn look(&self, room: Room, nearly_full: bool) {
        let mut last = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_due(last.as_ref(), room, nearly_full) {
            return;
        }
        let start = Instant::now();
        let taken = if self.image {
            measure::image(&self.dir.join(IMAGE))
        } else if self.volume.is_some() {
            // What is open there and has no name counts to the sandbox that has it open.
            measure::tree(&self.dir, &[])
        } else {
            let processes = measure::processes(self.group.as_deref(), self.pid);
            measure::tree(&self.dir, &processes)
        };
        let walked = last.filter(|seen| seen.walked);
        let (before, again) =
            walked.map_or((taken.bytes, 0), |seen| (seen.taken.bytes, seen.again));
        let mut seen = Seen {
            taken,
            at: Instant::now(),
            took: start.elapsed(),
            room,
            again,
            walked: true,
        };
        self.judge(&mut seen, before, nearly_full);
        *last = Some(seen);
    }

    /// Whether it can have become too much since it was looked at.
    fn is_due(&self, last: Option<&Seen>, room: Room, nearly_full: bool) -> bool {
        if self.client.is_held() {
            // It stands still, and takes nothing.
            return false;
        }
        let Some(seen) = last else { return true };
        let since = seen.at.elapsed();
        let rested = since >= seen.took * REST;
        let more = room.used.saturating_sub(seen.room.used);
        let more_files = room.files.saturating_sub(seen.room.files);
        let can_be_over = |taken: u64, more: u64, most: u64| {
            most > 0 && taken.saturating_add(more) > most && more > 0
        };
        if seen.walked && !rested {
            return false;
        }
        // From here on it is rested, or was never walked.
        !seen.walked && rested
            || nearly_full
            || self.is_over()
            || since >= AT_LEAST
            || can_be_over(seen.taken.bytes, more, self.most.bytes)
            || can_be_over(seen.taken.files, more_files, self.most.files)
    }

    fn judge(&self, seen: &mut Seen, before: u64, nearly_full: bool) {
        let Taken { bytes, files } = seen.taken;
        self.taken.store(bytes, Ordering::SeqCst);
        // An image holds itself to its size.
        let too_much = !self.image
            && (self.most.bytes > 0 && bytes > self.most.bytes
                || self.most.files > 0 && files > self.most.files);
        let was_over = self.over.swap(too_much, Ordering::SeqCst);
        let grows = nearly_full && bytes > before.saturating_add(NEARLY_FULL_SLACK);
        if too_much && (!was_over || bytes > seen.again) {
            // Each further time only for what it takes beyond that.
            seen.again = bytes.saturating_add(SLACK);
            self.end(false);
        } else if grows {
            self.end(true);
        }
    }

    /// Ends what runs in it.
    fn end(&self, host: bool) {
        self.host.store(host, Ordering::SeqCst);
        self.ended.fetch_add(1, Ordering::SeqCst);
        let client = self.client.clone();
        tracing::warn!(
            dir = %self.dir.display(), taken = self.taken.load(Ordering::SeqCst), host,
            "a sandbox takes too much of the disk: what runs in it is ended"
        );
        let tasks = client.tasks().clone();
        let ends = async move {
            if let Err(error) = client.ask(&Ask::End).await {
                // One that does not do even that is not to be helped: nothing else bounds what it writes.
                tracing::warn!(%error, "a sandbox does not end what runs in it: it ends itself");
                client.close();
            }
        };
        tasks.spawn_on(ends, &self.runtime);
    }
}
