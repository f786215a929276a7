//! Which inputs met a session in which phase, and how often: the state table's cells, counted.

use std::fmt::Write as _;

use session::input::{Grade, ReplyEnd};
use session::{Command, Fact, Input, Phase, Remedy, State, Status, Update, UserEvent};

use crate::check::{At, Checker};

/// Where a session may stand, as far as an input can tell.
pub const PHASES: [&str; 12] = [
    "idle",
    "exhausted",
    "blocked",
    "paused",
    "due",
    "requesting",
    "compacting",
    "grading",
    "acting",
    "interrupting",
    "retrying",
    "archived",
];

/// What may meet it there.
pub const KINDS: [&str; 34] = [
    "message",
    "system",
    "outcome",
    "interrupt",
    "allow",
    "deny",
    "allow late",
    "answer",
    "answer late",
    "answer unknown",
    "batch",
    "profile",
    "agent",
    "budget",
    "no budget",
    "archive",
    "delete",
    "claim",
    "stale fact",
    "reply",
    "reply with calls",
    "refusal",
    "summary",
    "fails",
    "fails a while",
    "overflows",
    "verdict",
    "revision",
    "heartbeat",
    "another round",
    "result",
    "lost",
    "result late",
    "interrupted",
];

pub struct Coverage {
    pub cells: [[u64; KINDS.len()]; PHASES.len()],
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            cells: [[0; KINDS.len()]; PHASES.len()],
        }
    }
}

pub fn phase_of(state: &State, checker: &Checker, now: i64) -> &'static str {
    if state.status() == Status::Terminated {
        "archived"
    } else if state.primary.interrupting {
        "interrupting"
    } else if state.primary.phase == Phase::Idle && checker.sums.spent(now) {
        "exhausted"
    } else {
        state.primary.phase.name()
    }
}

pub fn kind_of(input: &Input, checker: &Checker) -> &'static str {
    match input {
        Input::Command(Command::Send(events)) => match events.as_slice() {
            [event] => event_kind(event, checker),
            _ => "batch",
        },
        Input::Command(Command::Update(update)) => update_kind(update),
        Input::Command(Command::Archive) => "archive",
        Input::Command(Command::ArchiveThread(_)) => "archive of a thread",
        Input::Command(Command::Delete) => "delete",
        Input::Claim => "claim",
        Input::Fact { generation, .. } if generation.0 != checker.generation => "stale fact",
        Input::Fact { fact, .. } => match fact.as_ref() {
            Fact::Replied {
                end: ReplyEnd::Refused(_),
                ..
            } => "refusal",
            Fact::Replied { calls, .. } if calls.is_empty() => "reply",
            Fact::Replied { .. } => "reply with calls",
            Fact::Compacted { .. } => "summary",
            Fact::RequestFailed { remedy, .. } => match remedy {
                Remedy::None => "fails",
                Remedy::Wait { .. } => "fails a while",
                Remedy::Compact => "overflows",
            },
            fact @ Fact::Finished { .. } if checker.fits(fact) => "result",
            fact @ Fact::Lost { .. } if checker.fits(fact) => "lost",
            Fact::Finished { .. } | Fact::Lost { .. } => "result late",
            Fact::Graded {
                grade: Grade::NeedsRevision,
                ..
            } => "revision",
            Fact::Graded { .. } => "verdict",
            Fact::Grading { used: None, .. } => "heartbeat",
            Fact::Grading { .. } => "another round",
            Fact::Interrupted { .. } => "interrupted",
            Fact::Delegated { .. } | Fact::Advised { .. } | Fact::TakeUp => "of a team",
            Fact::HostUnreachable { .. } => "of a credential",
            Fact::UsedInside { .. } => "of a program inside",
        },
    }
}

fn event_kind(event: &UserEvent, checker: &Checker) -> &'static str {
    match event {
        UserEvent::Message { .. } => "message",
        UserEvent::System { .. } => "system",
        UserEvent::Thread { .. } => "of a team",
        UserEvent::Outcome { .. } => "outcome",
        UserEvent::Interrupt { .. } => "interrupt",
        UserEvent::ToolConfirmation { call, result, .. } => {
            let mut open = checker.open.iter();
            if !open.any(|c| c.id == *call && c.at == At::Asked && !c.custom) {
                "allow late"
            } else if *result == contract::client_event::Confirmation::Allow {
                "allow"
            } else {
                "deny"
            }
        }
        UserEvent::CustomToolResult { call, .. } => {
            if checker.open.iter().any(|c| c.id == *call && c.custom) {
                "answer"
            } else if checker.called.contains_key(call) {
                "answer late"
            } else {
                "answer unknown"
            }
        }
    }
}

fn update_kind(update: &Update) -> &'static str {
    match &update.budget {
        contract::patch::Patch::Value(_) => "budget",
        contract::patch::Patch::Null => "no budget",
        contract::patch::Patch::Absent if update.agent.is_some() => "agent",
        contract::patch::Patch::Absent => "profile",
    }
}

/// Why a cell stays empty.
pub fn impossible(phase: &str, kind: &str) -> Option<&'static str> {
    match (phase, kind) {
        ("blocked" | "acting" | "interrupting", "allow" | "deny" | "answer") => None,
        (_, "allow" | "deny" | "answer") => Some("no call of this phase waits for its client"),
        ("acting" | "interrupting", "result" | "lost") => None,
        (_, "result" | "lost") => Some("no call of this phase has been started"),
        _ => None,
    }
}

/// What has no cell: a runner may look for other threads in a session that has none.
const OF_TEAMS: [&str; 2] = ["of a team", "archive of a thread"];

impl Coverage {
    pub fn count(&mut self, phase: &str, kind: &str) {
        if OF_TEAMS.contains(&kind) {
            return;
        }
        let at = |names: &[&str], name: &str| names.iter().position(|n| *n == name).unwrap();
        self.cells[at(&PHASES, phase)][at(&KINDS, kind)] += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (row, theirs) in self.cells.iter_mut().zip(&other.cells) {
            for (cell, more) in row.iter_mut().zip(theirs) {
                *cell += more;
            }
        }
    }

    /// Cells that were met less than `wanted` times, and cells that cannot be and were.
    pub fn wrong(&self, wanted: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        for (phase, row) in PHASES.iter().zip(&self.cells) {
            for (kind, hits) in KINDS.iter().zip(row) {
                match impossible(phase, kind) {
                    Some(reason) if *hits > 0 => {
                        wrong.push(format!("{phase} × {kind}: {hits}, but {reason}"));
                    }
                    None if *hits < wanted => {
                        wrong.push(format!("{phase} × {kind}: {hits}, wanted {wanted}"));
                    }
                    _ => {}
                }
            }
        }
        wrong
    }

    /// How many of the cells that can be were met.
    #[allow(
        dead_code,
        reason = "the simulation of the orchestrator asks, which shares this file"
    )]
    pub fn met(&self) -> usize {
        let cells = PHASES.iter().zip(&self.cells).flat_map(|(phase, row)| {
            let row = KINDS.iter().zip(row);
            row.filter(move |(kind, hits)| **hits > 0 && impossible(phase, kind).is_none())
        });
        cells.count()
    }

    pub fn table(&self) -> String {
        let mut out = format!("{:16}", "");
        for phase in PHASES {
            write!(out, "{phase:>13}").unwrap();
        }
        out.push('\n');
        for (k, kind) in KINDS.iter().enumerate() {
            write!(out, "{kind:16}").unwrap();
            for (p, phase) in PHASES.iter().enumerate() {
                if impossible(phase, kind).is_some() {
                    write!(out, "{:>13}", "-").unwrap();
                } else {
                    write!(out, "{:>13}", self.cells[p][k]).unwrap();
                }
            }
            out.push('\n');
        }
        let cells = PHASES
            .iter()
            .flat_map(|p| KINDS.iter().map(move |k| impossible(p, k)));
        let reasons = cells.flatten().collect::<std::collections::BTreeSet<_>>();
        for reason in reasons {
            writeln!(out, "-: {reason}").unwrap();
        }
        out
    }
}
