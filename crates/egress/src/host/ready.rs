//! Authorities that were made before a sandbox wants one: nobody waits for a key. Each is given out once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::time::Micros;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Host;
use crate::intercept::{Ca, CaError};
use crate::limits::AUTHORITIES;

/// How long to wait when none can be made.
const AGAIN: Duration = Duration::from_secs(1);

/// Those that wait.
#[derive(Default)]
pub(super) struct Authorities {
    waiting: Mutex<Vec<Ca>>,
    taken: Notify,
}

impl Authorities {
    /// One that waits, or a new one.
    ///
    /// # Errors
    /// [`CaError`].
    pub(super) fn take(&self, now: Micros) -> Result<Ca, CaError> {
        let waiting = self.waiting().pop();
        self.taken.notify_one();
        waiting.map_or_else(|| Ca::new(now), Ok)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Ca>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes more of them whenever there are too few, until the process ends.
pub(super) async fn make(host: Arc<Host>) {
    let making = async {
        loop {
            while host.ready.waiting().len() < AUTHORITIES {
                let now = host.now();
                match spawn_blocking(move || Ca::new(now)).await {
                    Ok(Ok(made)) => host.ready.waiting().push(made),
                    // Whoever wants one is told why.
                    Ok(Err(_)) | Err(_) => sleep(AGAIN).await,
                }
            }
            host.ready.taken.notified().await;
        }
    };
    tokio::select! {
        () = host.stop.cancelled() => {}
        () = making => {}
    }
}
