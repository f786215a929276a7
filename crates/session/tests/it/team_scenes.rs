//! A coordinator and its thread, brought into each situation the way clients and runners bring them there.

use contract::content::Block;
use contract::ids::{EventId, ThreadId};
use contract::patch::Patch;
use session::{Command, Fact, Input, Order, Remedy, Step, Update, UserEvent};

use crate::graded::outcome;
use crate::team_coverage::impossible;
use crate::team_world::{Team, newcomer};
use crate::world::{answer, finished, used};

impl Team {
    /// The first thread that was begun.
    pub fn child(&self) -> ThreadId {
        let first = self.fold.lines.keys().find(|id| **id != self.fold.primary);
        let live = self.state.children.first().map(|t| t.id);
        live.or(first.copied()).expect("a thread was begun")
    }

    pub fn says(&mut self, thread: ThreadId, calls: &[&str]) {
        let reply = self.reply(thread, calls.is_empty().then_some("said"), calls);
        self.report(thread, reply);
    }

    pub fn failing(&self, thread: ThreadId, remedy: Remedy) -> Fact {
        let (Step::Request { span } | Step::Compact { span } | Step::Grade { start: span, .. }) =
            self.fold.steps[&thread]
        else {
            panic!("{thread} asks no model")
        };
        Fact::RequestFailed {
            span,
            kind: contract::event::SessionErrorKind::ModelOverloadedError,
            message: "overloaded".to_owned(),
            used: used(0),
            remedy,
        }
    }

    fn fails(&mut self, thread: ThreadId, remedy: Remedy) {
        let fact = self.failing(thread, remedy);
        self.report(thread, fact);
    }

    pub fn running(&self, thread: ThreadId) -> EventId {
        match self.fold.steps.get(&thread) {
            Some(Step::Execute { call } | Step::Recover { call }) => *call,
            _ => EventId::from_bits(1),
        }
    }

    /// Lets the next reply spend the budget.
    pub fn last_cent(&mut self) {
        let spent = self.state.totals.cost.0 / 10_000_000_000;
        self.cap(Patch::Value(spent + 1));
    }

    fn cap(&mut self, budget: Patch<u64>) {
        self.submit(cap_of(budget)).unwrap();
    }

    /// Brings a side to `place` from a request in flight; a pause comes last.
    fn bring(&mut self, thread: ThreadId, place: &str) {
        match place {
            "compacts" => self.fails(thread, Remedy::Compact),
            "retries" => self.fails(thread, Remedy::Wait { at_least: None }),
            "asks" => self.says(thread, &["ask", "write"]),
            "rests" | "awaits" | "grades" => self.says(thread, &[]),
            _ => {}
        }
    }
}

pub fn cap_of(budget: Patch<u64>) -> Input {
    let update = Update {
        budget,
        ..Update::default()
    };
    Input::Command(Command::Update(Box::new(update)))
}

pub fn order(to: &str) -> Order {
    Order::Begin {
        agent: newcomer(to),
        content: vec![Block::text("do this")],
    }
}

/// A coordinator and its thread in `situation`, under names of `seed`. A question of the coordinator was answered long ago.
pub fn brought_to(situation: &str, seed: u64) -> Team {
    let mut team = Team::new(seed, Some(1_000));
    let lead = team.state.primary.id;
    let (of_lead, of_child) = situation.split_once(" / ").unwrap_or(match situation {
        "archived" => ("rests", "rests"),
        _ => ("works", "works"),
    });
    if matches!(of_lead, "awaits" | "grades") {
        team.send(vec![outcome(7, None)]).unwrap();
    }
    team.claim();
    team.says(lead, &["ask"]);
    let asked = team.fold.asked()[0];
    team.send(vec![answer(asked)]).unwrap();
    team.claim();
    team.says(lead, &["send_to_agent"]);
    let call = team.running(lead);
    team.report(
        lead,
        Fact::Delegated {
            call,
            order: order("coder"),
        },
    );
    let child = team.child();
    // An outcome is awaited behind a spent budget only if its agent rested before.
    if (of_lead, of_child) == ("awaits", "rests") {
        team.bring(lead, of_lead);
        team.last_cent();
        team.bring(child, of_child);
        return team;
    }
    team.bring(child, of_child);
    team.bring(lead, of_lead);
    // What the thread has said was heard first.
    if of_child == "rests" && matches!(of_lead, "rests" | "grades") {
        team.bring(lead, of_lead);
    }
    // An advisor is asked only as long as somebody pays.
    if (of_lead, of_child) == ("works", "paused") && seed.is_multiple_of(2) {
        team.says(lead, &["ask_advisor"]);
    }
    pause(&mut team, of_lead, of_child);
    let stop = match situation {
        "interrupting a thread" => Some(Some(child)),
        "interrupting the coordinator" => Some(Some(lead)),
        "interrupting all" => Some(None),
        _ => None,
    };
    if let Some(thread) = stop {
        team.send(vec![UserEvent::Interrupt { thread }]).unwrap();
    }
    if situation == "archived" {
        team.submit(Input::Command(Command::Archive)).unwrap();
    }
    team
}

/// Spends the budget while a call of each side that is to be paused runs.
fn pause(team: &mut Team, of_lead: &str, of_child: &str) {
    let (lead, child) = (team.state.primary.id, team.child());
    let places = [(child, of_child), (lead, of_lead)];
    let paused = places.into_iter().filter(|(_, place)| *place == "paused");
    let paused = paused.map(|(thread, _)| thread).collect::<Vec<_>>();
    let Some((last, others)) = paused.split_last() else {
        return;
    };
    for thread in others {
        team.says(*thread, &["bash"]);
    }
    team.last_cent();
    team.says(*last, &["bash"]);
    for thread in &paused {
        let call = team.running(*thread);
        team.report(*thread, finished(call, "ran"));
    }
}

/// Brings whoever works as far as an input of `kind` wants it.
pub fn prepare(kind: &str, situation: &str, team: &mut Team) {
    let (lead, child) = (team.state.primary.id, team.child());
    let (of_lead, of_child) = situation.split_once(" / ").unwrap_or_default();
    let calls: &[&str] = match kind {
        "coordinator: result" | "thread: result" | "thread: lost" => &["bash"],
        "coordinator: delegation" => &["send_to_agent"],
        "coordinator: advice" => &["ask_advisor"],
        "answer to the coordinator" | "answer to the thread" => &["bash", "ask"],
        _ => return,
    };
    let of_thread = kind.starts_with("thread") || kind.ends_with("the thread");
    let (who, place) = if of_thread {
        (child, of_child)
    } else {
        (lead, of_lead)
    };
    if place == "works" && impossible(situation, kind).is_none() {
        team.says(who, calls);
    }
}
