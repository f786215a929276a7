//! Owns the removal of deleted sandboxes, by one worker, off everybody's path. It never follows a link.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::dirs::private_dir;
use crate::error::{Doing, Error};
use crate::limits::TRASH_QUEUE;

/// A directory whose content is going to be removed. The worker ends with this value; what it did
/// not reach is found at the next start.
pub(super) struct Trash {
    dir: PathBuf,
    queue: SyncSender<PathBuf>,
    next: AtomicU64,
}

impl Trash {
    pub(super) fn open(dir: PathBuf) -> Result<Self, Error> {
        private_dir(&dir)?;
        let (queue, work) = sync_channel(TRASH_QUEUE);
        let leftovers = dir.clone();
        thread::Builder::new()
            .name("trash".to_owned())
            .spawn(move || worker(&leftovers, &work))
            .doing(|| "start the trash worker".to_owned())?;
        Ok(Self {
            dir,
            queue,
            next: AtomicU64::new(0),
        })
    }

    /// Moves a directory out of sight and queues its removal.
    pub(super) fn take(&self, path: &Path) -> Result<(), Error> {
        let doing = || format!("move {} to the trash", path.display());
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let place = self.dir.join(format!("{}-{number}", std::process::id()));
            match fs::create_dir(&place) {
                // Left by an earlier process of the same number.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).doing(doing),
                Ok(()) => {
                    fs::rename(path, place.join("old")).doing(doing)?;
                    // A full queue only delays the removal until the next start.
                    let _ = self.queue.try_send(place);
                    return Ok(());
                }
            }
        }
    }
}

fn worker(dir: &Path, work: &Receiver<PathBuf>) {
    let leftovers: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    for entry in leftovers {
        remove(&entry.path());
    }
    while let Ok(path) = work.recv() {
        remove(&path);
    }
}

/// `remove_dir_all` works below descriptors and does not follow links, so what a sandbox left in
/// its tree cannot point it elsewhere. Directories without rights are opened first.
fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_err() {
        open_up(path);
        if let Err(error) = fs::remove_dir_all(path) {
            tracing::warn!(path = %path.display(), %error, "trash stays until the next start");
        }
    }
}

fn open_up(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    if metadata.is_dir() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            open_up(&entry.path());
        }
    }
}
