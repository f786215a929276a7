//! A client that does anything: says, answers, confirms, contradicts itself, interrupts, updates, ends.

use contract::ids::{EventId, ThreadId};
use contract::patch::Patch;
use session::input::AgentChange;
use session::policy::ToolRule;
use session::{Command, Input, Update, UserEvent};

use crate::graded::outcome;
use crate::world::{INTERRUPT, World, allow, answer, deny, message, raw, rules, system};

/// What it does next.
pub fn input(world: &mut World) -> Input {
    let open = world.state.is_open();
    Input::Command(match world.rng.below(100) {
        0..8 => Command::Update(Box::new(profile(world))),
        8..12 => Command::Update(Box::new(Update {
            agent: Some(agent(world)),
            ..Update::default()
        })),
        12..18 => Command::Update(Box::new(budget(world))),
        18 | 19 if open => Command::Archive,
        20 | 21 if open => Command::Delete,
        _ => Command::Send(batch(world)),
    })
}

/// One event mostly; now and then several, sensible together or not.
fn batch(world: &mut World) -> Vec<UserEvent> {
    match world.rng.below(20) {
        0 => vec![INTERRUPT, message("rather this")],
        1 => vec![message("and mind"), system("the rules")],
        5 => vec![INTERRUPT, aim(world)],
        2 | 3 => {
            let owed = owed(world);
            let mut all = owed
                .iter()
                .map(|call| reply_to(world, *call))
                .collect::<Vec<_>>();
            if world.rng.chance(40) {
                all.push(if world.rng.chance(50) {
                    message("that was all")
                } else {
                    system("that was all")
                });
            }
            all
        }
        4 => (0..2 + world.rng.below(3)).map(|_| event(world)).collect(),
        _ => vec![event(world)],
    }
}

/// Calls that wait for the client, confirmed or answered by it.
pub fn owed(world: &World) -> Vec<EventId> {
    world.checker.asked()
}

/// What answers a call: a result of a custom one, a confirmation of another.
pub fn reply_to(world: &mut World, call: EventId) -> UserEvent {
    let custom = world.checker.open.iter().any(|c| c.id == call && c.custom);
    if custom {
        answer(call)
    } else if world.rng.chance(50) {
        allow(call)
    } else {
        let why = world.rng.chance(50).then_some("not now");
        deny(call, why)
    }
}

fn event(world: &mut World) -> UserEvent {
    let owed = owed(world);
    // Answers to a session that is being stopped are rare: the more of them are tried.
    let most = if world.state.primary.interrupting {
        95
    } else {
        75
    };
    match world.rng.below(100) {
        n if (20..most).contains(&n) && !owed.is_empty() => {
            let call = *world.rng.pick(&owed);
            reply_to(world, call)
        }
        0..5 => {
            let thread = world.rng.chance(70).then_some(world.state.primary.id);
            UserEvent::Interrupt { thread }
        }
        5 => UserEvent::Interrupt {
            thread: Some(ThreadId::from_bits(world.rng.wide())),
        },
        6..12 => system("by the way"),
        12..18 => aim(world),
        75..80 => past(world).map_or_else(|| message("hello"), answer),
        80..85 => past(world).map_or_else(|| message("hello"), allow),
        85..88 => answer(EventId::from_bits(world.rng.wide())),
        88..90 => allow(EventId::from_bits(world.rng.wide())),
        _ => message("hello"),
    }
}

/// An outcome, mostly of few iterations.
fn aim(world: &mut World) -> UserEvent {
    let most = world.rng.below(5);
    let most = (most > 0).then(|| u32::try_from(most).unwrap());
    outcome(world.rng.wide(), most)
}

/// A call of the last few, most of them answered long ago.
fn past(world: &mut World) -> Option<EventId> {
    let from = world.calls.len().saturating_sub(6);
    let recent = &world.calls[from..];
    (!recent.is_empty()).then(|| *world.rng.pick(recent))
}

fn profile(world: &mut World) -> Update {
    let title = match world.rng.below(5) {
        0 => Patch::Null,
        1 => Patch::Value(String::new()),
        2 | 3 => Patch::Value(format!("title {}", world.rng.below(2))),
        _ => Patch::Absent,
    };
    let many = if world.rng.chance(5) { 18 } else { 2 };
    let metadata = (0..world.rng.below(many))
        .map(|n| {
            (
                format!("k{n}"),
                world.rng.chance(60).then(|| "v".to_owned()),
            )
        })
        .collect();
    Update {
        title,
        metadata,
        ..Update::default()
    }
}

fn agent(world: &mut World) -> AgentChange {
    let mut rules = rules();
    if world.rng.chance(40) {
        rules.0.remove("read");
        rules.0.insert("grep".to_owned(), ToolRule::Ask);
    }
    AgentChange {
        snapshot: raw("{}"),
        rules,
    }
}

/// A cap below what is spent, above it, or none any more.
fn budget(world: &mut World) -> Update {
    let budget = match (world.checker.sums.cap, world.rng.below(10)) {
        (None, 0..5) => Patch::Null,
        (Some(_), 0) if world.rng.chance(30) => Patch::Null,
        (_, 1..3) => Patch::Value(1),
        (cap, n) => Patch::Value(cap.unwrap_or(1) + n),
    };
    Update {
        budget,
        ..Update::default()
    }
}
