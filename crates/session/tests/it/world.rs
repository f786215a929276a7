//! A stand-in for the store: applies decisions to a log, an inbox and records, and checks after each
//! one what must always hold. It knows the rules only from outside.

use std::collections::{BTreeMap, BTreeSet};

use contract::content::Block;
use contract::event::{Body, ModelUsage, StopReason};
use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use serde_json::value::RawValue;
use session::input::{Profile, ReplyEnd};
use session::policy::{ToolRule, ToolRules};
use session::{
    Around, Command, Decision, Fact, Generation, Input, Opening, Pace, Placed, ProposedCall,
    Record, RecordKind, Refused, State, Status, Step, UserEvent, Waiting, decide, open,
};

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
    pub fn wide(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }
}

pub struct World {
    pub state: State,
    pub log: Vec<Placed>,
    pub inbox: Vec<Waiting>,
    pub records: Vec<Record>,
    pub profile: Profile,
    pub now: i64,
    pub rng: Rng,
    pub step: Step,
    pub accepted: Vec<EventId>,
}

pub fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

pub fn message(text: &str) -> UserEvent {
    UserEvent::Message {
        content: vec![Block::text(text)],
    }
}

impl World {
    pub fn new(seed: u64, initial: Vec<UserEvent>) -> Self {
        let mut rng = Rng(seed);
        let rules = [
            ("bash", ToolRule::Allow),
            ("read", ToolRule::Allow),
            ("ask", ToolRule::Custom),
        ];
        let rules = ToolRules(rules.map(|(n, r)| (n.to_owned(), r)).into_iter().collect());
        let opening = Opening {
            session: SessionId::from_bits(rng.wide()),
            thread: ThreadId::from_bits(rng.wide()),
            agent_name: "coder".to_owned(),
            rules,
            initial,
        };
        let now = 1_000_000;
        let around = Around {
            now: Micros(now),
            entropy: rng.wide(),
            ..Around::default()
        };
        let first = open(opening, &around);
        let mut world = Self {
            state: first.state.clone(),
            log: Vec::new(),
            inbox: Vec::new(),
            records: Vec::new(),
            profile: Profile::default(),
            now,
            rng,
            step: Step::Rest,
            accepted: Vec::new(),
        };
        world.apply(first);
        world
    }

    pub fn submit(&mut self, input: Input) -> Result<Decision, Refused> {
        // The clock may stand still or go back; the log must not.
        self.now += i64::try_from(self.rng.below(1_000)).unwrap() - 200;
        let needs = input.needs(&self.state);
        let custom_calls = needs
            .custom_calls
            .iter()
            .copied()
            .filter(|id| {
                let is_custom =
                    |p: &&Placed| matches!(p.event.body, Body::AgentCustomToolUse { .. });
                self.log.iter().filter(is_custom).any(|p| p.event.id == *id)
            })
            .collect::<BTreeSet<_>>();
        let around = Around {
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
            custom_calls,
        };
        let decision = decide(&self.state, input, around)?;
        self.apply(decision.clone());
        Ok(decision)
    }

    pub fn send(&mut self, events: Vec<UserEvent>) -> Result<Decision, Refused> {
        let decision = self.submit(Input::Command(Command::Send(events)))?;
        self.accepted.extend(decision.echo.iter().map(|e| e.id));
        Ok(decision)
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
        let step = self
            .submit(Input::Fact {
                generation,
                fact: Box::new(fact),
                pace,
            })?
            .step;
        self.step = step;
        Ok(step)
    }

    pub fn report(&mut self, fact: Fact) -> Step {
        self.fact(self.state.generation, fact, Pace::Go).unwrap()
    }

    pub fn reply(&mut self, text: Option<&str>, calls: &[&str]) -> Fact {
        let mut id = || EventId::from_bits(self.rng.wide());
        Fact::Replied {
            thinking: Vec::new(),
            message: text.map(|t| (id(), vec![t.to_owned()])),
            calls: calls
                .iter()
                .map(|name| ProposedCall {
                    id: id(),
                    name: (*name).to_owned(),
                    input: raw("{}"),
                })
                .collect(),
            record: raw("[]"),
            usage: ModelUsage {
                input_tokens: 10,
                output_tokens: 3,
                ..ModelUsage::default()
            },
            cache_1h: 0,
            end: ReplyEnd::Complete,
        }
    }

    pub fn kinds(&self) -> Vec<&'static str> {
        self.log.iter().map(|p| p.event.body.kind()).collect()
    }

    /// The types of the events from `from` on, short: without the `session.` of most.
    pub fn kinds_from(&self, from: usize) -> Vec<&'static str> {
        self.kinds()[from..].to_vec()
    }

    pub fn blocked(&self) -> Vec<EventId> {
        self.state.blocked_on()
    }

    fn apply(&mut self, decision: Decision) {
        self.inbox.retain(|w| !decision.drained.contains(&w.id));
        self.inbox.extend(decision.queued);
        self.log.extend(decision.events);
        self.records.extend(decision.records);
        if let Some(profile) = decision.profile {
            self.profile = profile;
        }
        let stored = serde_json::to_string(&decision.state).unwrap();
        self.state = serde_json::from_str(&stored).unwrap();
        assert_eq!(
            self.state, decision.state,
            "a state reads back as it was stored"
        );
        self.check();
    }

    fn check(&self) {
        self.state.check();
        self.log_is_gapless_and_grows();
        self.status_is_the_fold_of_the_log();
        self.calls_run_and_end_once();
        self.spans_are_paired();
        assert_eq!(
            usize::try_from(self.state.waiting).unwrap(),
            self.inbox.len(),
            "inbox count"
        );
        let placed = self.log.iter().map(|p| p.event.id);
        let all = placed
            .chain(self.inbox.iter().map(|w| w.id))
            .collect::<Vec<_>>();
        let distinct = all.iter().collect::<BTreeSet<_>>();
        assert_eq!(all.len(), distinct.len(), "an event stands in two places");
        for id in &self.accepted {
            assert!(distinct.contains(id), "an accepted event is gone");
        }
    }

    fn log_is_gapless_and_grows(&self) {
        for (index, placed) in self.log.iter().enumerate() {
            assert_eq!(
                placed.seq,
                u64::try_from(index).unwrap() + 1,
                "gap in the log"
            );
        }
        for pair in self.log.windows(2) {
            assert!(
                pair[0].event.processed_at < pair[1].event.processed_at,
                "time went back"
            );
        }
    }

    fn status_is_the_fold_of_the_log(&self) {
        let mut status = Status::Idle;
        let mut blocked = Vec::new();
        for placed in &self.log {
            match &placed.event.body {
                Body::StatusRunning {} => status = Status::Running,
                Body::StatusRescheduled {} => {
                    assert_eq!(status, Status::Running, "an idle session was rescheduled");
                    status = Status::Rescheduling;
                }
                Body::StatusTerminated {} => status = Status::Terminated,
                Body::StatusIdle { stop_reason, .. } => {
                    status = Status::Idle;
                    blocked = match stop_reason {
                        StopReason::RequiresAction { event_ids } => event_ids.clone(),
                        _ => Vec::new(),
                    };
                }
                _ => {}
            }
        }
        assert_eq!(
            status,
            self.state.status(),
            "status is not the fold of the log"
        );
        if status == Status::Idle {
            assert_eq!(
                blocked,
                self.state.blocked_on(),
                "the announced wait is not the real one"
            );
        }
    }

    fn calls_run_and_end_once(&self) {
        let mut results: BTreeMap<EventId, usize> = BTreeMap::new();
        for placed in &self.log {
            if let Body::AgentToolResult { tool_use_id, .. } = &placed.event.body {
                *results.entry(*tool_use_id).or_default() += 1;
            }
        }
        assert!(results.values().all(|n| *n == 1), "a call has two results");
        let mut started = BTreeSet::new();
        for record in self
            .records
            .iter()
            .filter(|r| r.kind == RecordKind::CallStarted)
        {
            assert!(started.insert(record.seq), "a call was started twice");
        }
        if !self.state.is_running() && self.blocked().is_empty() {
            for placed in &self.log {
                if matches!(placed.event.body, Body::AgentToolUse { .. }) {
                    assert!(
                        results.contains_key(&placed.event.id),
                        "a call was left open"
                    );
                }
            }
        }
    }

    fn spans_are_paired(&self) {
        let mut open = None;
        for placed in &self.log {
            match &placed.event.body {
                Body::SpanModelRequestStart {} => {
                    assert!(
                        open.replace(placed.event.id).is_none(),
                        "two spans are open"
                    );
                }
                Body::SpanModelRequestEnd {
                    model_request_start_id,
                    ..
                } => {
                    assert_eq!(
                        open.take(),
                        Some(*model_request_start_id),
                        "a span ended twice"
                    );
                }
                Body::StatusIdle { .. } => assert!(open.is_none(), "idle within a span"),
                _ => {}
            }
        }
    }
}
