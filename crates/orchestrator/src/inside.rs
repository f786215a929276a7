//! The session's model for programs in its sandbox: a door that is open while a run of the session is, and whose bill is
//! the session's. It opens none that the session did not ask for, and counts what was used whoever holds the session by
//! then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use contract::ids::{SessionId, ThreadId};
use contract::time::Micros;
use harness::causes::chain;
use harness::door::{Account, Behind, Closed, DOOR_PORT, Door};
use model::{Endpoint, Usage};
use sandbox::Sandbox;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use session::{Fact, Generation, Input, Pace};
use store::SubmitError;
use store::sessions::{Scope, SessionRow};
use store::timeline::{Beside, Mark, Spent};
use tokio_util::sync::CancellationToken;

use crate::Inner;
use crate::active::Active;

/// Requests in one run: each is two events in the log, and a program has no patience to lose.
const REQUESTS: u32 = 1_000;

/// Tries to count a request that the store does not take, and the pause between two.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(500);

/// The door of one run.
#[derive(Default)]
pub(crate) struct Inside {
    open: tokio::sync::Mutex<Option<Open>>,
    /// Cancelled at the end of the run.
    over: CancellationToken,
    asked: Arc<AtomicU32>,
}

struct Open {
    /// The sandbox that it leads into.
    sandbox: Arc<dyn Sandbox>,
    door: Option<Door>,
}

impl Inside {
    /// Sees to it that the door into that sandbox is open, if the session asked for one. What keeps it shut is in the log
    /// of the server: programs find nobody there.
    pub(crate) async fn open(
        &self,
        inner: &Arc<Inner>,
        row: &SessionRow,
        endpoint: Option<&Endpoint>,
        (sandbox, generation, active): (&Arc<dyn Sandbox>, Generation, &Active),
    ) {
        let Some(endpoint) = endpoint.filter(|_| crate::sandboxes::wishes(row).model) else {
            return;
        };
        let mut open = self.open.lock().await;
        if let Some(open) = &*open
            && Arc::ptr_eq(&open.sandbox, sandbox)
        {
            return;
        }
        let account = Bill {
            inner: Arc::clone(inner),
            session: row.id,
            thread: row.state.primary.id,
            generation,
            active: active.clone(),
            over: self.over.clone(),
            asked: Arc::clone(&self.asked),
        };
        let behind = Behind {
            client: inner.client.clone(),
            endpoint: endpoint.clone(),
            stand_in: inner.vault.stand_in(row.id),
            account: Arc::new(account),
        };
        let door = match sandbox.listen(DOOR_PORT).await {
            Ok(listener) => Some(Door::open(listener, behind)),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(session_id = %row.id, %error, "programs in the sandbox cannot ask the model");
                None
            }
        };
        let before = open.replace(Open {
            sandbox: Arc::clone(sandbox),
            door,
        });
        drop(open);
        // Of a sandbox that is gone: who asked there is, too.
        if let Some(door) = before.and_then(|before| before.door) {
            inner.tasks.spawn(door.close());
        }
    }

    /// Shuts it, and returns when all that was asked is cut and counted.
    pub(crate) async fn close(&self, active: &Active) {
        self.over.cancel();
        active.cut_inside();
        let open = self.open.lock().await.take();
        if let Some(door) = open.and_then(|open| open.door) {
            door.close().await;
        }
    }
}

/// What is spent at the door of one run.
struct Bill {
    inner: Arc<Inner>,
    session: SessionId,
    thread: ThreadId,
    generation: Generation,
    active: Active,
    over: CancellationToken,
    asked: Arc<AtomicU32>,
}

fn closed(status: u16, why: &str) -> Closed {
    Closed {
        status,
        why: why.to_owned(),
    }
}

#[async_trait]
impl Account for Bill {
    async fn may_ask(&self, model: &str) -> Result<(), Closed> {
        let inner = &self.inner;
        let nobody = || closed(503, "the server cannot ask now");
        if inner.draining.is_cancelled() || self.over.is_cancelled() {
            return Err(nobody());
        }
        let row = inner.store.session(Scope::Any, self.session).await;
        let row = row.map_err(|error| {
            let error = chain(&error);
            tracing::error!(session_id = %self.session, %error, "whether a program may ask is not known");
            nobody()
        })?;
        if row.state.budget.shown().is_some() {
            if row.state.is_spent(inner.now()) {
                let why = "the session's budget is spent";
                return Err(closed(402, why));
            }
            if inner.catalog.price(model, &Usage::default()).is_none() {
                let why =
                    "the session has a budget, and this model no list price that would count to it";
                return Err(closed(403, why));
            }
        }
        if self.asked.fetch_add(1, Ordering::Relaxed) >= REQUESTS {
            let why = "programs of this turn have asked the model too often";
            return Err(closed(403, why));
        }
        Ok(())
    }

    async fn count(&self, model: &str, usage: &Usage, took: Duration, is_error: bool) {
        let inner = &self.inner;
        let took = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        let detail = to_raw_value(&json!({"by": "a program in the sandbox", "model": model}));
        let mark = Mark {
            spent: Spent::Model,
            at: Micros(inner.now().0.saturating_sub(took)),
            took,
            detail: detail.unwrap_or_else(|_| RawValue::NULL.to_owned()),
        };
        let used = harness::used(usage, inner.catalog.price(model, usage));
        for _ in 0..TRIES {
            let input = Input::Fact {
                generation: self.generation,
                thread: self.thread,
                fact: Box::new(Fact::UsedInside { used, is_error }),
                pace: Pace::Halt,
            };
            let mut beside = Beside::default();
            beside.marks.push(mark.clone());
            let (now, entropy) = (inner.now(), inner.config.clock.entropy());
            let counted =
                inner
                    .store
                    .submit_beside(Scope::Any, self.session, input, now, entropy, beside);
            match counted.await {
                Ok(_) => return,
                Err(SubmitError::Unavailable(error)) => {
                    tracing::error!(session_id = %self.session, %error, "what a program used is not counted yet");
                    tokio::time::sleep(BETWEEN).await;
                }
                // It was deleted or archived meanwhile.
                Err(error) => {
                    tracing::warn!(session_id = %self.session, %error, "what a program used is not counted");
                    return;
                }
            }
        }
        tracing::error!(session_id = %self.session, ?used, "what a program used was never counted");
    }

    fn cancelled(&self) -> CancellationToken {
        let token = self.active.inside();
        // In this order: who ends the run says so before it cuts what is in flight.
        if self.over.is_cancelled() {
            token.cancel();
        }
        token
    }
}
