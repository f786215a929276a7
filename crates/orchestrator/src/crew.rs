//! What one run does in all threads of its session: a harness each, side by side, under one lease. It decides nothing:
//! the core says which thread does what, and it ends when the core has given nobody anything to do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::agent::{SessionAgent, ThreadAgent};
use contract::content::Block;
use contract::event::SessionErrorKind;
use contract::ids::ThreadId;
use contract::time::Micros;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use harness::{Brief, Fact, Plane as _, PlaneError, Step};
use sandbox::Sandbox;
use session::policy::ToolRules;
use session::{CallKind, Generation, Input, Pace, Refused, Remedy, State, Used};
use store::SubmitError;
use store::sessions::{Committed, Scope, SessionRow};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Inner;
use crate::active::Active;
use crate::brief::{Who, brief, team};
use crate::credentials;
use crate::endpoint::Chosen;
use crate::faults::{self, Fault};
use crate::inside::Inside;
use crate::loss::Loss;
use crate::plane::{SessionPlane, networking, read};
use crate::shells::callers;
use crate::whereabouts::{Whereabouts, is_stored};

/// A session while one run works on it.
pub(crate) struct Crew {
    pub(crate) inner: Arc<Inner>,
    pub(crate) row: SessionRow,
    pub(crate) agent: SessionAgent,
    pub(crate) generation: Generation,
    /// What runs its threads and where its models are, or why they cannot be reached.
    model: Result<Chosen, String>,
    pub(crate) active: Active,
    heard: Mutex<Heard>,
    /// Something was committed.
    news: Notify,
    /// The session's workspace was lost with its host, and the model is to be told.
    pub(crate) lost: Option<Loss>,
    used_sandbox: AtomicBool,
    pub(crate) whereabouts: Whereabouts,
    inside: Inside,
}

/// What the commits of this run said.
struct Heard {
    /// The last of them, and the session after it.
    commit: u64,
    state: State,
    /// Steps that nobody works on yet, each with the session as it stood when it was given out.
    steps: VecDeque<(ThreadId, Step, State)>,
    /// The threads beside the primary that the sandbox was told of last: each has a shell there.
    callers: Option<Vec<ThreadId>>,
}

impl Crew {
    pub(crate) fn new(
        inner: Arc<Inner>,
        row: SessionRow,
        claimed: &Committed,
        model: Result<Chosen, String>,
        active: Active,
        lost: Option<Loss>,
    ) -> Result<Arc<Self>, PlaneError> {
        let agent = read(&row.agent, "agent snapshot")?;
        let whereabouts = Whereabouts::new(inner.sandboxes.runs(row.id));
        Ok(Arc::new(Self {
            inner,
            row,
            agent,
            generation: claimed.state.generation,
            model,
            active,
            heard: Mutex::new(Heard {
                commit: claimed.commit,
                state: claimed.state.clone(),
                steps: VecDeque::new(),
                callers: None,
            }),
            news: Notify::new(),
            lost,
            used_sandbox: AtomicBool::new(false),
            whereabouts,
            inside: Inside::default(),
        }))
    }

    /// Brings what there is of a workspace here whose host is gone, before anybody uses a new one in its place. Says when
    /// that was exported, if this call brought it.
    ///
    /// # Errors
    /// Those of [`crate::exports::Exports::restore`]: nobody may use a new one then.
    pub(crate) async fn regain(&self) -> Result<Option<Micros>, sandbox::Error> {
        match (&self.inner.exports, &self.lost) {
            (Some(exports), Some(lost)) => {
                let restored = exports.restore(self.inner.sandboxes.keeper(), self.row.id);
                lost.regain(restored).await
            }
            _ => Ok(None),
        }
    }

    /// The session's sandbox was used in this run.
    pub(crate) fn uses_sandbox(&self) {
        self.used_sandbox.store(true, Ordering::Relaxed);
        self.whereabouts.uses_sandbox();
    }

    /// Lets programs in that sandbox ask the session's model, if the session wants that.
    pub(crate) async fn open_door(&self, sandbox: &Arc<dyn Sandbox>) {
        let endpoint = self.model.as_ref().ok().map(|chosen| &chosen.endpoint);
        let run = (sandbox, self.generation, &self.active);
        self.inside
            .open(&self.inner, &self.row, endpoint, run)
            .await;
    }

    /// At the end of the run: what programs have asked is cut, and counted.
    pub(crate) async fn close_door(&self) {
        self.inside.close(&self.active).await;
    }

    /// Whether it was.
    pub(crate) fn has_used_sandbox(&self) -> bool {
        self.used_sandbox.load(Ordering::Relaxed)
    }

    /// What runs its threads, by name.
    pub(crate) fn harness(&self) -> &'static str {
        let chosen = self.model.as_ref();
        chosen.map_or(self.inner.harness.name(), |it| it.harness.name())
    }

    /// Works until nobody has anything to do. Cancel safe: yes, as [`harness::Harness::run`].
    pub(crate) async fn work(self: Arc<Self>, claimed: Committed) -> Result<(), PlaneError> {
        let primary = claimed.state.primary.id;
        self.hear(primary, claimed.step, &claimed);
        self.tell_unreachable(&claimed).await?;
        let mut working = FuturesUnordered::new();
        // The claim took up what was due.
        let mut asked = Instant::now();
        loop {
            while let Some((thread, step, state)) = self.next_step() {
                working.push(Arc::clone(&self).thread(thread, step, state));
            }
            if working.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(ended) = working.next() => ended?,
                () = self.news.notified() => {}
                () = self.active.news() => self.take_up().await?,
                () = self.until_due(asked) => {
                    self.take_up().await?;
                    asked = Instant::now();
                }
            }
        }
    }

    /// Says at the beginning of a turn which credentials are of no use in it.
    async fn tell_unreachable(&self, claimed: &Committed) -> Result<(), PlaneError> {
        let primary = &claimed.state.primary;
        let begins = matches!(claimed.step, Step::Request { .. })
            && primary.effort == session::Effort::default();
        if !begins || !self.inner.config.network || self.inner.draining.is_cancelled() {
            return Ok(());
        }
        for fact in credentials::unreachable(&self.inner.store, &self.row).await {
            let told = self.report(primary.id, fact, store::timeline::Beside::default(), None);
            match told.await {
                // It was interrupted meanwhile.
                Ok(_) | Err(SubmitError::Refused(Refused::OutOfPlace { .. })) => {}
                Err(error) => return Err(crate::plane::refused(error)),
            }
        }
        Ok(())
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        // It is whole between any two statements: a panic elsewhere does not spoil it.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before a call of any thread: has the sandbox end the shells of those that have ended, and at this run's first
    /// use also of those that ended when nobody told it.
    pub(crate) fn tell_callers(&self, sandbox: &dyn Sandbox) {
        if self.agent.multiagent.is_none() {
            return;
        }
        let mut heard = self.heard();
        let live = callers(&heard.state);
        let ended = match &heard.callers {
            Some(told) => told.iter().any(|thread| !live.contains(thread)),
            None => true,
        };
        if ended {
            // While nothing new is heard: no thread that begins calls before the sandbox knows who was there.
            sandbox.callers(live.iter().map(ThreadId::to_string).collect());
        }
        heard.callers = Some(live);
    }

    fn next_step(&self) -> Option<(ThreadId, Step, State)> {
        self.heard().steps.pop_front()
    }

    /// Takes in what a commit about `thread` said; its own step only if nobody waits for it.
    fn hear(&self, thread: ThreadId, step: Step, committed: &Committed) {
        let mut heard = self.heard();
        if committed.commit >= heard.commit {
            heard.commit = committed.commit;
            heard.state.clone_from(&committed.state);
        }
        let own = (thread, step);
        for (thread, step) in std::iter::once(&own).chain(&committed.others) {
            if *step != Step::Rest {
                let state = committed.state.clone();
                heard.steps.push_back((*thread, *step, state));
            }
        }
        drop(heard);
        self.news.notify_one();
    }

    /// Sleeps until a thread is due that this run does not work on, last asked for when `asked`; for ever if there is
    /// none.
    async fn until_due(&self, asked: Instant) {
        let now = self.inner.now();
        let state = self.heard().state.clone();
        let due = state.threads().filter_map(|t| t.due_at(now)).min();
        // A server that drains begins nothing.
        let takes_up = state.is_in_flight() && !self.inner.draining.is_cancelled();
        match due.filter(|_| takes_up) {
            Some(at) => {
                let micros = u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0);
                // What is due already is asked for at once, but not in a busy loop: the answer may be on its way. The
                // pause counts from the last asking, since news of others begin this sleep anew.
                let due = Instant::now() + Duration::from_micros(micros);
                tokio::time::sleep_until(due.max(asked + crate::SHORTEST_PAUSE)).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Begins what is due in threads that nobody works on.
    async fn take_up(&self) -> Result<(), PlaneError> {
        if self.inner.draining.is_cancelled() {
            return Ok(());
        }
        let primary = self.heard().state.primary.id;
        match self
            .submit(primary, Fact::TakeUp, store::timeline::Beside::default())
            .await
        {
            Ok(committed) => {
                self.hear(primary, committed.step, &committed);
                Ok(())
            }
            // Nothing is in flight any more: the run was put back, and this one is about to end.
            Err(SubmitError::Refused(Refused::OutOfPlace { .. })) => Ok(()),
            Err(error) => Err(crate::plane::refused(error)),
        }
    }

    /// Stores what happened in `thread`.
    async fn submit(
        &self,
        thread: ThreadId,
        fact: Fact,
        beside: store::timeline::Beside,
    ) -> Result<Committed, SubmitError> {
        let pace = if self.inner.draining.is_cancelled() {
            Pace::Halt
        } else {
            Pace::Go
        };
        let input = Input::Fact {
            generation: self.generation,
            thread,
            fact: Box::new(fact),
            pace,
        };
        let (now, entropy) = (self.inner.now(), self.inner.config.clock.entropy());
        let store = &self.inner.store;
        store
            .submit_beside(Scope::Any, self.row.id, input, now, entropy, beside)
            .await
    }

    /// As [`Self::submit`], for a thread that waits for its own step: what others get is theirs. Along with it goes what
    /// is not stored yet of where the session runs, and that the model was told of the loss in `telling`.
    pub(crate) async fn report(
        &self,
        thread: ThreadId,
        fact: Fact,
        mut beside: store::timeline::Beside,
        telling: Option<&Loss>,
    ) -> Result<Committed, SubmitError> {
        let mut stored = self.whereabouts.stored.lock().await;
        let untold = self.lost.as_ref().filter(|_| telling.is_none());
        let binding = self
            .whereabouts
            .binding(&self.inner, self.row.id, self.harness(), untold)?;
        let committed = if is_stored(stored.as_ref(), &binding) {
            drop(stored);
            self.submit(thread, fact, beside).await?
        } else {
            beside.binding = Some(binding.clone());
            if faults::on(Fault::PlaceForgotten) {
                *stored = Some(binding.clone());
            }
            let committed = self.submit(thread, fact, beside).await?;
            *stored = Some(binding);
            // Before anybody else says what is still to be told.
            telling.inspect(|lost| lost.is_told());
            committed
        };
        self.hear(thread, Step::Rest, &committed);
        Ok(committed)
    }

    /// One thread, from a step to its rest.
    async fn thread(
        self: Arc<Self>,
        thread: ThreadId,
        first: Step,
        state: State,
    ) -> Result<(), PlaneError> {
        let brief = self.brief(thread, &state).await?;
        let endpoint = self.model.as_ref().ok();
        let endpoint = endpoint.map(|chosen| chosen.endpoint.clone());
        let plane = SessionPlane::new(Arc::clone(&self), thread, &state, brief, endpoint)?;
        match &self.model {
            Ok(chosen) => chosen.harness.run(&plane, first).await,
            Err(message) => self.unreachable_model(&plane, first, message).await,
        }
    }

    /// What the harness is told of the thread: a pure function of what is stored.
    async fn brief(&self, thread: ThreadId, state: &State) -> Result<Brief, PlaneError> {
        let held = state
            .thread(thread)
            .ok_or_else(|| PlaneError::Bug(format!("a step for {thread}, which is not there")))?;
        if thread == state.primary.id {
            return primary_brief(&self.inner, &self.row, &self.agent, &held.rules);
        }
        let make = |who: &Who<'_>| told(&self.inner, &self.row, who, &held.rules);
        let row = self
            .inner
            .store
            .thread(Scope::Any, self.row.id, thread)
            .await;
        let row = row.map_err(|e| PlaneError::Unavailable(Box::new(e)))?;
        let agent = row.and_then(|row| row.agent);
        let agent = agent.ok_or_else(|| PlaneError::Bug(format!("{thread} has no agent")))?;
        let agent: ThreadAgent = read(&agent, "agent of a thread")?;
        match &agent {
            ThreadAgent::Agent(agent) => make(&Who {
                model: &agent.model,
                system: agent.system.as_deref(),
                tools: &agent.tools,
            }),
            ThreadAgent::Inline(agent) => make(&Who {
                model: &agent.model,
                system: agent.system.as_deref(),
                tools: &agent.tools,
            }),
            ThreadAgent::Advisor(_) => Err(PlaneError::Bug("an advisor runs no turn".to_owned())),
        }
    }

    /// No model can be asked: the session says why, and rests.
    async fn unreachable_model(
        &self,
        plane: &SessionPlane,
        first: Step,
        message: &str,
    ) -> Result<(), PlaneError> {
        const NO_MODEL: &str = "The call was not run: the session has no model any more.";
        let mut step = first;
        loop {
            let fact = match step {
                Step::Rest => return Ok(()),
                Step::Request { span }
                | Step::Compact { span }
                | Step::Grade { start: span, .. } => Fact::RequestFailed {
                    span,
                    kind: SessionErrorKind::ModelRequestFailedError,
                    message: message.to_owned(),
                    used: Used::default(),
                    remedy: Remedy::None,
                },
                Step::Recover { call } => Fact::Lost { call },
                Step::Execute { call } if self.asks_advisor(call) => Fact::Advised {
                    call,
                    content: vec![Block::text(message)],
                    is_error: true,
                    used: Used::default(),
                },
                Step::Execute { call } => Fact::Finished {
                    call,
                    content: vec![Block::text(NO_MODEL)],
                    is_error: true,
                },
            };
            step = plane.report(fact).await?.step;
        }
    }

    fn asks_advisor(&self, call: contract::ids::EventId) -> bool {
        let heard = self.heard();
        let calls = heard.state.primary.calls().iter();
        { calls }.any(|c| c.id == call && c.kind == CallKind::Advisor)
    }
}

/// What the harness is told of a session's primary thread: a pure function of what is stored.
pub(crate) fn primary_brief(
    inner: &Inner,
    row: &SessionRow,
    agent: &SessionAgent,
    rules: &ToolRules,
) -> Result<Brief, PlaneError> {
    let who = Who {
        model: &agent.model,
        system: agent.system.as_deref(),
        tools: &agent.tools,
    };
    let mut brief = told(inner, row, &who, rules)?;
    brief.team = agent.multiagent.as_ref().map(team);
    Ok(brief)
}

fn told(
    inner: &Inner,
    row: &SessionRow,
    who: &Who<'_>,
    rules: &ToolRules,
) -> Result<Brief, PlaneError> {
    Ok(brief(
        who,
        rules,
        row.created_at,
        networking(&row.environment, inner.config.network)?,
        &inner.catalog,
        inner.config.operator_prompt.clone(),
    ))
}
