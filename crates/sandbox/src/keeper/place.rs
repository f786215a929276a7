//! One sandbox as the keeper sees it: who holds it, who uses it, what can be said of it without waiting. It starts
//! and ends nothing.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::Terms;
use super::room::Slot;
use crate::diary::Diary;
use crate::provider::{Sandbox, SandboxId};

/// One sandbox, running or not.
#[derive(Default)]
pub(super) struct Place {
    /// Whose it is, once that was said.
    pub(super) workspace: OnceLock<Arc<str>>,
    /// Whether idleness has no consequences.
    pub(super) awake: AtomicBool,
    pub(super) held: Arc<tokio::sync::Mutex<Held>>,
    /// What can be said of it without waiting.
    seen: Mutex<Seen>,
    /// People who use it beside a turn.
    visitors: AtomicUsize,
}

/// What is changed by one at a time.
#[derive(Default)]
pub(super) struct Held {
    pub(super) running: Option<Arc<dyn Sandbox>>,
    /// For as long as it runs.
    pub(super) slot: Option<Slot>,
    /// What is written down of it, once it was read.
    pub(super) diary: Option<Diary>,
}

#[derive(Default, Clone)]
pub(super) struct Seen {
    pub(super) running: Option<Arc<dyn Sandbox>>,
    pub(super) started: Option<Instant>,
    pub(super) wanted: Option<Instant>,
    /// When it was last asked to bring what it wrote to the disk.
    pub(super) flushed: Option<Instant>,
}

/// A sandbox as it stands.
#[derive(Clone)]
pub struct Standing {
    /// Its name.
    pub id: SandboxId,
    /// It, if it runs.
    pub running: Option<Arc<dyn Sandbox>>,
    /// Since when it runs.
    pub since: Option<Instant>,
    /// When it was used last.
    pub used: Option<Instant>,
}

/// The right to use a sandbox: while it is there, the sandbox is neither paused nor put to sleep for idleness.
pub struct Visit {
    pub(super) running: Arc<dyn Sandbox>,
    /// Whether it was started for this.
    pub started: bool,
    pub(super) _counted: Counted,
}

impl Deref for Visit {
    type Target = Arc<dyn Sandbox>;

    fn deref(&self) -> &Self::Target {
        &self.running
    }
}

/// Somebody who uses the place, or waits for it.
pub(super) struct Counted(Arc<Place>);

impl Counted {
    pub(super) fn new(place: Arc<Place>) -> Self {
        place.visitors.fetch_add(1, Ordering::SeqCst);
        place.look().wanted = Some(Instant::now());
        Self(place)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.look().wanted = Some(Instant::now());
        self.0.visitors.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Place {
    pub(super) fn look(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_unvisited(&self) -> bool {
        self.visitors.load(Ordering::SeqCst) == 0
    }

    pub(super) fn is_awake(&self) -> bool {
        self.awake.load(Ordering::Relaxed)
    }

    /// The right to change it, if nobody uses it. Whoever comes now waits.
    pub(super) fn unvisited(&self) -> Option<OwnedMutexGuard<Held>> {
        let held = Arc::clone(&self.held).try_lock_owned().ok()?;
        // A visitor is counted before it looks, so one that is not counted has not looked.
        self.is_unvisited().then_some(held)
    }

    /// What can be said of it before anybody waits for it.
    pub(super) fn agree(&self, terms: &Terms) {
        if let Some(workspace) = &terms.workspace {
            self.workspace.get_or_init(|| Arc::clone(workspace));
        }
        self.awake.store(terms.awake, Ordering::Relaxed);
    }

    /// It runs, from now on.
    pub(super) fn runs(&self, running: &Arc<dyn Sandbox>) {
        let mut seen = self.look();
        seen.running = Some(Arc::clone(running));
        seen.started = Some(Instant::now());
    }

    /// It does not run any more.
    pub(super) fn rests(&self) {
        let mut seen = self.look();
        (seen.running, seen.started) = (None, None);
    }
}
