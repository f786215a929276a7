//! What an earlier process left running: counted before anything new runs, then taken over. It starts nothing.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::place::{Held, Place};
use super::room::Slot;
use super::told::News;
use super::{Keeper, Terms};
use crate::diary::What;
use crate::error::Error;
use crate::limits::ADOPTIONS_AT_ONCE;
use crate::provider::{Sandbox, SandboxId};

impl Keeper {
    /// Has what an earlier process left running count, on the host and in its workspace, before it is taken
    /// over: whoever wants one more meanwhile finds the room that there is.
    ///
    /// # Errors
    /// Those of [`Provider::left`](crate::Provider::left).
    pub async fn count_left(&self) -> Result<Vec<SandboxId>, Error> {
        let left = self.0.provider.left().await?;
        for id in &left {
            let place = self.place(id);
            let mut held = Arc::clone(&place.held).lock_owned().await;
            if held.running.is_none() && held.slot.is_none() {
                let terms = self.open(id, &mut held).await.terms();
                place.agree(&terms);
                self.count(&place, &mut held);
            }
        }
        Ok(left)
    }

    /// Takes over what an earlier process left running, so that it is looked after. Says what that is.
    ///
    /// # Errors
    /// Those of [`Provider::left`](crate::Provider::left).
    pub async fn take_over(&self) -> Result<Vec<SandboxId>, Error> {
        let mut under_way = JoinSet::new();
        let mut taken = Vec::new();
        for id in self.count_left().await? {
            if under_way.len() >= ADOPTIONS_AT_ONCE {
                taken.extend(under_way.join_next().await);
            }
            let keeper = self.clone();
            under_way.spawn(async move {
                match keeper.left(&id).await {
                    Ok(running) => running.map(|_| id),
                    Err(error) => {
                        tracing::warn!(sandbox = %id, %error, "a sandbox was not taken over");
                        None
                    }
                }
            });
        }
        while let Some(done) = under_way.join_next().await {
            taken.push(done);
        }
        Ok(taken.into_iter().flatten().flatten().collect())
    }

    /// The sandbox if it runs, also where an earlier process left it. Starts none.
    ///
    /// # Errors
    /// Those of [`Provider::adopt`](crate::Provider::adopt).
    pub async fn left(&self, id: &SandboxId) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        let place = self.place(id);
        let mut held = Arc::clone(&place.held).lock_owned().await;
        let running = held.running.clone().filter(|running| running.is_alive());
        let left = match running {
            Some(running) => Ok(Some(running)),
            None => self.adopt(id, &place, &mut held).await,
        };
        drop(held);
        self.forget(id, &place);
        left
    }

    async fn adopt(
        &self,
        id: &SandboxId,
        place: &Arc<Place>,
        held: &mut Held,
    ) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        if held.running.is_some() {
            self.lose(id, place, held).await;
        }
        let begun = Instant::now();
        let running = match self.0.provider.adopt(id).await {
            Ok(Some(running)) => running,
            nothing => {
                held.slot = None;
                return nothing;
            }
        };
        let terms: Terms = self.open(id, held).await.terms();
        place.agree(&terms);
        if held.slot.is_none() {
            self.count(place, held);
        }
        held.running = Some(Arc::clone(&running));
        place.runs(&running);
        place.look().wanted = Some(Instant::now());
        let adopted = News {
            took: begun.elapsed(),
            ..News::of(What::Adopted)
        };
        self.note(id, held, adopted).await;
        self.save(id, held).await;
        Ok(Some(running))
    }

    /// Gives it the right to run that it takes already. Where more run than may, it gets that before anybody who
    /// wants one more.
    fn count(&self, place: &Arc<Place>, held: &mut Held) {
        let slot = self.slot_of_running(place.workspace.get());
        let whole = slot.is_whole();
        held.slot = Some(slot);
        if whole {
            return;
        }
        let (keeper, place) = (self.clone(), Arc::clone(place));
        let paid = async move {
            let owed = keeper.owed(place.workspace.get()).await;
            let mut held = place.held.lock().await;
            // One that has ended since owes nothing.
            if let Some(slot) = &mut held.slot {
                slot.fill(owed);
            }
        };
        let closing = self.0.closing.clone();
        self.0
            .tasks
            .spawn(async move { closing.run_until_cancelled(paid).await });
    }
}

impl Slot {
    /// Completes a right that was only taken in part; what it has twice is given back.
    fn fill(&mut self, owed: Self) {
        if self.host.is_none() {
            self.host = owed.host;
        }
        if self.share.is_none() {
            self.share = owed.share;
        }
    }
}
