//! Owns which sandboxes of a host run: claimed at first need, paused and put to sleep when nobody wants them,
//! ended when their time is over, and never more at once than allowed. It knows no session and makes no
//! sandbox itself: a [`Provider`] does.
//!
//! No lock is held across a provider's call but the sandbox's own, so that one slow start holds up nobody else.

mod room;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::room::Load;
use self::room::{Shares, Slot};
use crate::error::Error;
use crate::limits::{ADOPTIONS_AT_ONCE, STOPS_AT_ONCE};
use crate::provider::{Provider, Sandbox, SandboxId, Spec};

/// What an operator can set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A sandbox that nobody used for this long is paused; none: never.
    pub pause_after: Option<Duration>,
    /// One that nobody used for this long is put to sleep: no process is left, the shell's directory and
    /// environment are kept.
    pub sleep_after: Duration,
    /// How many run at once; who wants one more waits for its turn.
    pub most: usize,
    /// How many of one workspace run at once; none: all that may. As many of its calls wait for one more, and
    /// further ones are refused at once: whoever waits takes the place of others in a queue elsewhere.
    pub most_of_workspace: Option<usize>,
    /// How long to wait for it.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pause_after: Some(Duration::from_secs(60)),
            sleep_after: Duration::from_secs(600),
            most: 1_000,
            most_of_workspace: None,
            patience: Duration::from_secs(300),
        }
    }
}

/// The sandboxes of one host. Cheap to clone.
#[derive(Clone)]
pub struct Keeper(Arc<Inner>);

struct Inner {
    provider: Arc<dyn Provider>,
    settings: Settings,
    places: Mutex<HashMap<SandboxId, Arc<Place>>>,
    /// One permit a running sandbox; first come, first served.
    slots: Arc<Semaphore>,
    shares: Shares,
    refused: AtomicU64,
}

/// One sandbox, running or not.
#[derive(Default)]
struct Place {
    /// Whose it is, once that was said.
    workspace: OnceLock<Arc<str>>,
    held: Arc<tokio::sync::Mutex<Held>>,
    /// What can be said of it without waiting.
    seen: Mutex<Seen>,
    /// People who use it beside a turn.
    visitors: AtomicUsize,
}

#[derive(Default)]
struct Held {
    running: Option<Arc<dyn Sandbox>>,
    /// For as long as it runs.
    slot: Option<Slot>,
    ends: Option<(Instant, Duration)>,
}

#[derive(Default, Clone)]
struct Seen {
    running: Option<Arc<dyn Sandbox>>,
    started: Option<Instant>,
    wanted: Option<Instant>,
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
    running: Arc<dyn Sandbox>,
    /// Whether it was started for this.
    pub started: bool,
    _counted: Counted,
}

impl Deref for Visit {
    type Target = Arc<dyn Sandbox>;

    fn deref(&self) -> &Self::Target {
        &self.running
    }
}

/// Somebody who uses the place, or waits for it.
struct Counted(Arc<Place>);

impl Counted {
    fn new(place: Arc<Place>) -> Self {
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

impl Keeper {
    /// Keeps the sandboxes of `provider`.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>, settings: Settings) -> Self {
        let slots = Arc::new(Semaphore::new(settings.most));
        Self(Arc::new(Inner {
            provider,
            settings,
            places: Mutex::default(),
            slots,
            shares: Shares::default(),
            refused: AtomicU64::new(0),
        }))
    }

    /// The sandbox, started if it does not run, for as long as the visit lasts. With `lifetime` a sandbox that
    /// is started now ends that long after, whatever it does.
    ///
    /// Cancel safe: yes; who leaves the queue gives up its place.
    ///
    /// # Errors
    /// [`Error::Busy`] when as many run as may and none ended in time; those of [`Provider::attach`].
    pub async fn visit(&self, spec: Spec, lifetime: Option<Duration>) -> Result<Visit, Error> {
        let place = self.place(&spec.id);
        self.visit_place(place, spec, lifetime).await
    }

    /// The same for a sandbox of that workspace, which may have only so many
    /// ([`Settings::most_of_workspace`]).
    ///
    /// Cancel safe: yes.
    ///
    /// # Errors
    /// Those of [`Keeper::visit`]; [`Error::Busy`] also when too many of the workspace wait already.
    pub async fn visit_in(
        &self,
        workspace: &str,
        spec: Spec,
        lifetime: Option<Duration>,
    ) -> Result<Visit, Error> {
        let place = self.place(&spec.id);
        place.workspace.get_or_init(|| workspace.into());
        self.visit_place(place, spec, lifetime).await
    }

    async fn visit_place(
        &self,
        place: Arc<Place>,
        spec: Spec,
        lifetime: Option<Duration>,
    ) -> Result<Visit, Error> {
        // Before anything is looked at: from here on nobody puts it to sleep.
        let counted = Counted::new(Arc::clone(&place));
        let mut held = place.held.lock().await;
        let running = held.running.clone().filter(|s| s.is_alive());
        let (running, started) = match running {
            Some(running) => (running, false),
            None => (self.start(&place, &mut held, spec, lifetime).await?, true),
        };
        Ok(Visit {
            running,
            started,
            _counted: counted,
        })
    }

    async fn start(
        &self,
        place: &Place,
        held: &mut Held,
        spec: Spec,
        lifetime: Option<Duration>,
    ) -> Result<Arc<dyn Sandbox>, Error> {
        if held.slot.is_none() {
            held.slot = Some(self.slot(place.workspace.get()).await?);
        }
        let started = match self.0.provider.attach(spec).await {
            Ok(started) => started,
            Err(error) => {
                held.slot = None;
                return Err(error);
            }
        };
        held.running = Some(started.clone());
        held.ends = lifetime.map(|lifetime| (Instant::now() + lifetime, lifetime));
        let mut seen = place.look();
        seen.running = Some(started.clone());
        seen.started = Some(Instant::now());
        Ok(started)
    }

    /// What runs under that name now, if it can be said without waiting.
    #[must_use]
    pub fn running(&self, id: &SandboxId) -> Option<Arc<dyn Sandbox>> {
        let place = self.map().get(id).cloned()?;
        let running = place.look().running.clone();
        running.filter(|sandbox| sandbox.is_alive())
    }

    /// Every sandbox that has a workspace, by name.
    ///
    /// # Errors
    /// Those of [`Provider::list`].
    pub async fn list(&self) -> Result<Vec<Standing>, Error> {
        let mut ids = self.0.provider.list().await?;
        ids.sort();
        Ok(ids.into_iter().map(|id| self.standing(id)).collect())
    }

    /// How that one stands.
    #[must_use]
    pub fn standing(&self, id: SandboxId) -> Standing {
        let place = self.map().get(&id).cloned();
        let seen = place.map(|place| place.look().clone()).unwrap_or_default();
        let running = seen.running.filter(|sandbox| sandbox.is_alive());
        Standing {
            since: seen.started.filter(|_| running.is_some()),
            used: seen.wanted,
            running,
            id,
        }
    }

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
            let idle = place.look().wanted.map_or(Duration::MAX, |at| at.elapsed());
            let Some(mut held) = place.unvisited() else {
                continue;
            };
            if idle >= self.0.settings.sleep_after {
                let reason = format!("it was idle for {}", shown(self.0.settings.sleep_after));
                sleep(&id, &place, &mut held, &reason).await;
                drop(held);
                self.forget(&id, &place);
            } else if self
                .0
                .settings
                .pause_after
                .is_some_and(|after| idle >= after)
                && let Some(running) = &held.running
                && !running.is_paused()
                && let Err(error) = running.pause().await
            {
                tracing::warn!(sandbox = %id, %error, "an idle sandbox is not paused");
            }
        }
    }

    async fn expire(&self, id: &SandboxId, place: &Place) {
        let Ok(mut held) = Arc::clone(&place.held).try_lock_owned() else {
            return;
        };
        if let Some((at, lifetime)) = held.ends
            && Instant::now() >= at
        {
            let reason = format!("its time to live of {} was over", shown(lifetime));
            sleep(id, place, &mut held, &reason).await;
        }
    }

    /// Puts it to sleep now; one that does not run is success.
    pub async fn put_to_sleep(&self, id: &SandboxId, reason: &str) {
        let place = self.place(id);
        let mut held = Arc::clone(&place.held).lock_owned().await;
        sleep(id, &place, &mut held, reason).await;
        drop(held);
        self.forget(id, &place);
    }

    /// The sandbox if it runs, also where an earlier process left it. Starts none.
    ///
    /// # Errors
    /// Those of [`Provider::adopt`].
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
        place: &Place,
        held: &mut Held,
    ) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        let Some(running) = self.0.provider.adopt(id).await? else {
            return Ok(None);
        };
        // More than allowed may run: they do already.
        let host = Arc::clone(&self.0.slots).try_acquire_owned().ok();
        held.slot = host.map(Slot::of_nobody);
        held.running = Some(running.clone());
        let now = Some(Instant::now());
        *place.look() = Seen {
            running: Some(running.clone()),
            started: now,
            wanted: now,
        };
        Ok(Some(running))
    }

    /// Takes over what an earlier process left running, so that it is looked after.
    ///
    /// # Errors
    /// Those of [`Provider::list`].
    pub async fn take_over(&self) -> Result<(), Error> {
        let mut under_way = JoinSet::new();
        for id in self.0.provider.list().await? {
            if under_way.len() >= ADOPTIONS_AT_ONCE {
                under_way.join_next().await;
            }
            let keeper = self.clone();
            under_way.spawn(async move {
                if let Err(error) = keeper.left(&id).await {
                    tracing::warn!(sandbox = %id, %error, "a sandbox was not taken over");
                }
            });
        }
        while under_way.join_next().await.is_some() {}
        Ok(())
    }

    /// Lets every sandbox go as it runs, for the next process to take over.
    pub async fn leave(&self) {
        self.0.provider.leave().await;
        for (_, place) in self.all() {
            let mut held = place.held.lock().await;
            held.running = None;
            *place.look() = Seen::default();
        }
    }

    /// Puts every sandbox to sleep; workspaces stay.
    pub async fn stop_all(&self, reason: &str) {
        let mut stopping = JoinSet::new();
        for (id, place) in self.all() {
            if stopping.len() >= STOPS_AT_ONCE {
                stopping.join_next().await;
            }
            let reason = reason.to_owned();
            stopping.spawn(async move {
                let mut held = Arc::clone(&place.held).lock_owned().await;
                sleep(&id, &place, &mut held, &reason).await;
            });
        }
        while stopping.join_next().await.is_some() {}
    }

    /// Stops it and removes its workspace; a name that is not there is success.
    ///
    /// # Errors
    /// Those of [`Provider::delete`].
    pub async fn delete(&self, id: &SandboxId) -> Result<(), Error> {
        let place = self.place(id);
        let mut held = Arc::clone(&place.held).lock_owned().await;
        if let Some(running) = held.running.take()
            && let Err(error) = running.stop().await
        {
            tracing::warn!(sandbox = %id, %error, "sandbox did not stop cleanly");
        }
        *place.look() = Seen::default();
        held.slot = None;
        let deleted = self.0.provider.delete(id).await;
        drop(held);
        self.forget(id, &place);
        deleted
    }

    fn place(&self, id: &SandboxId) -> Arc<Place> {
        self.map().entry(id.clone()).or_default().clone()
    }

    fn all(&self) -> Vec<(SandboxId, Arc<Place>)> {
        let map = self.map();
        map.iter()
            .map(|(id, place)| (id.clone(), place.clone()))
            .collect()
    }

    /// Drops an empty place that nobody else holds: two count it, the map and the caller. Who comes later
    /// makes a new one, and there are never two places of one name.
    fn forget(&self, id: &SandboxId, place: &Arc<Place>) {
        let mut map = self.map();
        let empty = place
            .held
            .try_lock()
            .is_ok_and(|held| held.running.is_none());
        if empty && Arc::strong_count(place) == 2 {
            map.remove(id);
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<SandboxId, Arc<Place>>> {
        // The map is whole between any two statements: a panic elsewhere does not spoil it.
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn look(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unvisited(&self) -> bool {
        self.visitors.load(Ordering::SeqCst) == 0
    }

    /// The right to change it, if nobody uses it. Whoever comes now waits.
    fn unvisited(&self) -> Option<OwnedMutexGuard<Held>> {
        let held = Arc::clone(&self.held).try_lock_owned().ok()?;
        // A visitor is counted before it looks, so one that is not counted has not looked.
        self.is_unvisited().then_some(held)
    }
}

async fn sleep(id: &SandboxId, place: &Place, held: &mut Held, reason: &str) {
    if let Some(running) = held.running.take()
        && running.is_alive()
        && let Err(error) = running.hibernate(reason).await
    {
        tracing::warn!(sandbox = %id, %error, "sandbox did not stop cleanly");
    }
    let mut seen = place.look();
    (seen.running, seen.started) = (None, None);
    held.ends = None;
    held.slot = None;
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
