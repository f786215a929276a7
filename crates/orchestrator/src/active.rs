//! The handle on a turn that runs now: under which generation it is held, how it is told that what it has
//! in flight must end, and why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use session::Generation;
use tokio_util::sync::CancellationToken;

/// The handle on a running turn.
#[derive(Clone)]
pub(crate) struct Active {
    /// Cancelled when what is in flight must end.
    pub(crate) cancel: CancellationToken,
    interrupted: Arc<AtomicBool>,
    /// Cancelled when somebody else holds the session.
    lost: CancellationToken,
    /// The generation it was claimed under; 0 before that, which no claim makes.
    generation: Arc<AtomicU64>,
}

impl Active {
    pub(crate) fn new(stopping: &CancellationToken) -> Self {
        Self {
            cancel: stopping.child_token(),
            interrupted: Arc::default(),
            lost: CancellationToken::new(),
            generation: Arc::default(),
        }
    }

    /// It was claimed: its lease is renewed from now on.
    pub(crate) fn hold(&self, generation: Generation) {
        self.generation.store(generation.0, Ordering::Release);
    }

    /// What it was claimed under.
    pub(crate) fn held(&self) -> Option<Generation> {
        let generation = self.generation.load(Ordering::Acquire);
        (generation != 0).then_some(Generation(generation))
    }

    pub(crate) fn interrupt(&self) {
        // The flag stands before anyone can see the cancellation.
        self.interrupted.store(true, Ordering::Release);
        self.cancel.cancel();
    }

    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    /// Somebody else holds the session: whatever this run has in flight ends, and nothing comes of it.
    pub(crate) fn lose(&self) {
        // It stands before anyone can see the cancellation.
        self.lost.cancel();
        self.cancel.cancel();
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits until it is lost. Cancel safe.
    pub(crate) async fn until_lost(&self) {
        self.lost.cancelled().await;
    }
}
