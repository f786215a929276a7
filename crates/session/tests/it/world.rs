//! A stand-in for the store: applies decisions to a log, an inbox, records and a run, and has each one
//! checked. It knows the rules only from outside.

use std::collections::{BTreeMap, BTreeSet};

use contract::content::Block;
use contract::event::{Body, Judgement, ModelUsage};
use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use serde_json::value::RawValue;
use session::input::{Called, Profile, ReplyEnd};
use session::policy::{ToolRule, ToolRules};
use session::{
    Around, Command, Cost, Decision, Fact, Generation, Input, Intent, Opening, Pace, Placed,
    ProposedCall, Record, Refused, Remedy, State, Step, Used, UserEvent, Waiting, Webhook, decide,
    open,
};

use crate::check::Checker;

#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
    pub fn wide(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }
}

/// Stands for the request that is open; no event has this id.
pub const OPEN: EventId = EventId::from_bits(0);

/// The row that says that somebody must run the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Not before.
    pub due_at: i64,
    /// Who holds it.
    pub held: Option<Generation>,
}

#[derive(Clone)]
pub struct World {
    pub state: State,
    pub log: Vec<Placed>,
    pub inbox: Vec<Waiting>,
    pub records: Vec<Record>,
    pub profile: Profile,
    pub agent: Option<Box<RawValue>>,
    pub run: Option<Run>,
    pub webhooks: Vec<Webhook>,
    pub deleted: bool,
    /// Threads that were begun and have ended.
    pub ended: BTreeSet<ThreadId>,
    pub now: i64,
    pub rng: Rng,
    pub step: Step,
    /// The tool-use events of the log, oldest first.
    pub calls: Vec<EventId>,
    pub called: BTreeMap<EventId, Called>,
    pub checker: Checker,
}

pub fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

pub fn message(text: &str) -> UserEvent {
    UserEvent::Message {
        content: vec![Block::text(text)],
    }
}

pub fn system(text: &str) -> UserEvent {
    UserEvent::System {
        content: vec![Block::text(text)],
    }
}

pub const INTERRUPT: UserEvent = UserEvent::Interrupt { thread: None };

/// Two tools that run, one that asks, one that is judged, one of the client.
pub fn rules() -> ToolRules {
    let rules = [
        ("bash", ToolRule::Allow),
        ("read", ToolRule::Allow),
        ("write", ToolRule::Ask),
        ("grep", ToolRule::Auto),
        ("ask", ToolRule::Custom),
    ];
    ToolRules(rules.map(|(n, r)| (n.to_owned(), r)).into_iter().collect())
}

/// What a request of `cents` used.
pub fn used(cents: u64) -> Used {
    Used {
        usage: ModelUsage {
            input_tokens: 10,
            output_tokens: 3,
            ..ModelUsage::default()
        },
        cache_1h: 0,
        cost: Some(Cost(cents * 10_000_000_000)),
    }
}

impl World {
    pub fn new(seed: u64, initial: Vec<UserEvent>) -> Self {
        Self::with_budget(seed, initial, None)
    }

    pub fn with_budget(seed: u64, initial: Vec<UserEvent>, budget: Option<u64>) -> Self {
        let mut rng = Rng(seed);
        let opening = Opening {
            session: SessionId::from_bits(rng.wide()),
            thread: ThreadId::from_bits(rng.wide()),
            agent_name: "coder".to_owned(),
            rules: rules(),
            budget,
            initial,
        };
        let now = 1_000_000_000_000;
        let around = Around {
            now: Micros(now),
            entropy: rng.wide(),
            ..Around::default()
        };
        let sent = opening.initial.clone();
        let first = open(opening, &around);
        Self::opened(rng, sent, budget, now, first)
    }

    /// A world that begins with this decision about what was sent.
    pub fn opened(
        rng: Rng,
        sent: Vec<UserEvent>,
        budget: Option<u64>,
        now: i64,
        first: Decision,
    ) -> Self {
        let mut world = Self {
            state: first.state.clone(),
            log: Vec::new(),
            inbox: Vec::new(),
            records: Vec::new(),
            profile: Profile::default(),
            agent: None,
            run: None,
            webhooks: Vec::new(),
            deleted: false,
            ended: BTreeSet::new(),
            now,
            rng,
            step: Step::Rest,
            calls: Vec::new(),
            called: BTreeMap::new(),
            checker: Checker::new(budget, Micros(now)),
        };
        let input = Input::Command(Command::Send(sent));
        let mut before = world.state.clone();
        (before.last_at, before.primary.turn) = (Micros(now), 0);
        world.checker.observe(&before, &input, Micros(now), &first);
        world.apply(&input, first);
        world
    }

    /// What the store looks up for `input`.
    fn around(&mut self, input: &Input) -> Around {
        let needs = input.needs(&self.state);
        let called = |id: &EventId| Some((*id, *self.called.get(id)?));
        let calls = needs.calls.iter().filter_map(called).collect();
        Around {
            now: Micros(self.now),
            entropy: self.rng.wide(),
            inbox: if needs.inbox {
                self.inbox.clone()
            } else {
                Vec::new()
            },
            profile: if needs.profile {
                self.profile.clone()
            } else {
                Profile::default()
            },
            calls,
            ended: needs.thread.is_some_and(|id| self.ended.contains(&id)),
        }
    }

    /// Decides `input` at the time it is and keeps what becomes true.
    pub fn submit(&mut self, input: Input) -> Result<Decision, Refused> {
        let now = Micros(self.now);
        let around = self.around(&input);
        let again = self
            .state
            .next_seq
            .is_multiple_of(64)
            .then(|| around.clone());
        let decided = decide(&self.state, input.clone(), around);
        if let Some(around) = again {
            let again = decide(&self.state, input.clone(), around);
            let (once, twice) = (format!("{decided:?}"), format!("{again:?}"));
            assert!(once == twice, "the same input decides the same");
        }
        self.checker
            .admission(&self.state, &input, now, decided.as_ref().err());
        let decision = decided?;
        self.checker.observe(&self.state, &input, now, &decision);
        self.apply(&input, decision.clone());
        Ok(decision)
    }

    /// Takes in what somebody else decided on the same state.
    #[allow(
        dead_code,
        reason = "the simulation of the orchestrator shares this file"
    )]
    pub fn witness(&mut self, input: &Input, now: Micros, decided: Result<&Decision, &Refused>) {
        self.now = now.0;
        self.checker
            .admission(&self.state, input, now, decided.err());
        if let Ok(decision) = decided {
            self.checker.observe(&self.state, input, now, decision);
            self.apply(input, decision.clone());
        }
    }

    fn apply(&mut self, input: &Input, decision: Decision) {
        self.run = kept_run(self.run, self.now, input, &decision);
        self.inbox.retain(|w| !decision.drained.contains(&w.id));
        self.inbox.extend(decision.queued);
        for placed in &decision.events {
            let permission = match placed.event.body {
                Body::AgentCustomToolUse { .. } => None,
                Body::AgentToolUse {
                    evaluated_permission,
                    ..
                } => Some(evaluated_permission),
                _ => continue,
            };
            let called = Called {
                thread: placed.thread,
                permission,
            };
            self.calls.push(placed.event.id);
            self.called.insert(placed.event.id, called);
        }
        self.log.extend(decision.events);
        self.records.extend(decision.records);
        self.webhooks.extend(decision.webhooks);
        self.deleted |= decision.deleted;
        self.ended.extend(decision.ended.iter().map(|t| t.id));
        if let Some(profile) = decision.profile {
            self.profile = profile;
        }
        self.agent = decision.agent.or(self.agent.take());
        self.state = decision.state;
        if self.state.next_seq.is_multiple_of(8) {
            let stored = serde_json::to_string(&self.state).unwrap();
            let back = serde_json::from_str::<State>(&stored).unwrap();
            assert_eq!(back, self.state, "a state reads back as it was stored");
        }
        assert_eq!(
            self.run.is_some(),
            self.state.is_open(),
            "an open turn and its run go together"
        );
        self.checker
            .settled(&self.state, &self.inbox, Micros(self.now));
    }

    pub fn send(&mut self, events: Vec<UserEvent>) -> Result<Decision, Refused> {
        self.submit(Input::Command(Command::Send(events)))
    }

    pub fn claim(&mut self) -> Result<Step, Refused> {
        self.step = self.submit(Input::Claim)?.step;
        Ok(self.step)
    }

    pub fn fact(
        &mut self,
        generation: Generation,
        fact: Fact,
        pace: Pace,
    ) -> Result<Step, Refused> {
        let input = Input::Fact {
            generation,
            thread: self.state.primary.id,
            fact: Box::new(self.addressed(fact)),
            pace,
        };
        self.step = self.submit(input)?.step;
        Ok(self.step)
    }

    /// The fact as an answer to the request that is open, unless it names one.
    pub fn addressed(&self, fact: Fact) -> Fact {
        addressed(fact, self.checker.requested())
    }

    pub fn report(&mut self, fact: Fact) -> Step {
        self.fact(self.state.generation, fact, Pace::Go).unwrap()
    }

    /// A reply that says `text` and wants `calls`. It costs a cent.
    pub fn reply(&mut self, text: Option<&str>, calls: &[&str]) -> Fact {
        let calls = calls.iter().map(|name| (*name, None)).collect::<Vec<_>>();
        self.judged_reply(text, &calls)
    }

    pub fn judged_reply(
        &mut self,
        text: Option<&str>,
        calls: &[(&str, Option<Judgement>)],
    ) -> Fact {
        let mut id = || EventId::from_bits(self.rng.wide());
        Fact::Replied {
            span: OPEN,
            thinking: Vec::new(),
            message: text.map(|t| (id(), vec![t.to_owned()])),
            calls: calls
                .iter()
                .map(|(name, judgement)| ProposedCall {
                    id: id(),
                    name: (*name).to_owned(),
                    input: raw("{}"),
                    judgement: *judgement,
                })
                .collect(),
            record: raw("[]"),
            used: used(1),
            end: ReplyEnd::Complete,
            crowded: false,
        }
    }

    pub fn fail(&mut self, remedy: Remedy) -> Step {
        self.report(failure(remedy))
    }

    pub fn kinds(&self) -> Vec<&'static str> {
        self.kinds_from(0)
    }

    /// The types of the events from `from` on.
    pub fn kinds_from(&self, from: usize) -> Vec<&'static str> {
        let from = self.log[from..].iter();
        from.map(|p| p.event.body.kind()).collect()
    }

    pub fn count(&self, kind: &str) -> usize {
        self.kinds().iter().filter(|k| **k == kind).count()
    }

    pub fn blocked(&self) -> Vec<EventId> {
        self.state.blocked_on()
    }
}

/// The run as the store keeps it: only intents and what its runner is told move it.
pub fn kept_run(run: Option<Run>, now: i64, input: &Input, decision: &Decision) -> Option<Run> {
    let state = &decision.state;
    let due = Run {
        due_at: state.due_at(Micros(now)).0,
        held: None,
    };
    let held = Run {
        due_at: now,
        held: Some(state.generation),
    };
    let anew = decision.intents.contains(&Intent::Run);
    let flies = state.is_in_flight();
    match input {
        _ if !state.is_open() => None,
        Input::Command(_) if anew && !flies => Some(due),
        Input::Fact { .. } | Input::Claim if !flies => Some(due),
        Input::Claim => Some(held),
        Input::Command(_) | Input::Fact { .. } => run,
    }
}

/// The fact as an answer to the request `open`, unless it names one.
pub fn addressed(mut fact: Fact, open: Option<(EventId, u32)>) -> Fact {
    if let Fact::Grading { start, beat, .. } = &mut fact
        && *start == OPEN
        && let Some((_, beats)) = open
    {
        *beat = beats;
    }
    if let Fact::Replied { span, .. }
    | Fact::Compacted { span, .. }
    | Fact::Grading { start: span, .. }
    | Fact::Graded { start: span, .. }
    | Fact::RequestFailed { span, .. } = &mut fact
        && *span == OPEN
        && let Some((open, _)) = open
    {
        *span = open;
    }
    fact
}

pub fn failure(remedy: Remedy) -> Fact {
    Fact::RequestFailed {
        span: OPEN,
        kind: contract::event::SessionErrorKind::ModelOverloadedError,
        message: "overloaded".to_owned(),
        used: Used::default(),
        remedy,
    }
}

pub fn compacted() -> Fact {
    Fact::Compacted {
        span: OPEN,
        record: raw("\"summary\""),
        used: used(1),
    }
}

pub fn interrupted() -> Fact {
    Fact::Interrupted {
        used: Used::default(),
    }
}

pub fn finished(call: EventId, text: &str) -> Fact {
    Fact::Finished {
        call,
        content: vec![Block::text(text)],
        is_error: false,
    }
}

pub fn answer(call: EventId) -> UserEvent {
    UserEvent::CustomToolResult {
        call,
        content: vec![],
        is_error: None,
        thread: None,
    }
}

pub fn allow(call: EventId) -> UserEvent {
    UserEvent::ToolConfirmation {
        call,
        result: contract::client_event::Confirmation::Allow,
        deny_message: None,
        thread: None,
    }
}

pub fn deny(call: EventId, why: Option<&str>) -> UserEvent {
    UserEvent::ToolConfirmation {
        call,
        result: contract::client_event::Confirmation::Deny,
        deny_message: why.map(str::to_owned),
        thread: None,
    }
}

pub const IDLE: [&str; 3] = [
    "session.thread_status_idle",
    "session.usage",
    "session.status_idle",
];
pub const RUNNING: [&str; 2] = ["session.status_running", "session.thread_status_running"];

/// A session whose model is being asked about `text`.
pub fn running_on(text: &str) -> World {
    let mut world = World::new(5, vec![message(text)]);
    assert!(matches!(world.claim(), Ok(Step::Request { .. })));
    world
}

pub fn executing(step: Step) -> EventId {
    match step {
        Step::Execute { call } => call,
        other => panic!("expected a call to run, got {other:?}"),
    }
}
