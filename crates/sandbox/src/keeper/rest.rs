//! How sandboxes come to rest: paused, put to sleep, ended when their time is over or nobody needs them. It starts
//! none.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Keeper;
use super::place::{Held, Place};
use super::told::News;
use crate::diary::What;
use crate::limits::STOPS_AT_ONCE;
use crate::provider::SandboxId;

impl Keeper {
    /// Pauses those that nobody used for a while, puts to sleep those that nobody used for long, ends those
    /// whose time is over. A name that is `busy` is in use.
    pub async fn tend(&self, busy: impl Fn(&SandboxId) -> bool) {
        for (id, place) in self.all() {
            // Time that is over is over for whoever uses it.
            self.expire(&id, &place).await;
            if busy(&id) {
                // Idleness begins when that is over.
                place.look().wanted = Some(Instant::now());
                continue;
            }
            let Some(mut held) = place.unvisited() else {
                continue;
            };
            self.tend_idle(&id, &place, &mut held).await;
            drop(held);
            self.forget(&id, &place);
        }
    }

    async fn tend_idle(&self, id: &SandboxId, place: &Place, held: &mut Held) {
        let Some(running) = held.running.clone() else {
            // Of a start that was given up on its way.
            held.slot = None;
            return;
        };
        if !running.is_alive() {
            return self.lose(id, place, held).await;
        }
        let idle = place.look().wanted.map_or(Duration::MAX, |at| at.elapsed());
        let settings = &self.0.settings;
        if place.is_awake() {
            return;
        }
        if idle >= settings.sleep_after {
            let reason = format!("it was idle for {}", shown(settings.sleep_after));
            self.sleep(id, place, held, &reason).await;
        } else if settings.pause_after.is_some_and(|after| idle >= after) && !running.is_paused() {
            let begun = Instant::now();
            match running.pause().await {
                Ok(()) => {
                    let paused = News {
                        took: begun.elapsed(),
                        ..News::of(What::Paused)
                    };
                    self.note(id, held, paused).await;
                    self.save(id, held).await;
                }
                Err(error) => {
                    tracing::warn!(sandbox = %id, %error, "an idle sandbox is not paused");
                }
            }
        }
    }

    async fn expire(&self, id: &SandboxId, place: &Place) {
        let Ok(mut held) = Arc::clone(&place.held).try_lock_owned() else {
            return;
        };
        if held.running.is_none() {
            return;
        }
        let now = (self.0.now)();
        let diary = self.open(id, &mut held).await;
        let over = diary.ends().filter(|ends| now >= *ends);
        if let (Some(_), Some(lifetime)) = (over, diary.terms().lifetime) {
            // The next start has a time of its own.
            diary.since = None;
            let reason = format!("its time to live of {} was over", shown(lifetime));
            self.sleep(id, place, &mut held, &reason).await;
        }
    }

    /// Puts it to sleep now; one that does not run is success.
    pub async fn put_to_sleep(&self, id: &SandboxId, reason: &str) {
        let place = self.place(id);
        let mut held = Arc::clone(&place.held).lock_owned().await;
        self.sleep(id, &place, &mut held, reason).await;
        drop(held);
        self.forget(id, &place);
    }

    /// Puts it to sleep soon, if it runs here. Never waits.
    pub fn dismiss(&self, id: &SandboxId, reason: &'static str) {
        if self.running(id).is_none() {
            return;
        }
        let (keeper, id) = (self.clone(), id.clone());
        let put = async move { keeper.put_to_sleep(&id, reason).await };
        self.0.tasks.spawn(put);
    }

    /// Lets every sandbox go as it runs, for the next process to take over.
    pub async fn leave(&self) {
        self.close().await;
        self.0.provider.leave().await;
        for (_, place) in self.all() {
            let mut held = place.held.lock().await;
            held.running = None;
            place.rests();
        }
    }

    /// Puts every sandbox to sleep; workspaces stay. Nothing is made ready ahead of its use after that.
    pub async fn stop_all(&self, reason: &str) {
        self.close().await;
        let mut stopping = JoinSet::new();
        for (id, place) in self.all() {
            if stopping.len() >= STOPS_AT_ONCE {
                stopping.join_next().await;
            }
            let (keeper, reason) = (self.clone(), reason.to_owned());
            stopping.spawn(async move {
                let mut held = Arc::clone(&place.held).lock_owned().await;
                keeper.sleep(&id, &place, &mut held, &reason).await;
            });
        }
        while stopping.join_next().await.is_some() {}
        self.0.provider.close().await;
    }

    /// Ends what goes on without anybody waiting for it.
    async fn close(&self) {
        self.0.closing.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Puts it to sleep. One that has ended before is lost instead.
    pub(super) async fn sleep(&self, id: &SandboxId, place: &Place, held: &mut Held, reason: &str) {
        if held
            .running
            .as_ref()
            .is_some_and(|running| !running.is_alive())
        {
            return self.lose(id, place, held).await;
        }
        if let Some(running) = held.running.take() {
            let begun = Instant::now();
            if let Err(error) = running.hibernate(reason).await {
                tracing::warn!(sandbox = %id, %error, "sandbox did not stop cleanly");
            }
            let stopped = News {
                took: begun.elapsed(),
                ..News::because(What::Stopped, reason)
            };
            self.note(id, held, stopped).await;
            self.save(id, held).await;
        }
        place.rests();
        held.slot = None;
    }
}

/// A time in words for the model.
fn shown(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 120 && seconds.is_multiple_of(60) => {
            format!("{} minutes", seconds / 60)
        }
        seconds => format!("{seconds} seconds"),
    }
}
