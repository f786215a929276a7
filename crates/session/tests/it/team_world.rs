//! A session with several threads as the store and its runners keep it, and each decision folded from outside.

use std::collections::BTreeMap;

use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use session::input::{Called, Profile, ReplyEnd};
use session::policy::{ToolRule, ToolRules};
use session::{
    Around, Command, Decision, Fact, Generation, Input, Newcomer, Opening, Pace, ProposedCall,
    Refused, State, Step, UserEvent, Waiting, decide, open,
};

use crate::team_coverage::TeamCoverage;
use crate::team_fold::TeamFold;
use crate::world::{Rng, Run, kept_run, message, raw, rules, used};

/// What a coordinator has: its own tools, those for its threads, and an advisor.
pub fn leads() -> ToolRules {
    let mut rules = rules();
    for name in ["send_to_agent", "list_agents"] {
        rules.0.insert(name.to_owned(), ToolRule::Team);
    }
    rules.0.insert("ask_advisor".to_owned(), ToolRule::Advisor);
    rules
}

pub fn newcomer(name: &str) -> Box<Newcomer> {
    Box::new(Newcomer {
        name: name.to_owned(),
        rules: rules(),
        snapshot: raw("{}"),
    })
}

#[derive(Clone)]
pub struct Team {
    pub state: State,
    pub log: Vec<session::Placed>,
    pub inbox: Vec<Waiting>,
    pub called: BTreeMap<EventId, Called>,
    pub fold: TeamFold,
    pub ended: Vec<ThreadId>,
    pub profile: Profile,
    pub run: Option<Run>,
    pub deleted: bool,
    pub now: i64,
    pub rng: Rng,
    pub coverage: TeamCoverage,
    /// How many in a hundred: crashes, failures.
    pub crash: u64,
    pub fail: u64,
    pub crowd: u64,
    /// How many in a hundred tasks go to a thread of their own.
    pub begin: u64,
    pub stale: Vec<(Generation, ThreadId, Fact)>,
    /// The most threads there were at once.
    pub most: usize,
}

impl Team {
    pub fn new(seed: u64, budget: Option<u64>) -> Self {
        let mut rng = Rng(seed ^ 0x7ea3);
        let opening = Opening {
            session: SessionId::from_bits(rng.wide()),
            thread: ThreadId::from_bits(rng.wide()),
            agent_name: "lead".to_owned(),
            rules: leads(),
            budget,
            initial: vec![message("begin")],
        };
        let now = 1_000_000_000_000;
        let around = Around {
            now: Micros(now),
            entropy: rng.wide(),
            ..Around::default()
        };
        let first = open(opening, &around);
        Self::opened(rng, now, first)
    }

    /// A team that begins with this decision.
    pub fn opened(mut rng: Rng, now: i64, first: Decision) -> Self {
        let mut team = Self {
            state: first.state.clone(),
            log: Vec::new(),
            inbox: Vec::new(),
            called: BTreeMap::new(),
            fold: TeamFold::new(first.state.primary.id),
            ended: Vec::new(),
            profile: Profile::default(),
            run: None,
            deleted: false,
            now,
            coverage: TeamCoverage::default(),
            crash: rng.below(6),
            fail: rng.below(30),
            crowd: rng.below(20),
            begin: if rng.chance(10) { 100 } else { 50 },
            rng,
            stale: Vec::new(),
            most: 0,
        };
        let input = Input::Command(Command::Send(Vec::new()));
        team.take(&input, first);
        team
    }

    fn take(&mut self, input: &Input, decision: Decision) {
        self.fold.observe(input, Micros(self.now), &decision);
        self.run = kept_run(self.run, self.now, input, &decision);
        assert_eq!(
            self.run.is_some(),
            decision.state.is_open(),
            "an open turn and its run go together"
        );
        let held = self.run.is_some_and(|run| run.held.is_some());
        assert_eq!(
            held,
            decision.state.is_in_flight(),
            "the run is held while something is in flight"
        );
        self.inbox.retain(|w| !decision.drained.contains(&w.id));
        self.inbox.extend(decision.queued);
        for placed in &decision.events {
            let permission = match placed.event.body {
                contract::event::Body::AgentCustomToolUse { .. } => None,
                contract::event::Body::AgentToolUse {
                    evaluated_permission,
                    ..
                } => Some(evaluated_permission),
                _ => continue,
            };
            let thread = placed.thread;
            let called = Called { thread, permission };
            self.called.insert(placed.event.id, called);
        }
        self.log.extend(decision.events);
        self.ended.extend(decision.ended.iter().map(|t| t.id));
        if let Some(profile) = decision.profile {
            self.profile = profile;
        }
        self.deleted |= decision.deleted;
        self.state = decision.state;
        self.most = self.most.max(self.state.children.len());
        let waits = u32::try_from(self.inbox.len()).unwrap();
        assert_eq!(self.state.waiting, waits, "the inbox is not what waits");
        let bytes = self.inbox.iter().map(|w| w.event.bytes()).sum::<u64>();
        assert_eq!(self.state.waiting_bytes, bytes);
        let stored = serde_json::to_string(&self.state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&stored).unwrap(), self.state);
    }

    pub fn submit(&mut self, input: Input) -> Result<Decision, Refused> {
        let needs = input.needs(&self.state);
        let called = |id: &EventId| Some((*id, *self.called.get(id)?));
        let around = Around {
            now: Micros(self.now),
            entropy: self.rng.wide(),
            inbox: if needs.inbox {
                self.inbox.clone()
            } else {
                Vec::new()
            },
            calls: needs.calls.iter().filter_map(called).collect(),
            ended: needs.thread.is_some_and(|id| self.ended.contains(&id)),
            profile: self.profile.clone(),
        };
        self.coverage.count(&input, &self.state, &self.fold);
        let decision = decide(&self.state, input.clone(), around)?;
        self.take(&input, decision.clone());
        Ok(decision)
    }

    /// Takes in what somebody else decided on the same state.
    #[allow(
        dead_code,
        reason = "the simulation of the orchestrator shares this file"
    )]
    pub fn witness(&mut self, input: &Input, now: Micros, decided: Result<&Decision, &Refused>) {
        self.now = now.0;
        self.coverage.count(input, &self.state, &self.fold);
        if let Ok(decision) = decided {
            self.take(input, decision.clone());
        }
    }

    pub fn send(&mut self, events: Vec<UserEvent>) -> Result<Decision, Refused> {
        self.submit(Input::Command(Command::Send(events)))
    }

    pub fn claim(&mut self) -> Decision {
        self.submit(Input::Claim).unwrap()
    }

    pub fn fact(&mut self, thread: ThreadId, fact: Fact, pace: Pace) -> Result<Decision, Refused> {
        let generation = self.state.generation;
        if self.rng.chance(10) {
            self.stale.push((generation, thread, fact.clone()));
        }
        self.submit(Input::Fact {
            generation,
            thread,
            fact: Box::new(fact),
            pace,
        })
    }

    /// A reply to the request that is in flight in `thread`.
    pub fn reply(&mut self, thread: ThreadId, text: Option<&str>, calls: &[&str]) -> Fact {
        let Some(Step::Request { span }) = self.fold.steps.get(&thread).copied() else {
            panic!("the model of {thread} is not asked")
        };
        let mut id = || EventId::from_bits(self.rng.wide());
        Fact::Replied {
            span,
            thinking: Vec::new(),
            message: text.map(|t| (id(), vec![t.to_owned()])),
            calls: calls
                .iter()
                .map(|name| ProposedCall {
                    id: id(),
                    name: (*name).to_owned(),
                    input: raw("{}"),
                    judgement: None,
                })
                .collect(),
            record: raw("[]"),
            used: used(1),
            end: ReplyEnd::Complete,
            crowded: false,
        }
    }

    /// The runner of `thread` reports what came of its step.
    pub fn report(&mut self, thread: ThreadId, fact: Fact) -> Decision {
        self.fact(thread, fact, Pace::Go).unwrap()
    }
}
