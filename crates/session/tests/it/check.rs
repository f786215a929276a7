//! What must always hold, folded from the log and from what was reported, one decision at a time: the
//! cost of a check does not grow with the history. Nothing here reads a rule out of the core.

use std::collections::{HashMap, HashSet, VecDeque};

use contract::event::{Body, Event, ModelUsage, StopReason};
use contract::ids::EventId;
use contract::time::Micros;
use session::input::Profile;
use session::{
    CallKind, Command, Decision, Fact, Input, Intent, Phase, RecordKind, Stage, Standing, State,
    Status, Step, Used, Waiting, Webhook,
};

use crate::graded::Aim;

/// A call without a result, as the log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    pub id: EventId,
    pub seq: u64,
    pub custom: bool,
    pub at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Asked,
    Ready,
    Denied,
    Started,
}

/// What a session used and may cost, summed from reports.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    pub tokens: ModelUsage,
    pub cache_1h: u64,
    pub pico: u128,
    pub priced: bool,
    pub unpriced: bool,
    pub active: i64,
    pub since: Option<i64>,
    pub cap: Option<u64>,
    pub told_cap: bool,
}

#[derive(Clone)]
pub struct Checker {
    pub last_seq: u64,
    pub last_at: i64,
    pub ids: HashSet<EventId>,
    pub status: Status,
    pub stop: Option<StopReason>,
    pub thread_stop: Option<StopReason>,
    /// The type that must come next, and the types that may only come so.
    pub next: Option<&'static str>,
    pub span: Option<(EventId, bool)>,
    pub open: Vec<Open>,
    /// Every call of the log: whether it is the client's, and whether it asked.
    pub called: HashMap<EventId, (bool, bool)>,
    pub started: HashSet<u64>,
    pub sums: Sums,
    pub waiting: VecDeque<Waiting>,
    pub generation: u64,
    pub failures: u32,
    pub failing_since: i64,
    pub compacted: u64,
    pub profile: Profile,
    pub aim: Option<Aim>,
    /// A grader is at work on it.
    pub at_work: bool,
    /// Where each outcome stands.
    pub shown: Vec<Standing>,
    pub hooks: Vec<Webhook>,
    pub now: i64,
    /// Whether the oracle is asked as well.
    pub second_opinion: bool,
}

/// Types that only ever follow another at once.
const FOLLOWERS: [&str; 5] = [
    "session.thread_status_running",
    "session.usage",
    "session.status_idle",
    "session.thread_status_rescheduled",
    "session.status_terminated",
];

impl Sums {
    pub fn active_at(&self, now: i64) -> i64 {
        self.active + self.since.map_or(0, |since| (now - since).max(0))
    }
    /// Picodollars × microseconds an hour.
    fn scaled(&self, now: i64) -> u128 {
        let active = u128::try_from(self.active_at(now)).unwrap();
        self.pico * 3_600_000_000 + active * 80_000_000_000
    }
    pub fn reaches(&self, cents: u64, now: i64) -> bool {
        self.scaled(now) >= u128::from(cents) * 36_000_000_000_000_000_000
    }
    pub fn spent(&self, now: i64) -> bool {
        self.cap
            .is_some_and(|cap| self.unpriced || self.reaches(cap, now))
    }
    pub fn cents(&self, now: i64) -> u128 {
        (self.scaled(now) + 18_000_000_000_000_000_000) / 36_000_000_000_000_000_000
    }
    pub fn add(&mut self, used: &Used) {
        self.tokens.input_tokens += used.usage.input_tokens;
        self.tokens.output_tokens += used.usage.output_tokens;
        self.tokens.cache_creation_input_tokens += used.usage.cache_creation_input_tokens;
        self.tokens.cache_read_input_tokens += used.usage.cache_read_input_tokens;
        self.cache_1h += used.cache_1h;
        self.priced |= used.cost.is_some();
        self.unpriced |= used.cost.is_none() && used.usage != ModelUsage::default();
        self.pico += used.cost.map_or(0, |cost| u128::from(cost.0));
    }
}

pub fn fact_of(input: &Input) -> Option<&Fact> {
    match input {
        Input::Fact { fact, .. } => Some(fact),
        _ => None,
    }
}

impl Checker {
    pub fn new(cap: Option<u64>, created: Micros) -> Self {
        Self {
            last_seq: 0,
            last_at: created.0,
            ids: HashSet::new(),
            status: Status::Idle,
            stop: None,
            thread_stop: None,
            next: None,
            span: None,
            open: Vec::new(),
            called: HashMap::new(),
            started: HashSet::new(),
            sums: Sums {
                cap,
                ..Sums::default()
            },
            waiting: VecDeque::new(),
            generation: 0,
            failures: 0,
            failing_since: 0,
            compacted: 0,
            profile: Profile::default(),
            aim: None,
            at_work: false,
            shown: Vec::new(),
            hooks: Vec::new(),
            now: 0,
            second_opinion: true,
        }
    }

    pub fn asked(&self) -> Vec<EventId> {
        let asked = self.open.iter().filter(|c| c.at == At::Asked);
        asked.map(|c| c.id).collect()
    }

    pub fn blocked(&self) -> bool {
        self.status == Status::Idle && matches!(self.stop, Some(StopReason::RequiresAction { .. }))
    }

    /// Folds one decision in, checking as it goes.
    pub fn observe(&mut self, before: &State, input: &Input, now: Micros, decision: &Decision) {
        self.now = now.0;
        self.hooks.clear();
        if matches!(input, Input::Claim) {
            self.generation += 1;
            // From the last event to the claim nobody ran it.
            if let Some(since) = self.sums.since.replace(now.0) {
                self.sums.active += (self.last_at.min(now.0) - since).max(0);
            } else {
                self.sums.since = None;
            }
        }
        assert_eq!(
            decision.state.generation.0, self.generation,
            "only a claim moves the generation, by one"
        );
        // What a program has used is nobody's word on the turn.
        if let Input::Fact {
            generation, fact, ..
        } = input
            && !matches!(**fact, Fact::UsedInside { .. })
        {
            assert_eq!(generation.0, self.generation, "a stranger is believed");
        }
        self.updates(input, decision);
        self.grader(input);
        self.standings(&decision.evaluations);
        self.senders(input, decision);
        let before_log = self.last_seq;
        for placed in &decision.events {
            self.event(input, before, decision, placed);
        }
        assert_eq!(self.next, None, "an event lacks the one that follows it");
        self.records(input, before_log, decision);
        self.steps(before, decision);
        assert_eq!(self.hooks, decision.webhooks, "webhooks follow the events");
    }

    /// Each accepted event stands in the log or waits, and what waits keeps its order.
    fn senders(&mut self, input: &Input, decision: &Decision) {
        if let Input::Command(Command::Send(events)) = input {
            let sent = events.iter().map(session::UserEvent::kind);
            let echoed = decision.echo.iter().map(|e| e.body.kind());
            assert!(sent.eq(echoed), "the echo is not what was sent");
        }
        // An interrupt of a session that the budget keeps at rest is not listed, also if one ahead of it
        // in the same batch has brought it to rest.
        let mut ignored = self.sums.spent(self.now) && self.status == Status::Idle;
        for echo in &decision.echo {
            let placed = decision.events.iter().find(|p| p.event.id == echo.id);
            let waits = decision.queued.iter().any(|w| w.id == echo.id);
            if let (Some(placed), Some(at)) = (placed, echo.processed_at) {
                assert_eq!(
                    Some(at),
                    placed.event.processed_at,
                    "two times for one event"
                );
            }
            let interrupt = matches!(echo.body, Body::UserInterrupt { .. });
            let stopped = interrupt && placed.is_some();
            assert!(
                placed.is_some() || waits || (interrupt && ignored),
                "an accepted event is gone"
            );
            ignored |= stopped && self.sums.spent(self.now);
        }
        let mut places = decision.events.iter().map(|p| p.event.id);
        let mut said = Vec::new();
        for id in &decision.drained {
            assert!(
                places.any(|p| p == *id),
                "a drained event has no place, or not in order"
            );
            let at = self.waiting.iter().position(|w| w.id == *id);
            let at = at.expect("what is drained did not wait");
            let waited = self.waiting.remove(at).unwrap();
            if !matches!(waited.event, session::UserEvent::Interrupt { .. }) {
                assert!(
                    !self
                        .waiting
                        .iter()
                        .take(at)
                        .any(|w| w.event.kind() != "user.interrupt"),
                    "a later event overtook an earlier one"
                );
            }
            said.push(waited.id);
        }
        for placed in &decision.events {
            let kind = placed.event.body.kind();
            if kind.starts_with("user.") || kind == "system.message" {
                let id = placed.event.id;
                let here = decision.echo.iter().any(|e| e.id == id);
                assert!(here || said.contains(&id), "an event that nobody sent");
            }
        }
        self.waiting.extend(decision.queued.iter().cloned());
        if decision
            .queued
            .iter()
            .any(|w| w.event.kind() == "user.interrupt")
        {
            assert!(
                decision.intents.contains(&Intent::Stop),
                "nobody is told to stop"
            );
        }
    }

    fn records(&mut self, input: &Input, before_log: u64, decision: &Decision) {
        let mut starts = 0;
        for record in &decision.records {
            match record.kind {
                RecordKind::CallStarted => {
                    starts += 1;
                    let call = self.open.iter_mut().find(|c| c.seq == record.seq);
                    let call = call.expect("a closed call was started");
                    assert_eq!(
                        (call.at, call.custom),
                        (At::Ready, false),
                        "a call may not start"
                    );
                    assert!(self.started.insert(record.seq), "a call was started twice");
                    call.at = At::Started;
                    assert_eq!(decision.step, Step::Execute { call: call.id });
                }
                RecordKind::Reply => assert!(matches!(fact_of(input), Some(Fact::Replied { .. }))),
                RecordKind::Summary => assert_eq!(record.seq, self.compacted),
                RecordKind::Advice => panic!("advice for an agent without an advisor"),
            }
            assert!(record.seq <= self.last_seq, "a record without its event");
        }
        assert_eq!(
            starts == 1,
            matches!(decision.step, Step::Execute { .. }),
            "step and record"
        );
        let reply = decision
            .records
            .iter()
            .find(|r| r.kind == RecordKind::Reply);
        if let Some(Fact::Replied { .. }) = fact_of(input) {
            assert!(
                reply.is_some_and(|r| r.seq > before_log),
                "a reply left no record"
            );
        }
    }

    fn steps(&mut self, before: &State, decision: &Decision) {
        match decision.step {
            Step::Request { span } | Step::Compact { span } => {
                let (open, compacting) = self.span.expect("a step names no open span");
                assert_eq!(open, span, "a step names another span");
                assert_eq!(compacting, matches!(decision.step, Step::Compact { .. }));
                if !compacting {
                    assert!(
                        self.waiting.is_empty(),
                        "the model is asked while a message waits"
                    );
                }
            }
            Step::Grade { start, beat } => {
                assert_eq!(self.requested(), Some((start, beat)), "a step of nothing");
            }
            Step::Recover { call } => {
                let open = self.open.iter().find(|c| c.id == call);
                assert!(
                    open.is_some_and(|c| c.at == At::Started),
                    "a call is looked for that never started"
                );
            }
            Step::Execute { .. } | Step::Rest => {}
        }
        let opened = decision.state.primary.turn != before.primary.turn;
        let runs = decision.intents.contains(&Intent::Run);
        assert_eq!(
            opened && decision.state.is_open(),
            runs,
            "somebody is to run exactly what was opened"
        );
    }

    /// What must be true of the state, once everything of a decision was folded.
    pub fn settled(&self, state: &State, inbox: &[Waiting], now: Micros) {
        state.check();
        assert_eq!(
            state.status(),
            self.status,
            "status is not the fold of the log"
        );
        assert_eq!(
            (state.next_seq, state.last_at.0),
            (self.last_seq + 1, self.last_at)
        );
        assert!(
            inbox.iter().eq(self.waiting.iter()) && inbox.len() == state.waiting as usize,
            "the inbox is not what was accepted and not placed"
        );
        let bytes = inbox.iter().map(|w| w.event.bytes()).sum::<u64>();
        assert_eq!(state.waiting_bytes, bytes, "what waits has another size");
        let stops = inbox.iter().any(|w| w.event.kind() == "user.interrupt");
        assert_eq!(
            state.primary.interrupting, stops,
            "an interrupt is forgotten or made up"
        );
        assert_eq!(
            state.primary.history_from, self.compacted,
            "the transcript begins elsewhere"
        );
        let phase = &state.primary.phase;
        let open = self.span.map(|(span, _)| span);
        assert_eq!(state.asking(), open, "phase and span differ");
        if self.status == Status::Idle {
            let announced = match &self.stop {
                Some(StopReason::RequiresAction { event_ids }) => event_ids.clone(),
                _ => Vec::new(),
            };
            assert_eq!(
                announced,
                state.blocked_on(),
                "the announced wait is not the real one"
            );
            assert!(
                inbox.is_empty() || self.blocked() || self.sums.spent(now.0),
                "an idle session leaves input waiting"
            );
            let paused = self.thread_stop == Some(StopReason::BudgetReached {});
            assert_eq!(
                *phase == Phase::Paused,
                paused,
                "a pause is not what was announced"
            );
        }
        self.outcomes_settled(state);
        self.same_calls(state);
        self.same_sums(state, now);
        if let Phase::Retrying { due_at } = phase {
            assert!(
                due_at.0 - self.failing_since <= 1_500_000_000,
                "the next try is too far off"
            );
        }
    }

    fn same_calls(&self, state: &State) {
        if self.status == Status::Terminated {
            return;
        }
        let held = state.primary.calls().iter().filter_map(|c| {
            let at = match c.stage {
                Stage::Asked => At::Asked,
                Stage::Ready => At::Ready,
                Stage::Denied { .. } => At::Denied,
                Stage::Started => At::Started,
                Stage::Done => return None,
            };
            Some((c.id, c.seq, c.kind == CallKind::Custom, at))
        });
        let open = self.open.iter().map(|c| (c.id, c.seq, c.custom, c.at));
        assert!(
            held.eq(open),
            "the calls of the state are not those of the log"
        );
    }

    fn same_sums(&self, state: &State, now: Micros) {
        let (held, sums) = (&state.totals, &self.sums);
        let created = sums.tokens.cache_creation_input_tokens;
        assert_eq!(
            (
                held.input,
                held.output,
                held.cache_read,
                held.cache_1h,
                held.cache_5m
            ),
            (
                sums.tokens.input_tokens,
                sums.tokens.output_tokens,
                sums.tokens.cache_read_input_tokens,
                sums.cache_1h,
                created - sums.cache_1h
            ),
            "usage is not the sum of the spans"
        );
        assert_eq!(
            u128::from(held.cost.0),
            sums.pico,
            "cost is not the sum of the requests"
        );
        assert_eq!(
            held.active, sums.active,
            "running time is not that of the log"
        );
        assert_eq!(held.running_since.map(|at| at.0), sums.since);
        assert_eq!(
            state.is_spent(now),
            sums.spent(now.0),
            "the budget is judged otherwise"
        );
    }

    /// Where an event may stand among the others: its place, its time, its neighbours.
    pub fn envelope(&mut self, event: &Event, seq: u64) {
        assert_eq!(seq, self.last_seq + 1, "gap in the log");
        let at = event.processed_at.expect("a placed event has a time").0;
        assert_eq!(
            at,
            self.now.max(self.last_at + 1),
            "the time is not the earliest that may be"
        );
        (self.last_seq, self.last_at) = (seq, at);
        assert!(self.ids.insert(event.id), "an event stands in two places");
        let kind = event.body.kind();
        if let Some(next) = self.next.take() {
            assert_eq!(next, kind, "what must follow at once does not");
        } else {
            assert!(!FOLLOWERS.contains(&kind), "{kind} stands alone");
        }
        assert!(
            self.status != Status::Terminated || kind == "session.deleted",
            "{kind} after the end"
        );
    }
}
