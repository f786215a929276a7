//! Random coordinators with random threads, clients that answer, interrupt and archive, servers that crash and are
//! taken over. Every decision is folded from outside (`team_fold`), and every history comes to rest.

use contract::content::Block;
use contract::ids::{EventId, ThreadId};
use contract::patch::Patch;
use contract::time::Micros;
use session::input::Grade;
use session::{Command, Fact, Input, Order, Pace, Phase, Step};

use crate::team_coverage::{TeamCoverage, situation_of, situations};
use crate::team_scenes::brought_to;
use crate::team_world::Team;
use crate::world::{Rng, raw, used};

#[cfg(feature = "faults")]
pub const FAULTS: [session::faults::Fault; 3] = [
    session::faults::Fault::AnswerLost,
    session::faults::Fault::CrossPostLost,
    session::faults::Fault::FoldForgotten,
];

impl Team {
    /// A call's kind, by the name the model used.
    pub fn name_of(&self, thread: ThreadId, call: EventId) -> String {
        let calls = self.state.thread(thread).unwrap().calls();
        calls.iter().find(|c| c.id == call).unwrap().name.clone()
    }

    /// What becomes of a step, mostly well.
    fn outcome(&mut self, thread: ThreadId, step: Step, calm: bool) -> Fact {
        let fails = !calm && self.rng.chance(self.fail);
        match step {
            Step::Request { span } | Step::Compact { span } if fails => self.failure(span),
            Step::Grade { start, .. } if fails => self.failure(start),
            Step::Request { .. } => self.word(thread, calm),
            Step::Compact { span } => Fact::Compacted {
                span,
                record: raw("\"summary\""),
                used: used(1),
            },
            Step::Grade { start, .. } => Fact::Graded {
                start,
                grade: if calm || self.rng.chance(50) {
                    Grade::Satisfied
                } else {
                    Grade::NeedsRevision
                },
                explanation: "because".to_owned(),
                used: used(1),
            },
            Step::Execute { call } => match self.name_of(thread, call).as_str() {
                "send_to_agent" => Fact::Delegated {
                    call,
                    order: self.order(),
                },
                "list_agents" => Fact::Delegated {
                    call,
                    order: Order::List {
                        roster: "- coder".to_owned(),
                    },
                },
                "ask_advisor" => Fact::Advised {
                    call,
                    content: vec![Block::text("mind the gap")],
                    is_error: fails,
                    used: used(1),
                },
                _ if !calm && self.rng.chance(5) => Fact::Lost { call },
                _ => crate::world::finished(call, "ran"),
            },
            Step::Recover { call } if self.rng.chance(50) => Fact::Lost { call },
            Step::Recover { call } => crate::world::finished(call, "went on"),
            Step::Rest => Fact::TakeUp,
        }
    }

    /// A reply of the model of `thread`.
    fn word(&mut self, thread: ThreadId, calm: bool) -> Fact {
        let leads = thread == self.state.primary.id;
        let wants = self.wants(leads, calm);
        let text = (wants.is_empty() && self.rng.chance(80)).then_some("done");
        let mut reply = self.reply(thread, text, &wants);
        if let Fact::Replied { crowded, .. } = &mut reply {
            *crowded = !calm && self.rng.chance(self.crowd);
        }
        reply
    }

    fn wants(&mut self, leads: bool, calm: bool) -> Vec<&'static str> {
        let own = ["bash", "write", "ask", "unknown"];
        let team = [
            "send_to_agent",
            "send_to_agent",
            "send_to_agent",
            "list_agents",
            "ask_advisor",
            "bash",
            "ask",
            "write",
        ];
        let many = if leads && self.begin == 100 && !calm {
            3
        } else if calm || self.rng.chance(50) {
            0
        } else {
            1 + self.rng.below(3)
        };
        let from: &[&str] = if leads { &team } else { &own };
        (0..many).map(|_| *self.rng.pick(from)).collect()
    }

    /// One thing happens, somewhere.
    pub fn act(&mut self) {
        self.now += i64::try_from(self.rng.below(2_000_000)).unwrap();
        match self.rng.below(100) {
            0..25 => self.client(),
            25..33 => self.server(),
            33..38 => self.stranger(),
            38 => self.now += 40_000_000,
            39..42 => self.branch(),
            42..44 => self.probe(),
            _ => self.runner(false),
        }
    }

    /// A server takes what is due; or one that holds the session is lost, and another takes over.
    fn server(&mut self) {
        if !self.state.is_open() {
            return;
        }
        let held = self.state.is_in_flight();
        let due = self.state.due_at(Micros(self.now)).0 <= self.now;
        if (!held && due) || (held && self.rng.chance(self.crash * 2)) {
            self.claim();
        } else if held {
            let primary = self.state.primary.id;
            self.fact(primary, Fact::TakeUp, Pace::Go).unwrap();
        }
    }

    /// Some thread's runner is done with its step.
    fn runner(&mut self, calm: bool) {
        let steps = self.fold.steps.iter().map(|(t, s)| (*t, *s));
        let steps = steps.collect::<Vec<_>>();
        if steps.is_empty() {
            self.server();
            return;
        }
        let (thread, step) = *self.rng.pick(&steps);
        let told = self.state.thread(thread).unwrap().interrupting;
        let fact = if told && self.rng.chance(60) {
            Fact::Interrupted { used: used(1) }
        } else {
            self.outcome(thread, step, calm)
        };
        let fact = match fact {
            // An interrupted call has used nothing that is counted, unless it was an advisor's.
            Fact::Interrupted { .. } if !self.spends(thread) => crate::world::interrupted(),
            fact => fact,
        };
        let pace = if !calm && self.rng.chance(8) {
            Pace::Halt
        } else {
            Pace::Go
        };
        self.fact(thread, fact, pace).unwrap();
    }

    /// Whether what `thread` has in flight is a model request.
    fn spends(&self, thread: ThreadId) -> bool {
        let thread = self.state.thread(thread).unwrap();
        let asks = thread.started().is_some_and(|c| c.name == "ask_advisor");
        asks || !matches!(thread.phase, Phase::Acting { .. })
    }

    /// Brings those whose model is asked to a call with a question behind it, and tries everything again.
    fn act_on_calls(&mut self) {
        let asked = self.fold.steps.iter();
        let asked = asked.filter(|(_, step)| matches!(step, Step::Request { .. }));
        for thread in asked.map(|(thread, _)| *thread).collect::<Vec<_>>() {
            let reply = self.reply(thread, None, &["bash", "ask"]);
            self.report(thread, reply);
            self.probe();
        }
    }

    /// Whether the session stands where few histories come by.
    fn is_rare(&self) -> bool {
        let now = situation_of(&self.state, None).unwrap_or_default();
        ["compacts", "paused", "awaits", "interrupting"]
            .iter()
            .any(|rare| now.contains(rare))
    }

    /// Liveness: once faults stop and every question is answered, the session comes to rest.
    pub fn quiesce(&mut self) {
        self.update(Patch::Null).unwrap();
        for _ in 0..3_000 {
            let asked = self.fold.asked();
            if self.state.is_in_flight() {
                self.runner(true);
                // What others opened meanwhile is taken up.
                if self.state.is_in_flight() {
                    let primary = self.state.primary.id;
                    self.fact(primary, Fact::TakeUp, Pace::Go).unwrap();
                }
            } else if self.state.is_open() {
                self.now = self.now.max(self.state.due_at(Micros(self.now)).0);
                self.claim();
            } else if let Some(call) = asked.first() {
                let reply = self.answer(*call);
                self.send(vec![reply]).unwrap();
            } else {
                self.fold.at_rest(&self.state);
                assert!(self.inbox.is_empty(), "something waits for ever");
                return;
            }
        }
        panic!("the session never comes to rest");
    }
}

/// What a history was.
pub struct Played {
    /// How many threads were begun, and how many there were at once.
    pub created: u64,
    pub most: usize,
    pub coverage: TeamCoverage,
}

/// The history of `seed`.
pub fn history(seed: u64) -> Played {
    let mut rng = Rng(seed);
    let mut team = if rng.chance(50) {
        let all = situations();
        let at = usize::try_from(seed).unwrap() % all.len();
        let mut team = brought_to(&all[at], seed);
        team.probe();
        team.act_on_calls();
        if team.state.archived {
            team = Team::new(seed, Some(1_000_000));
        }
        team
    } else {
        let caps = [None, Some(20), Some(1_000_000)];
        Team::new(seed, *rng.pick(&caps))
    };
    for _ in 0..200 + rng.below(500) {
        team.act();
        if team.is_rare() && rng.chance(25) {
            team.probe();
        }
    }
    team.quiesce();
    if rng.chance(50) {
        team.over();
    } else {
        team.submit(Input::Command(Command::Delete)).unwrap();
    }
    Played {
        created: team.fold.created,
        most: team.most,
        coverage: team.coverage,
    }
}

const SEEDS: u64 = 60;

#[test]
fn every_seed_keeps_every_invariant_of_threads_and_quiesces_and_no_cell_is_missed() {
    let (mut created, mut most) = (0, 0);
    let mut coverage = TeamCoverage::default();
    for seed in 0..SEEDS {
        let run = std::panic::AssertUnwindSafe(|| history(seed));
        let played = std::panic::catch_unwind(run)
            .unwrap_or_else(|_| panic!("seed {seed} of the histories of teams"));
        created += played.created;
        most = most.max(played.most);
        coverage.add(&played.coverage);
    }
    assert!(created > 400, "few threads: {created}");
    assert_eq!(most, session::limits::THREADS, "the limit is never met");
    let wrong = coverage.wrong(0);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[cfg(feature = "faults")]
#[test]
fn each_fault_of_a_team_is_caught() {
    use session::faults::plant;
    for fault in FAULTS {
        let caught = (0..200).find(|seed| {
            plant(Some(fault));
            let run = std::panic::AssertUnwindSafe(|| history(*seed));
            let outcome = std::panic::catch_unwind(run);
            plant(None);
            outcome.is_err()
        });
        assert!(caught.is_some(), "nobody saw {fault:?}");
    }
    history(0);
}
