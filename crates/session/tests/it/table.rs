//! The state table of `docs/session.md`, made by asking the core: a session is brought into each phase
//! the way clients and runners bring it there, then meets each input.

use std::fmt::Write as _;

use contract::ids::EventId;
use contract::patch::Patch;
use session::input::{AgentChange, Grade, ReplyEnd};
use session::{Command, Fact, Generation, Input, Pace, Remedy, Step, Update, UserEvent};

use crate::coverage::{KINDS, kind_of, phase_of};
use crate::graded::{graded, outcome};
use crate::world::{
    INTERRUPT, World, addressed, allow, answer, compacted, deny, failure, finished, interrupted,
    message, raw, rules, system,
};

const WAIT: Remedy = Remedy::Wait { at_least: None };

/// The headings of the table, and the phase each is a case of.
const HEADINGS: [(&str, &str); 20] = [
    ("idle", "idle"),
    ("exhausted", "exhausted"),
    ("blocked", "blocked"),
    ("blocked on one confirmation", "blocked"),
    ("paused", "paused"),
    ("due", "due"),
    ("requesting", "requesting"),
    ("requesting while a message waits", "requesting"),
    ("compacting", "compacting"),
    ("requesting for an outcome", "requesting"),
    ("grading", "grading"),
    ("grading while a message waits", "grading"),
    ("acting", "acting"),
    ("acting with more to ask", "acting"),
    ("interrupting a request", "interrupting"),
    ("interrupting a compaction", "interrupting"),
    ("interrupting a grading", "interrupting"),
    ("interrupting a call", "interrupting"),
    ("retrying", "retrying"),
    ("archived", "archived"),
];

/// A session under `heading`. Its model's replies cost a cent each, its cap is nine, or two where it has
/// to be spent. A custom call and one that asked were answered long ago.
pub fn brought_to(heading: &str) -> World {
    let cap = if matches!(heading, "exhausted" | "paused") {
        2
    } else {
        9
    };
    let mut world = World::with_budget(5, vec![message("begin")], Some(cap));
    world.claim().unwrap();
    let reply = world.reply(None, &["ask", "write"]);
    world.report(reply);
    let (custom, asks) = (world.calls[0], world.calls[1]);
    world.send(vec![answer(custom), allow(asks)]).unwrap();
    world.claim().unwrap();
    world.report(finished(asks, "ran"));
    let wants: Option<&[&str]> = match heading {
        "idle" | "exhausted" | "archived" => Some(&[]),
        "blocked" => Some(&["write", "write", "ask"]),
        "blocked on one confirmation" => Some(&["write"]),
        "acting with more to ask" | "interrupting a call" => Some(&["bash", "write", "ask"]),
        "acting" | "paused" => Some(&["bash"]),
        _ => None,
    };
    if let Some(calls) = wants {
        let reply = world.reply(Some("hello"), calls);
        world.report(reply);
    }
    if heading.ends_with("compacting") || heading.ends_with("compaction") {
        world.fail(Remedy::Compact);
    }
    if heading.contains("outcome") || heading.contains("grading") {
        world.send(vec![outcome(7, None)]).unwrap();
        let reply = world.reply(Some("at once"), &[]);
        world.report(reply);
    }
    if heading.contains("grading") {
        let reply = world.reply(Some("done"), &[]);
        world.report(reply);
    }
    if heading.starts_with("interrupting") {
        world.send(vec![INTERRUPT]).unwrap();
    }
    match heading {
        "archived" => {
            world.submit(Input::Command(Command::Archive)).unwrap();
        }
        "paused" => {
            let Step::Execute { call } = world.step else {
                panic!("a call runs")
            };
            world.report(finished(call, "ran"));
        }
        "due" => {
            let held = world.state.generation;
            let reply = world.reply(None, &["unknown"]);
            world.fact(held, reply, Pace::Halt).unwrap();
        }
        "retrying" => {
            world.fail(WAIT);
        }
        "requesting while a message waits" | "grading while a message waits" => {
            world.send(vec![message("more")]).unwrap();
        }
        _ => {}
    }
    world
}

/// An input of `kind`, as sensible as it can be in this world.
pub fn input_of(kind: &str, world: &mut World) -> Input {
    let open = |custom: bool| {
        let mut calls = world.checker.open.iter();
        let call = calls.find(|c| c.custom == custom && c.at == crate::check::At::Asked);
        call.map_or(EventId::from_bits(1), |c| c.id)
    };
    let (asks, owed) = (open(false), open(true));
    let running = match world.step {
        Step::Execute { call } | Step::Recover { call } => call,
        _ => EventId::from_bits(1),
    };
    let past = world.calls[1];
    let send = |event: UserEvent| Input::Command(Command::Send(vec![event]));
    let update = |update: Update| Input::Command(Command::Update(Box::new(update)));
    let generation = match kind {
        "stale fact" => Generation(world.state.generation.0 - 1),
        _ => world.state.generation,
    };
    let thread = world.state.primary.id;
    let open = world.checker.requested();
    let fact = |fact: Fact| Input::Fact {
        generation,
        thread,
        fact: Box::new(addressed(fact, open)),
        pace: Pace::Go,
    };
    match kind {
        "message" => send(message("hi")),
        "system" => send(system("note")),
        "outcome" => send(outcome(8, None)),
        "interrupt" => send(INTERRUPT),
        "allow" => send(allow(asks)),
        "deny" => send(deny(asks, None)),
        "allow late" => send(allow(past)),
        "answer" => send(answer(owed)),
        "answer late" => send(answer(world.calls[0])),
        "answer unknown" => send(answer(EventId::from_bits(1))),
        "batch" => Input::Command(Command::Send(vec![INTERRUPT, message("rather this")])),
        "profile" => update(Update {
            title: Patch::Value("title".to_owned()),
            ..Update::default()
        }),
        "agent" => update(Update {
            agent: Some(AgentChange {
                snapshot: raw("{}"),
                rules: rules(),
            }),
            ..Update::default()
        }),
        "budget" => update(Update {
            budget: Patch::Value(10),
            ..Update::default()
        }),
        "no budget" => update(Update {
            budget: Patch::Null,
            ..Update::default()
        }),
        "archive" => Input::Command(Command::Archive),
        "delete" => Input::Command(Command::Delete),
        "claim" => Input::Claim,
        "summary" => fact(compacted()),
        "fails" => fact(failure(Remedy::None)),
        "fails a while" => fact(failure(WAIT)),
        "overflows" => fact(failure(Remedy::Compact)),
        "verdict" => fact(graded(Grade::Satisfied)),
        "revision" => fact(graded(Grade::NeedsRevision)),
        "heartbeat" | "another round" => fact(Fact::Grading {
            start: crate::world::OPEN,
            beat: 0,
            used: (kind == "another round").then(|| crate::world::used(1)),
        }),
        "result" => fact(finished(running, "ran")),
        "lost" => fact(Fact::Lost { call: running }),
        "result late" => fact(finished(past, "again")),
        "interrupted" => fact(interrupted()),
        kind => {
            let calls: &[&str] = if kind == "reply with calls" {
                &["bash"]
            } else {
                &[]
            };
            let mut reply = world.reply(Some("hello"), calls);
            if let Fact::Replied { end, .. } = &mut reply
                && kind == "refusal"
            {
                *end = ReplyEnd::Refused(None);
            }
            fact(reply)
        }
    }
}

/// Events in short: the marks of a pair or an idle are always those of the recordings.
fn short(kinds: &[&str]) -> String {
    let mut out = Vec::new();
    for kind in kinds {
        out.push(match *kind {
            "session.status_running" => "RUNNING",
            "session.status_rescheduled" => "RESCHEDULED",
            "session.status_idle" => "IDLE",
            "session.status_terminated" => "TERMINATED",
            "session.thread_status_running"
            | "session.thread_status_rescheduled"
            | "session.thread_status_idle"
            | "session.thread_status_terminated"
            | "session.usage" => continue,
            "span.model_request_start" => "span.start",
            "span.model_request_end" => "span.end",
            "agent.thread_context_compacted" => "agent.compacted",
            "span.outcome_evaluation_start" => "grading.start",
            "span.outcome_evaluation_ongoing" => "grading.ongoing",
            "span.outcome_evaluation_end" => "grading.end",
            other => other,
        });
    }
    out.join(", ")
}

/// What `kind` makes of a session under `heading`: events, what waits, the next phase; or the refusal.
/// Nothing if there is no such input there.
fn cell(heading: &str, phase: &str, kind: &str) -> Option<Result<(String, String), String>> {
    let mut world = brought_to(heading);
    assert_eq!(phase_of(&world.state, &world.checker, world.now), phase);
    let input = input_of(kind, &mut world);
    if kind_of(&input, &world.checker) != kind {
        return None;
    }
    Some(made(&mut world, input))
}

fn made(world: &mut World, input: Input) -> Result<(String, String), String> {
    let from = world.log.len();
    match world.submit(input) {
        Err(refused) => {
            let name = format!("{refused:?}");
            Err(name.split([' ', '{']).next().unwrap().to_owned())
        }
        Ok(decision) => {
            let mut events = short(&world.kinds_from(from));
            for waiting in &decision.queued {
                let kind = waiting.event.kind();
                write!(
                    events,
                    "{}({kind} waits)",
                    if events.is_empty() { "" } else { ", " }
                )
                .unwrap();
            }
            let after = if world.deleted {
                "gone"
            } else {
                phase_of(&world.state, &world.checker, world.now)
            };
            let next = match world.step_of(&decision) {
                Some(step) => format!("{after}: {step}"),
                None => after.to_owned(),
            };
            Ok((events, next))
        }
    }
}

impl World {
    fn step_of(&self, decision: &session::Decision) -> Option<&'static str> {
        Some(match decision.step {
            Step::Request { .. } => "ask the model",
            Step::Compact { .. } => "condense",
            Step::Grade { .. } => "grade",
            Step::Execute { .. } => "run a call",
            Step::Recover { .. } => "find out how it ended",
            Step::Rest => return None,
        })
    }
}

/// The whole table as Markdown.
pub fn table() -> String {
    let mut out = String::new();
    for (heading, phase) in HEADINGS {
        let head = "| input | events, in order | then |\n|---|---|---|";
        writeln!(out, "### {heading}\n\n{head}").unwrap();
        let mut refused: Vec<(String, Vec<&str>)> = Vec::new();
        for kind in KINDS {
            match cell(heading, phase, kind) {
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

pub const BEGIN: &str = "<!-- state table: made by `cargo xtask sim --table` -->\n";
pub const END: &str = "\n<!-- end of the state table -->";

/// `text` with the table as it is now between the marks.
pub fn put_into(text: &str) -> String {
    between_marks(text, &table())
}

/// `text` with `table` between the marks.
pub fn between_marks(text: &str, table: &str) -> String {
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the page marks where the table begins");
    let (_, after) = rest
        .split_once(END)
        .expect("the page marks where the table ends");
    format!("{before}{BEGIN}\n{table}\n{END}{after}")
}

pub fn page() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/session.md")
}
