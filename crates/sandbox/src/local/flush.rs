//! Owns bringing to the disk what sandboxes wrote and nobody has asked for: the file system as a whole, once at a time,
//! for however many turns end meanwhile. It knows no turn.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::syncfs;

use super::{Known, Local, Slot, blocking};
use crate::error::{Doing, Error};
use crate::provider::SandboxId;

const STEP: &str = "bring the files of sandboxes to the disk";

/// Who has asked for it, and who was served.
#[derive(Default)]
pub(super) struct Flushes {
    asked: AtomicU64,
    /// Up to whom the last one that is over was for. Held by who does the next.
    done: tokio::sync::Mutex<u64>,
}

impl Flushes {
    /// Has `sync` done by one for all who have asked until it begins. What the caller wrote before is on the disk then.
    async fn share(
        &self,
        sync: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let own = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut done = self.done.lock().await;
        if *done >= own {
            return Ok(());
        }
        let all = self.asked.load(Ordering::SeqCst);
        synced(sync).await?;
        *done = all;
        Ok(())
    }
}

impl Local {
    /// As [`Provider::flush`](crate::Provider::flush). A disk of its own first, then that on which it lies.
    pub(super) async fn flush_files(&self, id: &SandboxId) -> Result<(), Error> {
        if let Some(own) = self.own_disk(id) {
            synced(move || sync(&own)).await?;
        }
        let shared = Arc::clone(&self.0);
        let all = move || sync(shared.dirs.root());
        self.0.flushes.share(all).await
    }

    /// Where the disk that a sandbox has for itself can be reached while it runs.
    fn own_disk(&self, id: &SandboxId) -> Option<PathBuf> {
        let live = self.0.live.lock();
        let live = live.unwrap_or_else(std::sync::PoisonError::into_inner);
        match live.get(id) {
            Some(Slot::Running(known)) => Known::alive(known)?.disk().mounted(),
            Some(Slot::Changing) | None => None,
        }
    }
}

fn sync(place: &std::path::Path) -> io::Result<()> {
    Ok(syncfs(File::open(place)?)?)
}

async fn synced(sync: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), Error> {
    blocking(|| STEP.to_owned(), sync)
        .await?
        .doing(|| STEP.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn who_comes_while_one_is_under_way_shares_the_next_one() {
        let flushes = Arc::new(Flushes::default());
        let done = Arc::new(AtomicU64::new(0));
        let tasks = TaskTracker::new();
        let (go, gate) = mpsc::channel::<()>();
        let first = {
            let (flushes, done) = (Arc::clone(&flushes), Arc::clone(&done));
            tasks.spawn(async move {
                let sync = move || {
                    let _ = gate.recv();
                    done.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                };
                flushes.share(sync).await
            })
        };
        while flushes.asked.load(Ordering::SeqCst) < 1 || flushes.done.try_lock().is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let others: Vec<_> = (0..20)
            .map(|_| {
                let (flushes, done) = (Arc::clone(&flushes), Arc::clone(&done));
                tasks.spawn(async move {
                    let sync = move || {
                        done.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    };
                    flushes.share(sync).await
                })
            })
            .collect();
        while flushes.asked.load(Ordering::SeqCst) < 21 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        go.send(()).unwrap();
        first.await.unwrap().unwrap();
        for other in others {
            other.await.unwrap().unwrap();
        }
        // The one under way began before they had asked, so it is not theirs.
        assert_eq!(done.load(Ordering::SeqCst), 2);
    }
}
