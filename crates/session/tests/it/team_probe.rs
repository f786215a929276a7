//! What would become of a team if any one thing happened to it now: every input of a client, and whatever a runner may
//! report of what is in flight, each in a branch of its own that is cut again.

use contract::content::Block;
use contract::ids::ThreadId;
use contract::patch::Patch;
use session::input::Grade;
use session::{
    Budget, Command, Fact, Generation, Input, Order, Pace, Phase, Remedy, Step, UserEvent,
};

use crate::graded::outcome;
use crate::team_client::name_thread;
use crate::team_coverage::fits;
use crate::team_fold::Owed;
use crate::team_scenes::cap_of;
use crate::team_world::{Team, newcomer};
use crate::world::{INTERRUPT, allow, answer, finished, interrupted, message, raw, used};

impl Team {
    /// Tries every input on the session as it stands.
    pub fn probe(&mut self) {
        let children = self.state.children.iter().map(|t| t.id).collect::<Vec<_>>();
        if children.is_empty() {
            return;
        }
        let child = *self.rng.pick(&children);
        let log = std::mem::take(&mut self.log);
        let mut inputs = self.of_clients(child);
        for thread in [self.state.primary.id, child] {
            let facts = self.reports_of(thread).into_iter();
            let generation = self.state.generation;
            inputs.extend(facts.map(|fact| of_runner(generation, thread, fact)));
        }
        for input in inputs {
            let kept = self.clone();
            let due = match &input {
                Input::Fact { thread, fact, .. } => fits(&self.state, &self.fold, *thread, fact),
                _ => false,
            };
            let done = self.submit(input);
            assert!(!due || done.is_ok(), "a runner is not believed: {done:?}");
            let (coverage, rng) = (std::mem::take(&mut self.coverage), self.rng.clone());
            *self = kept;
            (self.coverage, self.rng) = (coverage, rng);
        }
        self.log = log;
    }

    fn of_clients(&mut self, child: ThreadId) -> Vec<Input> {
        let lead = self.state.primary.id;
        let stop = |thread| UserEvent::Interrupt { thread };
        let mut events = vec![
            message("hi"),
            outcome(self.rng.wide(), None),
            INTERRUPT,
            stop(Some(lead)),
            stop(Some(child)),
        ];
        for thread in [lead, child] {
            let open = self.fold.lines[&thread].open.iter();
            events.extend(open.filter_map(|(call, owed)| match owed {
                Owed::Result => Some(answer(*call)),
                Owed::Confirmation => Some(allow(*call)),
                Owed::Nothing => None,
            }));
        }
        if let Some(call) = self.past() {
            let mut elsewhere = answer(call);
            name_thread(&mut elsewhere, Some(ThreadId::from_bits(1)));
            events.extend([answer(call), elsewhere]);
        }
        let cap = match self.state.budget {
            Budget::Limit { cents, .. } => cents,
            Budget::None | Budget::Removed => 0,
        };
        let sent = events.into_iter().map(|e| Command::Send(vec![e]));
        let ends = [
            Command::ArchiveThread(child),
            Command::Archive,
            Command::Delete,
        ];
        let mut inputs = sent.chain(ends).map(Input::Command).collect::<Vec<_>>();
        let held = self.state.generation;
        let gone = Generation(held.0.wrapping_sub(1));
        inputs.extend([
            cap_of(Patch::Value(cap + 40)),
            cap_of(Patch::Null),
            Input::Claim,
            of_runner(held, lead, Fact::TakeUp),
            of_runner(gone, child, Fact::TakeUp),
            of_runner(held, child, self.nonsense(child)),
        ]);
        inputs
    }

    /// All that a runner may say of what it does in `thread`.
    fn reports_of(&mut self, thread: ThreadId) -> Vec<Fact> {
        let Some(step) = self.fold.steps.get(&thread).copied() else {
            return Vec::new();
        };
        let mut facts = match step {
            Step::Request { span } => {
                let word = self.reply(thread, Some("done"), &[]);
                let calls = self.reply(thread, None, &["bash", "ask"]);
                with_failures(vec![word, calls], span)
            }
            Step::Compact { span } => {
                let summary = Fact::Compacted {
                    span,
                    record: raw("1"),
                    used: used(1),
                };
                with_failures(vec![summary], span)
            }
            Step::Grade { start, .. } => {
                let graded = |grade| Fact::Graded {
                    start,
                    grade,
                    explanation: "because".to_owned(),
                    used: used(1),
                };
                let verdicts = [Grade::Satisfied, Grade::NeedsRevision].map(graded);
                with_failures(verdicts.into(), start)
            }
            Step::Execute { call } | Step::Recover { call } => {
                match self.name_of(thread, call).as_str() {
                    "send_to_agent" => vec![Fact::Delegated {
                        call,
                        order: Order::Begin {
                            agent: newcomer("tester"),
                            content: vec![Block::text("do this")],
                        },
                    }],
                    "list_agents" => vec![Fact::Delegated {
                        call,
                        order: Order::List {
                            roster: String::new(),
                        },
                    }],
                    "ask_advisor" => vec![Fact::Advised {
                        call,
                        content: vec![Block::text("mind the gap")],
                        is_error: false,
                        used: used(1),
                    }],
                    _ => vec![finished(call, "ran"), Fact::Lost { call }],
                }
            }
            Step::Rest => Vec::new(),
        };
        let held = self.state.thread(thread).unwrap();
        if held.interrupting {
            let spends = !matches!(held.phase, Phase::Acting { .. });
            facts.push(if spends {
                Fact::Interrupted { used: used(1) }
            } else {
                interrupted()
            });
        }
        facts
    }
}

fn of_runner(generation: Generation, thread: ThreadId, fact: Fact) -> Input {
    Input::Fact {
        generation,
        thread,
        fact: Box::new(fact),
        pace: Pace::Go,
    }
}

/// The facts, and the three ways in which the request of `span` may fail.
fn with_failures(mut facts: Vec<Fact>, span: contract::ids::EventId) -> Vec<Fact> {
    let remedies = [
        Remedy::None,
        Remedy::Wait { at_least: None },
        Remedy::Compact,
    ];
    facts.extend(remedies.map(|remedy| Fact::RequestFailed {
        span,
        kind: contract::event::SessionErrorKind::ModelOverloadedError,
        message: "overloaded".to_owned(),
        used: used(1),
        remedy,
    }));
    facts
}
