//! The state table of `docs/session-threads.md`, made by asking the core: a coordinator and a thread are brought into
//! each situation the way clients and runners bring them there, then meet each input.

use std::fmt::Write as _;

use contract::content::Block;
use contract::event::Body;
use contract::ids::{EventId, ThreadId};
use contract::patch::Patch;
use session::input::Grade;
use session::{
    Budget, Command, Decision, Fact, Generation, Input, Pace, Placed, Remedy, Step, UserEvent,
};

use crate::graded::outcome;
use crate::team_client::name_thread;
use crate::team_coverage::{KINDS, kind_of, situation_of};
use crate::team_fold::Owed;
use crate::team_scenes::{brought_to, cap_of, order, prepare};
use crate::team_world::Team;
use crate::world::{INTERRUPT, allow, answer, finished, interrupted, message, raw, used};

/// The situations that the page shows.
const HEADINGS: [&str; 22] = [
    "works / works",
    "works / asks",
    "works / rests",
    "compacts / works",
    "retries / works",
    "asks / works",
    "asks / asks",
    "asks / rests",
    "rests / works",
    "rests / compacts",
    "rests / retries",
    "rests / asks",
    "rests / rests",
    "paused / works",
    "rests / paused",
    "awaits / works",
    "awaits / asks",
    "grades / rests",
    "interrupting a thread",
    "interrupting the coordinator",
    "interrupting all",
    "archived",
];

/// An input of `kind`, as sensible as it can be here.
fn input_of(kind: &str, team: &mut Team) -> Input {
    let (lead, child) = (team.state.primary.id, team.child());
    let send = |event: UserEvent| Input::Command(Command::Send(vec![event]));
    let stop = |thread| send(UserEvent::Interrupt { thread });
    let first = team
        .log
        .iter()
        .find(|p| matches!(p.event.body, Body::AgentCustomToolUse { .. }));
    let past = first.expect("it asked something").event.id;
    let cap = match team.state.budget {
        Budget::Limit { cents, .. } => cents,
        Budget::None | Budget::Removed => 0,
    };
    match kind {
        "message" => send(message("hi")),
        "outcome" => send(outcome(8, None)),
        "interrupt" => send(INTERRUPT),
        "interrupt of the coordinator" => stop(Some(lead)),
        "interrupt of the thread" => stop(Some(child)),
        "answer to the coordinator" => send(owed(team, lead)),
        "answer to the thread" => send(owed(team, child)),
        "answer to another thread" => {
            let mut elsewhere = answer(past);
            name_thread(&mut elsewhere, Some(child));
            send(elsewhere)
        }
        "answer late" => send(answer(past)),
        "archive of the thread" => Input::Command(Command::ArchiveThread(child)),
        "archive" => Input::Command(Command::Archive),
        "delete" => Input::Command(Command::Delete),
        "budget" => cap_of(Patch::Value(cap + 100)),
        "no budget" => cap_of(Patch::Null),
        "claim" => Input::Claim,
        _ => {
            let (who, what) = match kind.split_once(": ") {
                Some(("thread", what)) => (child, what),
                Some((_, what)) => (lead, what),
                None => (lead, kind),
            };
            let held = team.state.generation.0;
            let generation = Generation(if kind == "stale fact" { held - 1 } else { held });
            Input::Fact {
                generation,
                thread: who,
                fact: Box::new(fact_of(what, who, team)),
                pace: Pace::Go,
            }
        }
    }
}

/// An answer to the first thing that a thread asks its client.
fn owed(team: &Team, thread: ThreadId) -> UserEvent {
    let mut open = team.fold.lines[&thread].open.iter();
    match open.find(|(_, owed)| *owed != Owed::Nothing) {
        Some((call, Owed::Confirmation)) => allow(*call),
        Some((call, _)) => answer(*call),
        None => answer(EventId::from_bits(1)),
    }
}

fn fact_of(what: &str, who: ThreadId, team: &mut Team) -> Fact {
    let call = team.running(who);
    let step = team.fold.steps.get(&who).copied();
    let verdict = |grade| match step {
        Some(Step::Grade { start, .. }) => Fact::Graded {
            start,
            grade,
            explanation: "because".to_owned(),
            used: used(1),
        },
        _ => Fact::Lost { call },
    };
    let asks = matches!(
        step,
        Some(Step::Request { .. } | Step::Compact { .. } | Step::Grade { .. })
    );
    match (what, step) {
        ("reply", Some(Step::Request { .. })) => team.reply(who, Some("done"), &[]),
        ("calls", Some(Step::Request { .. })) => team.reply(who, None, &["bash"]),
        ("summary", Some(Step::Compact { span })) => Fact::Compacted {
            span,
            record: raw("\"summary\""),
            used: used(1),
        },
        ("verdict", _) => verdict(Grade::Satisfied),
        ("revision", _) => verdict(Grade::NeedsRevision),
        ("fails", _) if asks => team.failing(who, Remedy::None),
        ("fails a while", _) if asks => team.failing(who, Remedy::Wait { at_least: None }),
        ("overflows", _) if asks => team.failing(who, Remedy::Compact),
        ("stopped", _) => interrupted(),
        ("result", _) => finished(call, "ran"),
        ("lost", _) => Fact::Lost { call },
        ("delegation", _) => Fact::Delegated {
            call,
            order: order("tester"),
        },
        ("advice", _) => Fact::Advised {
            call,
            content: vec![Block::text("mind the gap")],
            is_error: false,
            used: used(1),
        },
        ("look for what is due" | "stale fact", _) => Fact::TakeUp,
        _ => Fact::Lost { call },
    }
}

/// Events in short. What stands on the log of a thread is said to be its; the session's own status is in capitals.
fn short(team: &Team, events: &[Placed]) -> String {
    let mut out = String::new();
    let mut at = None;
    for placed in events {
        let kind = placed.event.body.kind();
        let name = match kind {
            "session.usage" => continue,
            "session.status_running" => "RUNNING",
            "session.status_rescheduled" => "RESCHEDULED",
            "session.status_idle" => "IDLE",
            "session.status_terminated" => "TERMINATED",
            "session.thread_status_running" => "running",
            "session.thread_status_rescheduled" => "rescheduled",
            "session.thread_status_idle" => "idle",
            "session.thread_status_terminated" => "ended",
            "session.thread_created" => "created",
            "agent.thread_message_sent" => "sent",
            "agent.thread_message_received" => "heard",
            "agent.thread_context_compacted" => "compacted",
            "agent.message" => "message",
            "agent.tool_use" | "agent.custom_tool_use" => "call",
            "agent.tool_result" => "result",
            "span.model_request_start" => "span.start",
            "span.model_request_end" => "span.end",
            "span.outcome_evaluation_start" => "grading.start",
            "span.outcome_evaluation_ongoing" => "grading.ongoing",
            "span.outcome_evaluation_end" => "grading.end",
            other => other,
        };
        let who = whose(team, placed);
        let separator = match at {
            None => "",
            Some(last) if last == who => ", ",
            Some(_) => "; ",
        };
        let prefix = if at == Some(who) || who.is_empty() {
            String::new()
        } else {
            format!("{who}: ")
        };
        write!(out, "{separator}{prefix}{name}").unwrap();
        at = Some(who);
    }
    out
}

fn whose(team: &Team, placed: &Placed) -> &'static str {
    let of_session = placed.event.body.kind().starts_with("session.status_");
    let line = &team.fold.lines[&placed.thread];
    match () {
        () if of_session || matches!(placed.event.body, Body::SessionUpdated { .. }) => "",
        () if placed.thread == team.fold.primary => "coordinator",
        () if line.advisor => "advisor",
        () if placed.thread == team.child() => "thread",
        () => "new thread",
    }
}

/// What is to be done next, and by whom.
fn steps(team: &Team, input: &Input, decision: &Decision) -> String {
    let lead = team.fold.primary;
    let about = match input {
        Input::Fact { thread, .. } => *thread,
        _ => lead,
    };
    let mut out = String::new();
    for (thread, step) in std::iter::once(&(about, decision.step)).chain(&decision.others) {
        let does = match step {
            Step::Request { .. } => "ask the model",
            Step::Compact { .. } => "condense",
            Step::Grade { .. } => "grade",
            Step::Execute { .. } => "run a call",
            Step::Recover { .. } => "find out how it ended",
            Step::Rest => continue,
        };
        let who = match *thread {
            thread if thread == lead => "coordinator",
            thread if thread == team.child() => "thread",
            _ => "new thread",
        };
        write!(out, "; {who}: {does}").unwrap();
    }
    out
}

/// What `kind` makes of `situation`: events, then where all stand; or the refusal. None if there is no such input.
fn cell(situation: &str, kind: &str) -> Option<Result<(String, String), String>> {
    let mut team = brought_to(situation, 3);
    prepare(kind, situation, &mut team);
    let child = team.child();
    let input = input_of(kind, &mut team);
    if kind_of(&input, &team.state, &team.fold).0 != kind {
        return None;
    }
    assert_eq!(
        situation_of(&team.state, Some(child)).as_deref(),
        Some(situation),
        "{kind}"
    );
    Some(match team.submit(input.clone()) {
        Err(refused) => {
            let name = format!("{refused:?}");
            Err(name.split([' ', '{']).next().unwrap().to_owned())
        }
        Ok(decision) => {
            // A thread that has ended is still the one that it is about.
            let mut events = short(&team, &decision.events);
            for waiting in &decision.queued {
                let separator = if events.is_empty() { "" } else { "; " };
                let kind = match waiting.event.kind() {
                    "agent.thread_message_received" => "what was said",
                    kind => kind,
                };
                write!(events, "{separator}({kind} waits)").unwrap();
            }
            let after = match situation_of(&team.state, Some(child)) {
                _ if team.deleted => "gone".to_owned(),
                Some(after) => after,
                None => "no thread left".to_owned(),
            };
            Ok((
                events,
                format!("{after}{}", steps(&team, &input, &decision)),
            ))
        }
    })
}

/// The whole table as Markdown.
fn table() -> String {
    let mut out = String::new();
    for situation in HEADINGS {
        let head = "| input | events, in order | then |\n|---|---|---|";
        writeln!(out, "### {situation}\n\n{head}").unwrap();
        let mut refused: Vec<(String, Vec<&str>)> = Vec::new();
        for kind in KINDS {
            match cell(situation, kind) {
                None => {}
                Some(Ok((events, next))) => {
                    let events = if events.is_empty() { "–" } else { &events };
                    writeln!(out, "| {kind} | {events} | {next} |").unwrap();
                }
                Some(Err(why)) => match refused.iter_mut().find(|(name, _)| *name == why) {
                    Some((_, kinds)) => kinds.push(kind),
                    None => refused.push((why, vec![kind])),
                },
            }
        }
        let refused = refused.iter();
        let refused = refused.map(|(why, kinds)| format!("`{why}` for {}", kinds.join(", ")));
        let refused = refused.collect::<Vec<_>>().join("; ");
        writeln!(out, "\nRefused: {refused}.\n").unwrap();
    }
    out.trim_end().to_owned()
}

pub fn page() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/session-threads.md")
}

/// `text` with the table as it is now between the marks.
pub fn put_into(text: &str) -> String {
    crate::table::between_marks(text, &table())
}

#[test]
fn every_situation_of_a_team_is_reached_by_clients_and_runners_and_every_input_can_meet_it() {
    for situation in crate::team_coverage::situations() {
        let team = brought_to(&situation, 3);
        let child = team.child();
        assert_eq!(
            situation_of(&team.state, Some(child)),
            Some(situation.clone())
        );
        for kind in KINDS
            .iter()
            .filter(|kind| crate::team_coverage::impossible(&situation, kind).is_none())
        {
            // What is in flight when an interrupt comes, or the budget is spent, is told by the simulation.
            let asked_before = situation.ends_with("paused") && *kind == "coordinator: advice";
            if !situation.starts_with("interrupting") && !asked_before {
                assert!(cell(&situation, kind).is_some(), "{situation} × {kind}");
            }
        }
    }
}

#[test]
fn the_state_table_of_threads_in_the_documentation_is_what_the_core_does() {
    let text = std::fs::read_to_string(page()).unwrap();
    assert!(
        put_into(&text) == text,
        "docs/session-threads.md tells otherwise: cargo xtask sim --table"
    );
}
