//! The log of a session with several threads, folded event by event from outside: what each thread does, what the
//! session says of all of them, who was told what. It knows the rules of `docs/session.md`, not the core.

use std::collections::{BTreeMap, BTreeSet};

use contract::event::{Body, Permission, StopReason};
use contract::ids::{EventId, ThreadId};
use contract::time::Micros;
use session::{Decision, Input, Placed, RecordKind, State, Status, Step, ThreadOf, Totals};

use crate::graded::used_of;

/// One thread, as its events tell.
#[derive(Debug, Clone)]
pub struct Line {
    pub status: Status,
    pub span: Option<EventId>,
    /// Calls without a result, and whether the client owes an answer.
    pub open: Vec<(EventId, Owed)>,
    /// What it was sent and has not received.
    pub owed: u64,
    /// Turns that have ended, and answers given to the coordinator.
    pub ended: u64,
    pub answers: u64,
    pub advisor: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    Result,
    Confirmation,
    Nothing,
}

impl Line {
    fn new(advisor: bool) -> Self {
        Self {
            status: Status::Idle,
            span: None,
            open: Vec::new(),
            owed: 0,
            ended: 0,
            answers: 0,
            advisor,
        }
    }
}

#[derive(Debug, Clone)]
pub struct TeamFold {
    pub primary: ThreadId,
    pub lines: BTreeMap<ThreadId, Line>,
    pub status: Status,
    last_seq: u64,
    ids: BTreeSet<EventId>,
    pub started: BTreeSet<u64>,
    /// Steps that were given out under the current generation and not reported.
    pub steps: BTreeMap<ThreadId, Step>,
    sums: (u64, u64),
    ended: Vec<Totals>,
    outcomes: (u64, u64),
    pub created: u64,
    /// The thread of each call.
    pub calls: BTreeMap<EventId, ThreadId>,
    /// The session is being archived.
    over: bool,
}

impl TeamFold {
    pub fn new(primary: ThreadId) -> Self {
        Self {
            primary,
            lines: [(primary, Line::new(false))].into(),
            status: Status::Idle,
            last_seq: 0,
            ids: BTreeSet::new(),
            started: BTreeSet::new(),
            steps: BTreeMap::new(),
            sums: (0, 0),
            ended: Vec::new(),
            outcomes: (0, 0),
            created: 0,
            calls: BTreeMap::new(),
            over: false,
        }
    }

    pub fn observe(&mut self, input: &Input, now: Micros, decision: &Decision) {
        self.count(used_of(input).usage.input_tokens);
        if let Input::Fact { fact, .. } = input
            && matches!(**fact, session::Fact::UsedInside { .. })
        {
            return self.inside(decision);
        }
        for begun in &decision.begun {
            let advisor = matches!(begun.agent, ThreadOf::Advisor);
            let old = self.lines.insert(begun.id, Line::new(advisor));
            assert!(old.is_none(), "a thread began twice");
        }
        self.over = decision.state.archived;
        for placed in &decision.events {
            self.place(placed);
        }
        for record in &decision.records {
            if record.kind == RecordKind::CallStarted {
                assert!(self.started.insert(record.seq), "a call was started twice");
            }
        }
        self.ended.extend(decision.ended.iter().map(|t| t.totals));
        self.keep_steps(input, decision);
        self.paid(input, now, decision);
        self.same(&decision.state);
    }

    /// What a program has used is a span of its own on the primary thread, whatever stands there meanwhile, and nothing
    /// else.
    fn inside(&mut self, decision: &Decision) {
        let kinds = decision.events.iter().map(|it| it.event.body.kind());
        let span = ["span.model_request_start", "span.model_request_end"];
        assert!(kinds.eq(span), "{:?}", decision.events);
        for placed in &decision.events {
            assert!(placed.thread == self.primary && placed.on_primary);
            self.follows(placed);
        }
        self.same(&decision.state);
    }

    /// Nothing that costs is begun beyond the budget: what was in flight when it was reached is all that it is overshot
    /// by, a request a thread at most. A grader that says that it is still at work begins nothing.
    fn paid(&self, input: &Input, now: Micros, decision: &Decision) {
        if let Input::Fact { fact, .. } = input
            && matches!(**fact, session::Fact::Grading { used: None, .. })
        {
            return;
        }
        let state = &decision.state;
        let begun = std::iter::once(&decision.step).chain(decision.others.iter().map(|(_, s)| s));
        let asked = state.advising.map(|asked| asked.call);
        let costs = begun.filter(|step| match step {
            Step::Request { .. } | Step::Compact { .. } | Step::Grade { .. } => true,
            Step::Execute { call } => asked == Some(*call),
            Step::Recover { .. } | Step::Rest => false,
        });
        assert!(
            costs.count() == 0 || !state.is_spent(now),
            "a request is begun beyond the budget"
        );
    }

    /// Whoever holds the session has exactly one thing to do in each thread that is in flight.
    fn keep_steps(&mut self, input: &Input, decision: &Decision) {
        let about = match input {
            Input::Claim => {
                self.steps.clear();
                self.primary
            }
            Input::Fact { thread, fact, .. } => {
                if !matches!(**fact, session::Fact::TakeUp) {
                    self.steps.remove(thread);
                }
                *thread
            }
            Input::Command(_) => self.primary,
        };
        let first = (about, decision.step);
        for (thread, step) in std::iter::once(&first).chain(&decision.others) {
            if *step != Step::Rest {
                let held = self.steps.insert(*thread, *step);
                assert!(held.is_none(), "two steps at once in one thread");
            }
        }
        let state = &decision.state;
        let flying = state.threads().filter(|t| t.is_in_flight()).map(|t| t.id);
        assert!(
            flying.collect::<BTreeSet<_>>() == self.steps.keys().copied().collect(),
            "what is in flight is not what runners were told to do"
        );
    }

    fn count(&mut self, used: u64) {
        self.sums.0 += used;
    }

    fn follows(&mut self, placed: &Placed) {
        assert_eq!(placed.seq, self.last_seq + 1, "gap in the log");
        self.last_seq = placed.seq;
        assert!(
            self.ids.insert(placed.event.id),
            "an event stands in two rows"
        );
    }

    fn place(&mut self, placed: &Placed) {
        self.follows(placed);
        let of_session = placed.event.body.kind().starts_with("session.status_")
            || matches!(
                placed.event.body,
                Body::SessionUsage { .. } | Body::SessionUpdated { .. } | Body::SessionDeleted {}
            );
        if placed.thread == self.primary {
            assert!(placed.on_primary, "the primary hides its own event");
        } else {
            assert!(!of_session, "said of the session in a thread");
            assert_eq!(
                placed.on_primary,
                shows(&placed.event.body, placed.thread),
                "cross-posted or not: {placed:?}"
            );
        }
        self.event(placed.thread, placed);
        self.folded(&placed.event.body);
    }

    fn event(&mut self, thread: ThreadId, placed: &Placed) {
        let id = placed.event.id;
        let line = self.lines.get_mut(&thread).expect("an event of no thread");
        let over = matches!(
            placed.event.body,
            Body::StatusTerminated {} | Body::SessionDeleted {}
        );
        assert!(
            over || line.status != Status::Terminated,
            "after the end: {placed:?}"
        );
        match &placed.event.body {
            Body::ThreadStatusRunning { .. } => {
                assert_ne!(line.status, Status::Running, "running twice");
                line.status = Status::Running;
            }
            Body::ThreadStatusRescheduled { .. } => {
                assert_eq!(line.status, Status::Running);
                line.status = Status::Rescheduling;
            }
            Body::ThreadStatusIdle { stop_reason, .. } => {
                assert!(line.span.is_none(), "idle in a request");
                line.status = Status::Idle;
                match stop_reason {
                    StopReason::RequiresAction { event_ids } => {
                        let asked = line.open.iter().filter(|(_, owed)| *owed != Owed::Nothing);
                        let asked = asked.map(|(id, _)| *id).collect::<Vec<_>>();
                        assert_eq!(*event_ids, asked, "the thread waits for something else");
                    }
                    StopReason::BudgetReached {} => {}
                    _ => {
                        assert!(line.open.is_empty(), "a call was left open");
                        line.ended += 1;
                    }
                }
            }
            Body::ThreadStatusTerminated { .. } => line.status = Status::Terminated,
            Body::SpanModelRequestStart {} => {
                assert!(line.open.is_empty() && line.span.is_none());
                assert_eq!(line.status, Status::Running);
                line.span = Some(id);
            }
            Body::SpanModelRequestEnd {
                model_request_start_id,
                model_usage,
                ..
            } => {
                assert_eq!(line.span.take(), Some(*model_request_start_id));
                self.sums.1 += model_usage.input_tokens;
            }
            Body::AgentToolUse {
                evaluated_permission,
                ..
            } => {
                let owed = match evaluated_permission {
                    Permission::Ask => Owed::Confirmation,
                    _ => Owed::Nothing,
                };
                line.open.push((id, owed));
                self.calls.insert(id, thread);
            }
            Body::AgentCustomToolUse { .. } => {
                line.open.push((id, Owed::Result));
                self.calls.insert(id, thread);
            }
            Body::UserToolConfirmation { tool_use_id, .. } => {
                let call = line.open.iter_mut().find(|(id, _)| id == tool_use_id);
                let (_, owed) = call.expect("an answer to another thread's call");
                assert_eq!(std::mem::replace(owed, Owed::Nothing), Owed::Confirmation);
            }
            Body::UserCustomToolResult {
                custom_tool_use_id, ..
            } => line.open.retain(|(id, _)| id != custom_tool_use_id),
            Body::AgentToolResult { tool_use_id, .. } => {
                assert!(line.span.is_none(), "a result within a request");
                let at = line.open.iter().position(|(id, _)| id == tool_use_id);
                line.open.remove(at.expect("a result for a closed call"));
            }
            Body::ThreadMessageSent {
                to_session_thread_id,
                ..
            } => {
                let to = *to_session_thread_id;
                if to == self.primary {
                    line.answers += 1;
                }
                self.lines.get_mut(&to).expect("sent to nobody").owed += 1;
            }
            Body::ThreadMessageReceived {
                from_session_thread_id,
                ..
            } => {
                assert!(line.span.is_none(), "heard within a request");
                if !self.lines[from_session_thread_id].advisor {
                    let line = self.lines.get_mut(&thread).unwrap();
                    line.owed = line.owed.checked_sub(1).expect("heard what nobody said");
                }
            }
            // What waits behind unanswered calls keeps its place when its session is archived.
            Body::UserMessage { .. } if self.over => {}
            Body::UserMessage { .. } => {
                assert!(line.span.is_none() && line.open.is_empty());
            }
            Body::ThreadCreated { .. } => self.created += 1,
            Body::UserDefineOutcome { .. } => self.outcomes.0 += 1,
            Body::SpanOutcomeEvaluationEnd { result, .. } if result != "needs_revision" => {
                self.outcomes.1 += 1;
            }
            _ => {}
        }
    }

    /// The session says of itself what its threads say together.
    fn folded(&mut self, body: &Body) {
        match body {
            Body::StatusRunning {} => self.status = Status::Running,
            Body::StatusRescheduled {} => self.status = Status::Rescheduling,
            Body::StatusIdle { stop_reason, .. } => {
                assert_eq!(self.fold(), Status::Idle, "idle while a thread is not");
                self.status = Status::Idle;
                let asked = self.asked();
                let said = match stop_reason {
                    StopReason::RequiresAction { event_ids } => event_ids.clone(),
                    _ => Vec::new(),
                };
                assert_eq!(
                    said.iter().collect::<BTreeSet<_>>(),
                    asked.iter().collect(),
                    "the session waits for something else"
                );
            }
            Body::StatusTerminated {} => self.status = Status::Terminated,
            _ => {}
        }
    }

    pub fn fold(&self) -> Status {
        let is = |status| self.lines.values().any(|line| line.status == status);
        if is(Status::Running) {
            Status::Running
        } else if is(Status::Rescheduling) {
            Status::Rescheduling
        } else {
            Status::Idle
        }
    }

    /// What idle threads wait for, by thread.
    pub fn asked(&self) -> Vec<EventId> {
        let resting = self.lines.values().filter(|l| l.status == Status::Idle);
        let open = resting.flat_map(|line| &line.open);
        let asked = open.filter(|(_, owed)| *owed != Owed::Nothing);
        asked.map(|(id, _)| *id).collect()
    }

    /// State and log say the same.
    fn same(&self, state: &State) {
        assert_eq!(
            state.status(),
            self.status,
            "the session says another status"
        );
        if !state.archived {
            assert_eq!(
                self.status,
                self.fold(),
                "the status is not the fold of the threads"
            );
        }
        let live = |line: &&Line| line.status != Status::Terminated && !line.advisor;
        let live = self.lines.values().filter(live).count();
        let held = state.threads().count();
        assert!(
            state.archived || live == held,
            "other threads than the log tells"
        );
        for thread in state.threads().filter(|_| !state.archived) {
            let line = &self.lines[&thread.id];
            assert_eq!(thread.status(), line.status, "another status of a thread");
            let waits = u64::from(thread.waiting);
            assert!(line.owed <= waits, "said to a thread and lost");
        }
        let ended = self.ended.iter().map(|t| t.input).sum::<u64>();
        let held = state.threads().map(|t| t.totals.input).sum::<u64>();
        assert_eq!(
            state.totals.input,
            ended + held,
            "usage is not the sum of the threads"
        );
        assert_eq!(
            state.totals.input, self.sums.0,
            "usage is not what was reported"
        );
    }

    /// At rest everybody was answered, and nothing is left.
    pub fn at_rest(&self, state: &State) {
        assert_eq!(state.status(), Status::Idle);
        for (id, line) in &self.lines {
            assert!(line.open.is_empty() && line.span.is_none());
            if *id != self.primary && !line.advisor {
                assert!(
                    line.answers >= line.ended,
                    "the coordinator never hears of a turn that ended"
                );
                assert!(
                    line.status == Status::Terminated || line.owed == 0,
                    "said to a thread and never heard"
                );
            }
        }
        assert_eq!(
            self.outcomes.0, self.outcomes.1,
            "an outcome without its evaluation"
        );
    }
}

/// What the primary shows of another thread (api.md §10.3).
fn shows(body: &Body, of: ThreadId) -> bool {
    match body {
        Body::AgentToolUse {
            session_thread_id,
            evaluated_permission,
            ..
        } => {
            let asks = *evaluated_permission == Permission::Ask;
            assert_eq!(*session_thread_id, asks.then_some(of));
            asks
        }
        Body::AgentCustomToolUse {
            session_thread_id, ..
        }
        | Body::UserToolConfirmation {
            session_thread_id, ..
        }
        | Body::UserCustomToolResult {
            session_thread_id, ..
        } => {
            assert_eq!(*session_thread_id, Some(of), "it names its thread");
            true
        }
        Body::UserInterrupt { .. } => true,
        body => body.kind().starts_with("session.thread_status_"),
    }
}
