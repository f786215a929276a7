//! Owns which sandboxes of a host run: claimed at first need or ahead of it, paused and put to sleep when nobody
//! wants them, ended when their time is over, and never more at once than allowed. It knows no session and makes no
//! sandbox itself: a [`Provider`] does.
//!
//! No lock is held across a provider's call but the sandbox's own, so that one slow start holds up nobody else.

mod ahead;
mod flush;
mod left;
mod place;
mod rest;
mod room;
mod templates;
mod told;
mod volumes;
mod workspaces;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::place::{Counted, Held, Place};
pub use self::place::{Standing, Visit};
pub use self::room::Load;
use self::room::Shares;
use self::told::{News, kind};
use crate::diary::{Entry, Step, What};
use crate::error::Error;
use crate::limits::PREPARED_AT_ONCE;
use crate::provider::{How, Provider, ProviderName, Sandbox, SandboxId, Spec};
use crate::template::TemplateRef;
use crate::volume::Mounts;

/// Why a sandbox does not run any more that ran when there was last a server.
const AWAY: &str = "it ended while its server was away: it was killed, or its host was restarted";

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
    /// Whether a sandbox is made ready before its first use, unless it was said otherwise.
    pub eager: bool,
    /// Whether what a turn wrote is brought to the disk when the turn is over.
    pub sync_after_turn: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pause_after: Some(Duration::from_secs(60)),
            sleep_after: Duration::from_secs(600),
            most: 1_000,
            most_of_workspace: None,
            patience: Duration::from_secs(300),
            eager: false,
            sync_after_turn: true,
        }
    }
}

/// How one sandbox is to be kept, by whoever it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Whose it is: it counts towards what that one may have ([`Settings::most_of_workspace`]).
    pub workspace: Option<Arc<str>>,
    /// How long it may run, from its first start on and whatever it does; then it is ended. The next start after
    /// that has as long again.
    pub lifetime: Option<Duration>,
    /// It is neither paused nor put to sleep because nobody uses it, and makes room for no other.
    pub awake: bool,
    /// The volumes that it has from its next start on; none: those that it had at its last.
    pub volumes: Option<Mounts>,
    /// What its workspace lies on if that is still to be made; none: as the operator set it.
    pub template: Option<TemplateRef>,
    /// Who makes it from its next start on; none: whoever was chosen for it before, or else as the operator set it.
    pub provider: Option<ProviderName>,
}

/// What is done about one sandbox, to its end.
type Furnishing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Brings into a new sandbox what is to run there before anybody uses it.
type Furnish = Box<dyn Fn(SandboxId, Arc<dyn Sandbox>) -> Furnishing + Send + Sync>;

/// Whoever is told of all that happens.
type Hear = Box<dyn Fn(&Entry) + Send + Sync>;

/// The sandboxes of one host. Cheap to clone.
#[derive(Clone)]
pub struct Keeper(Arc<Inner>);

struct Inner {
    provider: Arc<dyn Provider>,
    settings: Settings,
    /// Microseconds since 1970.
    now: Box<dyn Fn() -> i64 + Send + Sync>,
    heard_by: OnceLock<Hear>,
    furnished_by: OnceLock<Furnish>,
    places: Mutex<HashMap<SandboxId, Arc<Place>>>,
    /// One permit a running sandbox; first come, first served.
    slots: Arc<Semaphore>,
    shares: Shares,
    refused: AtomicU64,
    /// Turns after which what they wrote was brought to the disk.
    flushed: AtomicU64,
    /// One permit a sandbox that is being made ready ahead of its use.
    ahead: Semaphore,
    /// What goes on without anybody waiting for it.
    tasks: TaskTracker,
    /// No more of that.
    closing: CancellationToken,
}

impl Keeper {
    /// Keeps the sandboxes of `provider`. `now` is the time of day, in microseconds since 1970; it may go back.
    #[must_use]
    pub fn new(
        provider: Arc<dyn Provider>,
        settings: Settings,
        now: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(settings.most));
        Self(Arc::new(Inner {
            provider,
            settings,
            now: Box::new(now),
            heard_by: OnceLock::new(),
            furnished_by: OnceLock::new(),
            places: Mutex::default(),
            slots,
            shares: Shares::default(),
            refused: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            ahead: Semaphore::new(PREPARED_AT_ONCE),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        }))
    }

    /// The sandbox, started if it does not run, for as long as the visit lasts; from now on it is kept by these
    /// terms.
    ///
    /// Cancel safe: yes; who leaves the queue gives up its place.
    ///
    /// # Errors
    /// [`Error::Busy`] when as many run as may and none ended in time, or too many of the workspace wait already;
    /// those of [`Provider::attach`].
    pub async fn visit(&self, spec: Spec, terms: &Terms) -> Result<Visit, Error> {
        let place = self.place(&spec.id);
        place.agree(terms);
        // Before anything is looked at: from here on nobody puts it to sleep.
        let counted = Counted::new(Arc::clone(&place));
        let mut held = place.held.lock().await;
        let id = spec.id.clone();
        let running = held.running.clone().filter(|s| s.is_alive());
        let (running, started) = match running {
            Some(running) => {
                if self.open(&id, &mut held).await.agree(terms) {
                    self.save(&id, &mut held).await;
                }
                (running, false)
            }
            None => {
                let room = self.room(&place, &mut held).await?;
                let running = self.start(&place, &mut held, spec, terms, room).await?;
                (running, true)
            }
        };
        Ok(Visit {
            running,
            started,
            _counted: counted,
        })
    }

    /// Waits for the right to run it, if it has none; says how long that took.
    async fn room(&self, place: &Place, held: &mut Held) -> Result<Duration, Error> {
        let begun = Instant::now();
        if held.slot.is_none() {
            held.slot = Some(self.slot(place.workspace.get()).await?);
        }
        Ok(begun.elapsed())
    }

    /// Starts it, once there is room.
    async fn start(
        &self,
        place: &Place,
        held: &mut Held,
        mut spec: Spec,
        terms: &Terms,
        room: Duration,
    ) -> Result<Arc<dyn Sandbox>, Error> {
        if terms.volumes.is_some() {
            spec.volumes.clone_from(&terms.volumes);
        }
        spec.template = spec.template.or_else(|| terms.template.clone());
        spec.provider = spec.provider.or(terms.provider);
        let (id, begun) = (spec.id.clone(), Instant::now());
        if held.running.is_some() {
            let slot = held.slot.take();
            self.lose(&id, place, held).await;
            held.slot = slot;
        }
        let diary = self.open(&id, held).await;
        let (had_begun, said_it_runs) = (diary.has_begun(), diary.says_it_runs());
        let started = match self.0.provider.attach(spec).await {
            Ok(started) => started,
            Err(error) => {
                held.slot = None;
                let failed = News::because(What::Failed, &error.to_string());
                self.note(&id, held, failed).await;
                self.save(&id, held).await;
                return Err(error);
            }
        };
        held.running = Some(Arc::clone(&started));
        place.runs(&started);
        let birth = started.birth();
        if said_it_runs && birth.how != How::TakenOver {
            // By no process that could say why.
            let lost = News::because(What::Lost, AWAY);
            self.note(&id, held, lost).await;
        }
        if let Some(loss) = Self::loss(self.open(&id, held).await) {
            started.say(loss);
        }
        let mut steps = vec![Step::new("room", room)];
        steps.extend(birth.steps);
        let begun_as = News {
            took: room + begun.elapsed(),
            steps,
            ..News::of(kind(birth.how, had_begun))
        };
        let now = (self.0.now)();
        let diary = self.open(&id, held).await;
        diary.agree(terms);
        diary.begin(now);
        self.note(&id, held, begun_as).await;
        self.save(&id, held).await;
        Ok(started)
    }

    /// What runs under that name now, if it can be said without waiting.
    #[must_use]
    pub fn running(&self, id: &SandboxId) -> Option<Arc<dyn Sandbox>> {
        let place = self.map().get(id).cloned()?;
        let running = place.look().running.clone();
        running.filter(|sandbox| sandbox.is_alive())
    }

    /// As [`Provider::makes`].
    ///
    /// # Errors
    /// As there.
    pub fn makes(&self, provider: ProviderName) -> Result<(), Error> {
        self.0.provider.makes(provider)
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

    /// Stops it and removes its workspace; a name that is not there is success.
    ///
    /// # Errors
    /// Those of [`Provider::delete`].
    pub async fn delete(&self, id: &SandboxId) -> Result<(), Error> {
        let place = self.place(id);
        let mut held = Arc::clone(&place.held).lock_owned().await;
        let deleted = self.0.provider.delete(id).await;
        held.running = None;
        place.rests();
        (held.slot, held.diary) = (None, None);
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
            .is_ok_and(|held| held.running.is_none() && held.slot.is_none());
        if empty && Arc::strong_count(place) == 2 {
            map.remove(id);
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<SandboxId, Arc<Place>>> {
        // The map is whole between any two statements: a panic elsewhere does not spoil it.
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
