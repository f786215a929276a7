//! Everything that happens without a request: leases, runs, recovery. It obeys the session core and
//! never edits a session itself.
//!
//! A run is a row in the store. A commit that opens a turn wakes the loop here, which claims due runs
//! (the generation goes up), runs each in a task of its own, and forgets it: what remains to be done
//! after a crash stands in the store, and the next claim settles it.
#![forbid(unsafe_code)]

mod active;
mod ahead;
mod brief;
pub mod clock;
mod config;
mod credentials;
mod crew;
mod endpoint;
mod entries;
mod exports;
pub mod faults;
mod inside;
mod loss;
pub mod network;
mod parts;
mod plane;
mod renewals;
mod run;
mod sandboxes;
mod shells;
pub mod templates;
mod whereabouts;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::ids::SessionId;
use contract::time::Micros;
use harness::Harness;
use harness::causes::chain;
use model::{Catalog, Client, Endpoint};
use sandbox::Keeper;
use session::Generation;
use store::Store;
use store::replica::ReplicaName;
use store::runs::Holder;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vault::Vault;

use crate::active::Active;
pub use crate::config::Config;
use crate::exports::Exports;
use crate::faults::Fault;
pub use crate::parts::Parts;
use crate::sandboxes::Sandboxes;

/// Due runs read at once; more are read when these are claimed.
const CLAIM_BATCH: u32 = 64;

/// Longest sleep until the table of runs is looked at again: a clock that was set back must not put a turn
/// off for long.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The same among several servers: one of them may be gone, and its turns wait.
const LOOK_AGAIN_AMONG: Duration = Duration::from_secs(1);

/// Shortest pause before something is looked at again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// Shortest pause after a table of runs that could not be read.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How often sandboxes are looked over for idleness and for the end of their time.
const TEND_EVERY: Duration = Duration::from_secs(5);

/// Runs the sessions of one server.
#[derive(Clone)]
pub struct Orchestrator(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) vault: Arc<Vault>,
    pub(crate) harness: Arc<dyn Harness>,
    pub(crate) others: Vec<Arc<dyn Harness>>,
    pub(crate) client: Client,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) config: Config,
    pub(crate) sandboxes: Sandboxes,
    pub(crate) holder: Holder,
    /// The name of this server, if there are several.
    pub(crate) replica: Option<ReplicaName>,
    /// Where they leave workspaces to one another, if they do.
    pub(crate) exports: Option<Exports>,
    /// The turns of this server that run now.
    active: Mutex<HashMap<SessionId, Active>>,
    /// One permit a running turn.
    turns: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    /// A turn ended: one that was passed over may now be taken.
    again: Notify,
    /// Held while runs are claimed: whoever drains waits for it, so that no turn starts behind its back.
    claiming: tokio::sync::Mutex<()>,
    /// Turns put down what they do at their next commit.
    pub(crate) draining: CancellationToken,
    /// Turns end at once.
    pub(crate) stopping: CancellationToken,
}

impl Orchestrator {
    /// An orchestrator that does nothing until [`Orchestrator::run`].
    #[must_use]
    pub fn new(parts: Parts, config: Config) -> Self {
        let (replica, holder) = match parts.store.replica() {
            Some((name, holder)) => (Some(name), holder),
            None => (None, Holder(format!("{:032x}", config.clock.entropy()))),
        };
        let exports = config.exports.clone().filter(|_| replica.is_some());
        let inner = Arc::new(Inner {
            exports: exports.map(Exports::new),
            store: parts.store,
            vault: parts.vault,
            harness: parts.harness,
            others: parts.others,
            client: parts.client,
            catalog: parts.catalog,
            endpoint: parts.endpoint,
            sandboxes: Sandboxes::new(parts.provider, config.sandboxes.clone(), config.clock),
            holder,
            replica,
            active: Mutex::default(),
            turns: Arc::new(Semaphore::new(config.turns)),
            tasks: TaskTracker::new(),
            again: Notify::new(),
            claiming: tokio::sync::Mutex::default(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            config,
        });
        crate::ahead::furnish(&inner);
        Self(inner)
    }

    /// Takes up what an earlier process left, then runs what becomes due, until the end of
    /// [`Orchestrator::drain`].
    ///
    /// # Errors
    /// The store cannot be read at the start.
    pub async fn run(&self) -> Result<(), store::Error> {
        let inner = &self.0;
        if inner.config.alone && inner.replica.is_none() {
            let now = inner.now();
            let left = inner.store.requeue_all(inner.holder.clone(), now).await?;
            if left > 0 {
                tracing::info!(runs = left, "taking up turns that an earlier process left");
            }
        }
        inner.sandboxes.count_left().await;
        // Apart: a sandbox that is slow to stop must hold up no turn and no interrupt.
        tokio::join!(
            self.turns(),
            self.interrupts(),
            self.renewals(),
            self.archives(),
            self.housekeeping()
        );
        Ok(())
    }

    /// Claims what becomes due, until the drain begins.
    async fn turns(&self) {
        let inner = &self.0;
        loop {
            let looked_at = self.claim_due().await;
            tokio::select! {
                biased;
                () = inner.draining.cancelled() => return,
                () = inner.store.run_due(), if !faults::on(Fault::WakeUnheard) => {}
                () = inner.again.notified() => {}
                () = self.until_next_due(looked_at) => {}
            }
        }
    }

    /// Sleeps until the earliest due time in the store after `looked_at`, when what was due was read last: what
    /// became due since is slept for no longer. Only to be prompt: what is due stands in the store, and
    /// whatever changes it wakes the loop. Never longer than [`LOOK_AGAIN`], whatever the clock does.
    async fn until_next_due(&self, looked_at: Micros) {
        let longest = match self.0.replica {
            None => LOOK_AGAIN,
            Some(_) => LOOK_AGAIN_AMONG,
        };
        let pause = match self.0.store.next_due(looked_at).await {
            Ok(None) => longest,
            Ok(Some(at)) => {
                let micros = u64::try_from(at.0.saturating_sub(self.0.now().0)).unwrap_or(0);
                Duration::from_micros(micros).clamp(SHORTEST_PAUSE, longest)
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "the next due run cannot be read");
                AFTER_FAILURE
            }
        };
        tokio::time::sleep(pause).await;
    }

    /// Hands interrupts to the turns they are for, until those have been given up: a server that drains still
    /// stops when it is told to.
    async fn interrupts(&self) {
        let inner = &self.0;
        let mut unread = BTreeSet::new();
        loop {
            let sessions = tokio::select! {
                biased;
                () = inner.stopping.cancelled() => return,
                sessions = inner.store.stops() => sessions,
                () = tokio::time::sleep(SHORTEST_PAUSE), if !unread.is_empty() => std::mem::take(&mut unread),
            };
            for session in sessions {
                if !self.interrupt(session).await {
                    unread.insert(session);
                }
            }
        }
    }

    /// Renews the leases of all running turns, and gives back what is held unknown, until those have been given up. A turn whose lease somebody
    /// else has taken ends at once; the store would refuse what it reports in any case.
    async fn renewals(&self) {
        let inner = &self.0;
        loop {
            tokio::select! {
                biased;
                () = inner.stopping.cancelled() => return,
                () = tokio::time::sleep(inner.config.renew_every) => {}
            }
            if inner.replica.is_some() {
                run::give_back_unknown(inner).await;
            }
            let held = inner.held();
            if held.is_empty() || faults::on(Fault::RenewalDropped) {
                continue;
            }
            let (holder, now) = (inner.holder.clone(), inner.now());
            let renewed = inner
                .store
                .renew_all(holder, held.clone(), inner.lease(), now);
            match renewed.await {
                Ok(lost) => inner.lose(&held, &lost),
                // Until the lease ends there is time to try again; after that the store decides.
                Err(error) => tracing::error!(error = %chain(&error), "leases not renewed"),
            }
        }
    }

    /// Removes what nobody needs any more.
    async fn housekeeping(&self) {
        let inner = &self.0;
        let mut tend = tokio::time::interval(TEND_EVERY);
        inner.sandboxes.take_over(&inner.store).await;
        self.collect().await;
        loop {
            tokio::select! {
                biased;
                () = inner.draining.cancelled() => return,
                () = inner.store.session_deleted() => self.collect().await,
                _ = tend.tick() => {
                    inner.sandboxes.tend(|session| inner.runs(session)).await;
                    inner.store.runs_sandboxes(inner.sandboxes.keeper().load().running);
                }
            }
        }
    }

    /// Ends in order: no new turns; running ones reach a commit, or are cut after `patience`; sandboxes
    /// stop, or are left with what runs in them. What was cut is settled by the next start.
    pub async fn drain(&self, patience: Duration) {
        let inner = &self.0;
        inner.draining.cancel();
        drop(inner.claiming.lock().await);
        inner.tasks.close();
        if tokio::time::timeout(patience, inner.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                turns = inner.active().len(),
                "turns did not reach a commit in time"
            );
        }
        if inner.config.leave_sandboxes {
            // First: what the turns give up now goes on.
            inner.sandboxes.keeper().leave().await;
        }
        inner.stopping.cancel();
        inner.tasks.wait().await;
        if !inner.config.leave_sandboxes {
            inner.sandboxes.stop_all().await;
        }
    }

    /// The sandboxes of this server, for people who use them beside the turns.
    #[must_use]
    pub fn keeper(&self) -> &Keeper {
        self.0.sandboxes.keeper()
    }

    /// Turns that run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.active().len()
    }

    /// Starts a task for each due run that this process does not run already, as far as permits go. Says as of
    /// when it looked.
    async fn claim_due(&self) -> Micros {
        let inner = &self.0;
        let _claiming = inner.claiming.lock().await;
        let now = inner.now();
        if inner.draining.is_cancelled() {
            return now;
        }
        // Those whose claim is under way still stand there as due: they must not hide the ones behind them.
        let limit = CLAIM_BATCH + inner.unclaimed();
        let due = match inner.store.due_runs(limit, now).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(error = %chain(&error), "due runs cannot be read");
                tokio::time::sleep(AFTER_FAILURE).await;
                inner.again.notify_one();
                return now;
            }
        };
        let mut more = false;
        let full = due.len() == limit as usize;
        for run in due {
            let Ok(permit) = inner.turns.clone().try_acquire_owned() else {
                // Each turn that ends looks again.
                return now;
            };
            let Some(active) = inner.begin(run.session) else {
                inner.outrun(run.session, run.generation);
                continue;
            };
            let ends = run::Ends {
                inner: inner.clone(),
                session: run.session,
                permit: Some(permit),
            };
            more = full;
            inner
                .tasks
                .spawn(async move { run::turn(&ends.inner, run.session, active).await });
        }
        // A batch of nothing but our own late leases would be read again and again.
        if more {
            inner.again.notify_one();
        }
        now
    }

    /// Removes the workspaces that no session names any more. Sessions are made before their sandboxes,
    /// so whatever lies on the disk without a session is garbage.
    async fn collect(&self) {
        let inner = &self.0;
        let kept = inner.sandboxes.kept().await;
        let existing = match inner.store.existing(kept.clone()).await {
            Ok(existing) => existing.into_iter().collect::<HashSet<_>>(),
            Err(error) => {
                tracing::error!(error = %error, "workspaces were not collected");
                return;
            }
        };
        for session in kept
            .into_iter()
            .filter(|session| !existing.contains(session))
        {
            if let Err(error) = inner.sandboxes.delete(session).await {
                tracing::warn!(session_id = %session, error = %error, "workspace not removed");
            }
        }
        if let Some(exports) = &inner.exports {
            exports.collect(&inner.store).await;
        }
    }

    /// A client changed a session that runs: what an interrupt is for must end, and what was opened begins. False if
    /// it could not be found out what has changed.
    async fn interrupt(&self, session: SessionId) -> bool {
        let Some(active) = self.0.active().get(&session).cloned() else {
            return true;
        };
        if faults::on(Fault::StopUnheard) {
            return true;
        }
        // The signal may be older than the run: only a session that says so is interrupted, and the turn it names.
        let scope = store::sessions::Scope::Any;
        match self.0.store.session(scope, session).await {
            Ok(row) => active.hear(&row.state),
            Err(store::Error::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(session_id = %session, error = %chain(&error), "interrupt not read; tried again");
                return false;
            }
        }
        true
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Micros {
        self.config.clock.now()
    }

    /// How long a claim holds unless it is renewed. Among several servers it holds for as long as this one is seen:
    /// their clocks differ.
    pub(crate) fn lease(&self) -> Option<Duration> {
        self.replica.is_none().then_some(self.config.lease)
    }

    /// Has due runs looked at once more.
    pub(crate) fn look_again(&self) {
        self.again.notify_one();
    }

    /// Whether a turn of that session runs here, or its claim is under way.
    fn runs(&self, session: SessionId) -> bool {
        self.active().contains_key(&session)
    }

    /// The turns that run under a lease, and which.
    fn held(&self) -> Vec<(SessionId, Generation)> {
        let active = self.active();
        let held = active
            .iter()
            .map(|(id, active)| Some((*id, active.held()?)));
        held.flatten().collect()
    }

    /// How many turns have begun whose claim is not known to stand.
    fn unclaimed(&self) -> u32 {
        let active = self.active();
        let unclaimed = active.values().filter(|active| active.held().is_none());
        u32::try_from(unclaimed.count()).unwrap_or(u32::MAX / 2)
    }

    /// Ends the turns whose lease is gone, unless they have ended, or begun anew, since it was asked for.
    fn lose(&self, held: &[(SessionId, Generation)], lost: &[SessionId]) {
        for (session, generation) in held.iter().filter(|(id, _)| lost.contains(id)) {
            if let Some(active) = self.active().get(session)
                && active.held() == Some(*generation)
                && !faults::on(Fault::LossUnheard)
            {
                tracing::warn!(session_id = %session, "the lease of a turn is gone");
                active.lose();
            }
        }
    }

    /// Ends a turn that somebody else has taken meanwhile, without waiting for a renewal to tell: its session
    /// is due again, and waits for nothing but the end of it.
    fn outrun(&self, session: SessionId, generation: Generation) {
        if let Some(active) = self.active().get(&session)
            && active.held().is_some_and(|held| held < generation)
            && !faults::on(Fault::LossUnheard)
        {
            active.lose();
        }
    }

    fn active(&self) -> MutexGuard<'_, HashMap<SessionId, Active>> {
        // The map is whole between any two statements: a panic elsewhere does not spoil it.
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a run before it is claimed, so that no interrupt can miss it. `None` if it runs already.
    fn begin(&self, session: SessionId) -> Option<Active> {
        match self.active().entry(session) {
            std::collections::hash_map::Entry::Occupied(_) => None,
            std::collections::hash_map::Entry::Vacant(slot) => {
                let active = Active::new(&self.stopping);
                slot.insert(active.clone());
                Some(active)
            }
        }
    }
}
