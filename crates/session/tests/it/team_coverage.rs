//! Which inputs met which situation of a team, and how often: the cells of its state table, counted. A situation is
//! where the coordinator stands, and where the thread stands that the input is about, or else the busiest of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use contract::ids::{EventId, ThreadId};
use contract::patch::Patch;
use session::input::Grade;
use session::{Command, Fact, Input, Phase, Remedy, State, Step, Thread, Update, UserEvent};

use crate::team_fold::{Owed, TeamFold};

/// Where a coordinator may stand.
pub const LEADS: [&str; 8] = [
    "works", "compacts", "grades", "asks", "retries", "paused", "rests", "awaits",
];
/// Where a thread of it may stand, the busiest first.
pub const CHILDREN: [&str; 6] = ["works", "compacts", "retries", "asks", "paused", "rests"];
/// What holds whatever each of them does.
pub const SPECIAL: [&str; 4] = [
    "interrupting a thread",
    "interrupting the coordinator",
    "interrupting all",
    "archived",
];

/// What clients and runners do to a session with threads.
pub const KINDS: [&str; 39] = [
    "message",
    "outcome",
    "interrupt",
    "interrupt of the coordinator",
    "interrupt of the thread",
    "answer to the coordinator",
    "answer to the thread",
    "answer to another thread",
    "answer late",
    "archive of the thread",
    "archive",
    "delete",
    "budget",
    "no budget",
    "claim",
    "look for what is due",
    "stale fact",
    "fact out of place",
    "coordinator: reply",
    "coordinator: calls",
    "coordinator: result",
    "coordinator: delegation",
    "coordinator: advice",
    "coordinator: summary",
    "coordinator: verdict",
    "coordinator: revision",
    "coordinator: fails",
    "coordinator: fails a while",
    "coordinator: overflows",
    "coordinator: stopped",
    "thread: reply",
    "thread: calls",
    "thread: result",
    "thread: summary",
    "thread: fails",
    "thread: fails a while",
    "thread: overflows",
    "thread: stopped",
    "thread: lost",
];

fn stands(thread: &Thread) -> &'static str {
    match thread.phase {
        Phase::Idle => "rests",
        Phase::Blocked { .. } => "asks",
        Phase::Paused => "paused",
        Phase::Retrying { .. } => "retries",
        Phase::Compacting { .. } => "compacts",
        Phase::Grading { .. } => "grades",
        Phase::Due | Phase::Requesting { .. } | Phase::Acting { .. } => "works",
    }
}

/// The situation of a session with threads, seen from the one that an input is about; none if there is no thread.
pub fn situation_of(state: &State, about: Option<ThreadId>) -> Option<String> {
    if state.archived {
        return (state.begun > 0).then(|| "archived".to_owned());
    }
    let rank = |thread: &&Thread| CHILDREN.iter().position(|name| *name == stands(thread));
    let named = state.children.iter().find(|t| Some(t.id) == about);
    let child = named.or_else(|| state.children.iter().min_by_key(rank))?;
    let stopped = state.children.iter().any(|t| t.interrupting);
    let special = match (state.primary.interrupting, stopped) {
        (true, true) => Some("interrupting all"),
        (true, false) => Some("interrupting the coordinator"),
        (false, true) => Some("interrupting a thread"),
        (false, false) => None,
    };
    if let Some(special) = special {
        return Some(special.to_owned());
    }
    let lead = match stands(&state.primary) {
        "rests" if state.outcome.is_some() => "awaits",
        lead => lead,
    };
    Some(format!("{lead} / {}", stands(child)))
}

/// Which input it is, and the thread that it is about.
pub fn kind_of(input: &Input, state: &State, fold: &TeamFold) -> (&'static str, Option<ThreadId>) {
    match input {
        Input::Command(Command::Send(events)) => event_kind(events, state, fold),
        Input::Command(Command::Update(update)) => (update_kind(update), None),
        Input::Command(Command::Archive) => ("archive", None),
        Input::Command(Command::ArchiveThread(thread)) => ("archive of the thread", Some(*thread)),
        Input::Command(Command::Delete) => ("delete", None),
        Input::Claim => ("claim", None),
        Input::Fact {
            generation,
            thread,
            fact,
            ..
        } => {
            let kind = if *generation != state.generation {
                "stale fact"
            } else if matches!(**fact, Fact::TakeUp) && state.thread(*thread).is_some() {
                "look for what is due"
            } else if !fits(state, fold, *thread, fact) {
                "fact out of place"
            } else {
                fact_kind(fact, *thread == state.primary.id)
            };
            (kind, Some(*thread))
        }
    }
}

fn event_kind(
    events: &[UserEvent],
    state: &State,
    fold: &TeamFold,
) -> (&'static str, Option<ThreadId>) {
    match &events[0] {
        UserEvent::Interrupt { thread: None } => ("interrupt", None),
        UserEvent::Interrupt { thread } if *thread == Some(state.primary.id) => {
            ("interrupt of the coordinator", None)
        }
        UserEvent::Interrupt { thread } => ("interrupt of the thread", *thread),
        UserEvent::Outcome { .. } => ("outcome", None),
        UserEvent::ToolConfirmation { call, thread, .. }
        | UserEvent::CustomToolResult { call, thread, .. } => {
            let owner = fold.owner(*call);
            let kind = match owner {
                Some(owner) if thread.is_some_and(|named| named != owner) => {
                    "answer to another thread"
                }
                _ if state.archived => "answer late",
                Some(owner) if fold.owes(owner, *call) == Owed::Nothing => "answer late",
                Some(owner) if owner == state.primary.id => "answer to the coordinator",
                Some(_) => "answer to the thread",
                None => "answer late",
            };
            (kind, owner)
        }
        _ => ("message", None),
    }
}

fn update_kind(update: &Update) -> &'static str {
    match update.budget {
        Patch::Null => "no budget",
        _ => "budget",
    }
}

/// Whether `thread` has a step in flight that the fact is an answer to.
pub fn fits(state: &State, fold: &TeamFold, thread: ThreadId, fact: &Fact) -> bool {
    let Some(step) = fold.steps.get(&thread) else {
        return false;
    };
    match fact {
        Fact::Interrupted { .. } => state.thread(thread).is_some_and(|t| t.interrupting),
        Fact::Replied { span, .. } => *step == Step::Request { span: *span },
        Fact::Compacted { span, .. } => *step == Step::Compact { span: *span },
        Fact::RequestFailed { span, .. } => match step {
            Step::Request { span: open } | Step::Compact { span: open } => span == open,
            Step::Grade { start, .. } => span == start,
            _ => false,
        },
        Fact::Graded { start, .. } | Fact::Grading { start, .. } => {
            matches!(step, Step::Grade { start: open, .. } if open == start)
        }
        Fact::Finished { call, .. }
        | Fact::Lost { call }
        | Fact::Delegated { call, .. }
        | Fact::Advised { call, .. } => match step {
            Step::Execute { call: open } | Step::Recover { call: open } => call == open,
            _ => false,
        },
        Fact::TakeUp | Fact::HostUnreachable { .. } | Fact::UsedInside { .. } => false,
    }
}

fn fact_kind(fact: &Fact, leads: bool) -> &'static str {
    let (of_lead, of_thread) = match fact {
        Fact::Replied { calls, .. } if calls.is_empty() => ("coordinator: reply", "thread: reply"),
        Fact::Replied { .. } => ("coordinator: calls", "thread: calls"),
        Fact::Compacted { .. } => ("coordinator: summary", "thread: summary"),
        Fact::RequestFailed { remedy, .. } => match remedy {
            Remedy::None => ("coordinator: fails", "thread: fails"),
            Remedy::Wait { .. } => ("coordinator: fails a while", "thread: fails a while"),
            Remedy::Compact => ("coordinator: overflows", "thread: overflows"),
        },
        Fact::Graded {
            grade: Grade::NeedsRevision,
            ..
        } => ("coordinator: revision", ""),
        Fact::Graded { .. } | Fact::Grading { .. } => ("coordinator: verdict", ""),
        Fact::Delegated { .. } => ("coordinator: delegation", ""),
        Fact::Advised { .. } => ("coordinator: advice", ""),
        Fact::Finished { .. } => ("coordinator: result", "thread: result"),
        Fact::Lost { .. } => ("coordinator: result", "thread: lost"),
        Fact::Interrupted { .. } => ("coordinator: stopped", "thread: stopped"),
        Fact::TakeUp => ("look for what is due", "look for what is due"),
        Fact::HostUnreachable { .. } => ("of a credential", "of a credential"),
        Fact::UsedInside { .. } => ("of a program inside", "of a program inside"),
    };
    if leads { of_lead } else { of_thread }
}

/// All situations that can be.
pub fn situations() -> Vec<String> {
    let pairs = LEADS.iter().flat_map(|lead| {
        let of = CHILDREN.iter().map(move |child| (*lead, *child));
        of.map(|(lead, child)| format!("{lead} / {child}"))
    });
    let special = SPECIAL.iter().map(|name| (*name).to_owned());
    pairs
        .chain(special)
        .filter(|s| cannot_be(s).is_none())
        .collect()
}

/// Why there is no such situation.
fn cannot_be(situation: &str) -> Option<&'static str> {
    match situation.split_once(" / ")? {
        ("grades", child) if child != "rests" => Some("nobody grades while a thread has a turn"),
        _ => None,
    }
}

/// Why a cell stays empty.
pub fn impossible(situation: &str, kind: &str) -> Option<&'static str> {
    const NOTHING: &str = "nothing of this kind is in flight there";
    let of_lead = kind.starts_with("coordinator: ");
    let of_thread = kind.starts_with("thread: ");
    if situation == "archived" {
        let of_child = of_thread || kind.ends_with("the thread");
        return (of_lead || of_child || kind == "answer to the coordinator")
            .then_some("all threads have ended");
    }
    let Some((lead, child)) = situation.split_once(" / ") else {
        return match (situation, kind) {
            (
                "interrupting a thread" | "interrupting all",
                "coordinator: verdict" | "coordinator: revision",
            ) => Some("nobody grades while a thread has a turn"),
            ("interrupting a thread", "coordinator: stopped")
            | ("interrupting the coordinator", "thread: stopped") => Some("nobody stopped it"),
            _ => None,
        };
    };
    let fits = |place: &str, what: &str| match what {
        "reply" | "calls" | "result" | "lost" | "delegation" | "advice" => place == "works",
        "summary" => place == "compacts",
        "verdict" | "revision" => place == "grades",
        "stopped" => false,
        _ => matches!(place, "works" | "compacts" | "grades"),
    };
    let what = kind.split_once(": ").map_or("", |(_, what)| what);
    match kind {
        _ if of_lead && !fits(lead, what) => Some(NOTHING),
        _ if of_thread && !fits(child, what) => Some(NOTHING),
        "answer to the coordinator" if !matches!(lead, "asks" | "works") => {
            Some("it asks its client nothing there")
        }
        "answer to the thread" if !matches!(child, "asks" | "works") => {
            Some("it asks its client nothing there")
        }
        _ => None,
    }
}

/// Hits of each cell.
#[derive(Clone, Default)]
pub struct TeamCoverage(BTreeMap<(String, &'static str), u64>);

impl TeamCoverage {
    pub fn count(&mut self, input: &Input, state: &State, fold: &TeamFold) {
        let (kind, about) = kind_of(input, state, fold);
        if let Some(situation) = situation_of(state, about) {
            *self.0.entry((situation, kind)).or_default() += 1;
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (cell, hits) in &other.0 {
            *self.0.entry(cell.clone()).or_default() += hits;
        }
    }

    fn hits(&self, situation: &str, kind: &'static str) -> u64 {
        let cell = (situation.to_owned(), kind);
        self.0.get(&cell).copied().unwrap_or(0)
    }

    /// Cells that were met less than `wanted` times, and cells that cannot be and were.
    pub fn wrong(&self, wanted: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        for situation in situations() {
            for kind in KINDS {
                let hits = self.hits(&situation, kind);
                match impossible(&situation, kind) {
                    Some(why) if hits > 0 => {
                        wrong.push(format!("{situation} × {kind}: {hits}, but {why}"));
                    }
                    None if hits < wanted => {
                        wrong.push(format!("{situation} × {kind}: {hits}, wanted {wanted}"));
                    }
                    _ => {}
                }
            }
        }
        let known = situations();
        for ((situation, kind), hits) in &self.0 {
            if !known.contains(situation) || !KINDS.contains(kind) {
                wrong.push(format!("{situation} × {kind}: {hits}, and is no cell"));
            }
        }
        wrong
    }

    /// How many cells there are, and those that were met least.
    #[allow(dead_code, reason = "the example prints it")]
    pub fn sum(&self) -> String {
        let mut cells = Vec::new();
        for situation in situations() {
            let possible = KINDS.iter().filter(|k| impossible(&situation, k).is_none());
            cells.extend(
                possible.map(|kind| (self.hits(&situation, kind), situation.clone(), *kind)),
            );
        }
        cells.sort();
        let mut out = format!("{} cells of teams", cells.len());
        for (hits, situation, kind) in cells.iter().take(8) {
            write!(out, "\n  {hits:6} {situation} × {kind}").unwrap();
        }
        out
    }
}

impl TeamFold {
    /// The thread of a call, whether it is open or not.
    pub fn owner(&self, call: EventId) -> Option<ThreadId> {
        self.calls.get(&call).copied()
    }

    /// What the client owes to a call.
    pub fn owes(&self, thread: ThreadId, call: EventId) -> Owed {
        let line = &self.lines[&thread];
        let open = line.open.iter().find(|(id, _)| *id == call);
        open.map_or(Owed::Nothing, |(_, owed)| *owed)
    }
}
