//! Room for one more sandbox: on the host, and in its workspace, so that none takes the room of the others. It
//! counts and waits; that an idle sandbox makes room is all that it does to one.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::Keeper;
use crate::error::Error;
use crate::limits::QUEUE_LOOK;

/// The right to run one sandbox: on the host and, where it is bounded, in its workspace. One that ran before
/// anybody counted may lack some of it for a while.
pub(super) struct Slot {
    pub(super) host: Option<OwnedSemaphorePermit>,
    pub(super) share: Option<OwnedSemaphorePermit>,
    /// Whether its workspace is bounded.
    shared: bool,
}

impl Slot {
    pub(super) fn is_whole(&self) -> bool {
        self.host.is_some() && (self.share.is_some() || !self.shared)
    }
}

/// How many sandboxes a host has, for whoever watches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Those that run.
    pub running: usize,
    /// Those that may.
    pub most: usize,
    /// Those that wait for their first use, made for nobody. They are not counted among those that run.
    pub waiting: usize,
    /// How often somebody wanted one more and was refused, for the host's sake or the workspace's.
    pub refused: u64,
    /// Turns after which what they wrote in their sandbox was brought to the disk.
    pub flushed: u64,
}

/// What one workspace may have.
struct Share {
    /// One permit a running sandbox.
    running: Arc<Semaphore>,
    /// One permit a call that waits.
    waiting: Semaphore,
    most: usize,
}

/// What each workspace may have.
#[derive(Default)]
pub(super) struct Shares(Mutex<HashMap<Arc<str>, Arc<Share>>>);

impl Shares {
    fn of(&self, workspace: &Arc<str>, most: usize) -> Arc<Share> {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !shares.contains_key(workspace) {
            // One of which nothing runs and nothing waits says no more than a new one.
            shares.retain(|_, share| {
                Arc::strong_count(share) > 1 || share.running.available_permits() < share.most
            });
        }
        let share = shares.entry(Arc::clone(workspace)).or_insert_with(|| {
            Arc::new(Share {
                running: Arc::new(Semaphore::new(most)),
                waiting: Semaphore::new(most),
                most,
            })
        });
        Arc::clone(share)
    }
}

impl Keeper {
    /// How many run now.
    #[must_use]
    pub fn load(&self) -> Load {
        let most = self.0.settings.most;
        Load {
            running: most.saturating_sub(self.0.slots.available_permits()),
            most,
            waiting: self.0.provider.waiting(),
            refused: self.0.refused.load(Ordering::Relaxed),
            flushed: self.0.flushed.load(Ordering::Relaxed),
        }
    }

    fn refuse(&self, why: String) -> Error {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        Error::busy(why)
    }

    /// The right to run one more, first in its workspace.
    pub(super) async fn slot(&self, workspace: Option<&Arc<str>>) -> Result<Slot, Error> {
        let deadline = Instant::now() + self.0.settings.patience;
        let share = match (workspace, self.0.settings.most_of_workspace) {
            (Some(workspace), Some(most)) => Some(self.share(workspace, most, deadline).await?),
            (None, _) | (_, None) => None,
        };
        let Some(host) = self.free(&self.0.slots, deadline, None).await else {
            let most = self.0.settings.most;
            return Err(self.refuse(format!(
                "{most} sandboxes run, as many as may, and all of them are in use"
            )));
        };
        Ok(Slot {
            host: Some(host),
            shared: share.is_some(),
            share,
        })
    }

    /// The same if it is free just now.
    pub(super) fn free_slot(&self, workspace: Option<&Arc<str>>) -> Option<Slot> {
        let slot = self.slot_of_running(workspace);
        slot.is_whole().then_some(slot)
    }

    /// As much of the right as is free, for a sandbox that runs already.
    pub(super) fn slot_of_running(&self, workspace: Option<&Arc<str>>) -> Slot {
        let share = self.bounded(workspace);
        let take = |permits: &Arc<Semaphore>| Arc::clone(permits).try_acquire_owned().ok();
        Slot {
            host: take(&self.0.slots),
            shared: share.is_some(),
            share: share.and_then(|share| take(&share.running)),
        }
    }

    /// All of the right, as soon as it is free: before anybody who asks later.
    pub(super) async fn owed(&self, workspace: Option<&Arc<str>>) -> Slot {
        let share = self.bounded(workspace);
        let shared = share.is_some();
        let share = async {
            let share = share?;
            Arc::clone(&share.running).acquire_owned().await.ok()
        };
        let host = Arc::clone(&self.0.slots).acquire_owned();
        let (host, share) = tokio::join!(host, share);
        Slot {
            host: host.ok(),
            share,
            shared,
        }
    }

    fn bounded(&self, workspace: Option<&Arc<str>>) -> Option<Arc<Share>> {
        let (workspace, most) = (workspace?, self.0.settings.most_of_workspace?);
        Some(self.0.shares.of(workspace, most))
    }

    async fn share(
        &self,
        workspace: &Arc<str>,
        most: usize,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let share = self.0.shares.of(workspace, most);
        if let Ok(permit) = Arc::clone(&share.running).try_acquire_owned() {
            return Ok(permit);
        }
        let freed = match share.waiting.try_acquire() {
            Ok(_waiting) => self.free(&share.running, deadline, Some(workspace)).await,
            Err(_) => None,
        };
        freed.ok_or_else(|| {
            self.refuse(format!(
                "{most} sandboxes of this workspace run, as many as it may have, and all of them are in use"
            ))
        })
    }

    /// A permit of these. While none is free, the one that was idle for longest makes room: of the workspace, if
    /// one is named. `None` when the time is over.
    async fn free(
        &self,
        slots: &Arc<Semaphore>,
        deadline: Instant,
        workspace: Option<&Arc<str>>,
    ) -> Option<OwnedSemaphorePermit> {
        // Fair all the same: what becomes free goes to whoever waits.
        if let Ok(permit) = Arc::clone(slots).try_acquire_owned() {
            return Some(permit);
        }
        let mut waiting = std::pin::pin!(Arc::clone(slots).acquire_owned());
        while Instant::now() < deadline {
            self.make_room(workspace).await;
            // Looked at again because another may have become idle.
            if let Ok(permit) = timeout(QUEUE_LOOK, &mut waiting).await {
                return permit.ok();
            }
        }
        None
    }

    async fn make_room(&self, workspace: Option<&Arc<str>>) {
        let mut idle: Vec<_> = self
            .all()
            .into_iter()
            .filter(|(_, place)| place.is_unvisited() && !place.is_awake())
            .filter(|(_, place)| place.look().running.is_some())
            .filter(|(_, place)| workspace.is_none_or(|of| place.workspace.get() == Some(of)))
            .collect();
        idle.sort_by_key(|(_, place)| place.look().wanted);
        for (id, place) in idle {
            if let Some(mut held) = place.unvisited() {
                let reason = match workspace {
                    Some(_) => "its workspace needed the room for another",
                    None => "its host needed the room for others",
                };
                self.sleep(&id, &place, &mut held, reason).await;
                return;
            }
        }
    }
}
