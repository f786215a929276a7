//! Owns sandboxes that are made for nobody and wait for their first use. Each is given away once, untouched, and
//! never comes back; what it is given away as is decided then: its name, its network, its share of the disk.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hand::wire::Tool;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::launch::{self, Started};
use super::running::Running;
use super::{Local, Shared, blocking, maker};
use crate::diary::Steps;
use crate::error::{Doing, Error};
use crate::limits::POOL_TRIES;
use crate::provider::{How, Provider, SandboxId, Spec, ToolCall};

/// What the names of those begin with that are nobody's.
const NAME: &str = "warm-";

/// Whether that is the name of one that is nobody's.
pub(super) fn is_of(id: &SandboxId) -> bool {
    id.as_str().starts_with(NAME)
}

/// Refuses such a name to whoever chooses one.
pub(super) fn refuse(id: &SandboxId) -> Result<(), Error> {
    match is_of(id) {
        true => Err(Error::invalid(format!(
            "the name {id} is kept for sandboxes that are nobody's"
        ))),
        false => Ok(()),
    }
}

/// Those of them that are somebody's.
pub(super) fn left_out(mut ids: Vec<SandboxId>) -> Vec<SandboxId> {
    ids.retain(|id| !is_of(id));
    ids
}

/// Those that wait.
pub(super) struct Pool {
    most: usize,
    ready: Mutex<VecDeque<Ready>>,
    /// Whether any may wait at all: a command that only looks makes none.
    open: AtomicBool,
    /// Whether somebody makes more.
    filling: AtomicBool,
    /// Held by who does.
    turn: Arc<tokio::sync::Mutex<()>>,
    next: AtomicU64,
    closing: AtomicBool,
}

struct Ready {
    id: SandboxId,
    started: Started,
}

impl Pool {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            ready: Mutex::default(),
            open: AtomicBool::new(false),
            filling: AtomicBool::new(false),
            turn: Arc::default(),
            next: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.ready().len()
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that still runs.
    fn pop(&self) -> Option<Ready> {
        let mut ready = self.ready();
        // One that has ended meanwhile is dropped; its directory goes when the next server starts.
        std::iter::from_fn(|| ready.pop_front()).find(|one| one.started.client.is_open())
    }

    fn wants_more(&self) -> bool {
        self.open.load(Ordering::SeqCst)
            && !self.closing.load(Ordering::SeqCst)
            && self.len() < self.most
    }
}

impl Local {
    /// Ends and removes what an earlier server had waiting, then makes as many wait as are wanted. Whenever one
    /// is given away, another is made, in the background and one at a time.
    ///
    /// # Errors
    /// Those of [`Provider::list`].
    pub async fn warm_up(&self) -> Result<(), Error> {
        let shared = Arc::clone(&self.0);
        let list = move || shared.dirs.list();
        let doing = || "look for sandboxes that waited".to_owned();
        for id in blocking(doing, list).await?? {
            if is_of(&id)
                && let Err(error) = self.delete(&id).await
            {
                tracing::warn!(sandbox = %id, %error, "one that waited for an earlier server stays until the next start");
            }
        }
        self.0.pool.open.store(true, Ordering::SeqCst);
        self.refill();
        Ok(())
    }

    /// Makes more, unless somebody does already. Never waits.
    fn refill(&self) {
        let pool = &self.0.pool;
        if !pool.wants_more() || pool.filling.swap(true, Ordering::SeqCst) {
            return;
        }
        let (shared, turn) = (Arc::downgrade(&self.0), Arc::clone(&pool.turn));
        self.0.tasks.spawn(async move {
            let _turn = turn.lock_owned().await;
            let mut failed = 0;
            while failed < POOL_TRIES
                && let Some(shared) = shared.upgrade().filter(|shared| shared.pool.wants_more())
            {
                match make(&shared).await {
                    Ok(ready) => shared.pool.ready().push_back(ready),
                    Err(error) => {
                        tracing::warn!(%error, "no sandbox can be made to wait for its first use");
                        failed += 1;
                    }
                }
            }
            if let Some(shared) = shared.upgrade() {
                shared.pool.filling.store(false, Ordering::SeqCst);
            }
        });
    }

    /// One that waited, as that sandbox from now on. None if none waits, or if there is anything of that name
    /// already.
    pub(super) async fn claim(&self, spec: &Spec) -> Result<Option<Running>, Error> {
        // Those that wait are made by whom, and on what, the operator set, and have no volumes.
        let another = spec
            .template
            .as_ref()
            .is_some_and(|one| *one != self.0.template);
        let otherwise = spec.provider.is_some_and(|one| one != self.0.maker);
        let attached = spec.volumes.as_ref().is_some_and(|it| !it.each.is_empty());
        if self.0.pool.most == 0 || !spec.env.is_empty() || another || otherwise || attached {
            return Ok(None);
        }
        let mut steps = Steps::begin("pool");
        let Some(ready) = self.0.pool.pop() else {
            self.refill();
            return Ok(None);
        };
        let (from, to) = (self.0.dirs.path(&ready.id), self.0.dirs.path(&spec.id));
        let chosen = spec.provider;
        let moved = blocking(
            || format!("name sandbox {}", spec.id),
            move || {
                renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE)?;
                Ok(chosen.map_or(Ok(()), |chosen| maker::remember(&to, chosen)))
            },
        );
        match moved.await? {
            Ok(remembered) => remembered?,
            Err(Errno::EXIST) => {
                self.0.pool.ready().push_front(ready);
                return Ok(None);
            }
            Err(errno) => {
                return Err(io::Error::from(errno)).doing(|| format!("name sandbox {}", spec.id));
            }
        }
        steps.then("network");
        self.refill();
        let started = ready.started.taken(steps);
        let given = started.given(&self.0, spec.id.clone(), How::Ready).await;
        given.map(Some)
    }

    /// Ends those that wait; no more are made.
    pub(super) async fn close_pool(&self) {
        self.0.close_unclaimed().await;
        self.0.pool.closing.store(true, Ordering::SeqCst);
        // One that is being made comes to wait, and is found.
        drop(self.0.pool.turn.lock().await);
        loop {
            let Some(Ready { id, started }) = self.0.pool.pop() else {
                return;
            };
            started.end().await;
            if let Err(error) = self.delete(&id).await {
                tracing::warn!(sandbox = %id, %error, "one that waited stays until the next start");
            }
        }
    }
}

/// One more, with its shell: that is most of what a first call would wait for.
async fn make(shared: &Arc<Shared>) -> Result<Ready, Error> {
    let number = shared.pool.next.fetch_add(1, Ordering::Relaxed);
    let id = SandboxId::new(format!("{NAME}{}-{number}", shared.dirs.generation()))?;
    let started = launch::begin(shared, Spec::new(id.clone())).await?;
    let shell = ToolCall {
        name: Tool::Bash,
        input: json!({"command": ":"}),
        caller: None,
    };
    let never = CancellationToken::new();
    started.client.tool(None, shell, never).await?;
    Ok(Ready { id, started })
}
