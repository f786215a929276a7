//! The handle on a turn that runs now: how it is told that what it has in flight must end, and why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// The handle on a running turn.
#[derive(Clone)]
pub(crate) struct Active {
    /// Cancelled when what is in flight must end.
    pub(crate) cancel: CancellationToken,
    interrupted: Arc<AtomicBool>,
}

impl Active {
    pub(crate) fn new(stopping: &CancellationToken) -> Self {
        Self {
            cancel: stopping.child_token(),
            interrupted: Arc::default(),
        }
    }

    pub(crate) fn interrupt(&self) {
        // The flag stands before anyone can see the cancellation.
        self.interrupted.store(true, Ordering::Release);
        self.cancel.cancel();
    }

    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }
}
