//! What a sandbox wrote in a turn that is over is brought to the disk, in the background. It waits for nobody and holds
//! nobody up.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::Keeper;
use crate::provider::SandboxId;

impl Keeper {
    /// A turn is over that may have used the sandbox: what it wrote goes to the disk, if it was used since this was
    /// asked last. Never waits.
    pub fn flush(&self, id: &SandboxId) {
        let Some(place) = self.map().get(id).cloned() else {
            return;
        };
        {
            let mut seen = place.look();
            if !self.0.settings.sync_after_turn || seen.flushed >= seen.wanted {
                return;
            }
            seen.flushed = Some(Instant::now());
        }
        let (keeper, id) = (self.clone(), id.clone());
        self.0.tasks.spawn(async move {
            let flush = keeper.0.provider.flush(&id);
            match keeper.0.closing.run_until_cancelled(flush).await {
                Some(Ok(())) => {
                    keeper.0.flushed.fetch_add(1, Ordering::Relaxed);
                }
                Some(Err(error)) => {
                    tracing::warn!(sandbox = %id, %error, "what a turn wrote is not brought to the disk now");
                }
                None => {}
            }
        });
    }
}
