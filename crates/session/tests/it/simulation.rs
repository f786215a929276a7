//! Random clients and a random, crashing, stale and repeating runner against the core. One seed, one
//! history: a failure prints its seed.

use contract::content::Block;
use contract::event::{Body, ModelUsage, SessionErrorKind};
use contract::ids::EventId;
use contract::patch::Patch;
use session::{Command, Fact, Generation, Input, Pace, Refused, Step, UserEvent};

use crate::world::{World, message};

/// Seeds that once failed stay here.
const PAST: [u64; 3] = [1, 42, 7_777];
const SEEDS: u64 = 600;
const STEPS: u64 = 160;

#[test]
fn every_seed_keeps_every_invariant_and_quiesces() {
    for seed in PAST.into_iter().chain(10_000..10_000 + SEEDS) {
        let outcome = std::panic::catch_unwind(|| history(seed));
        assert!(outcome.is_ok(), "seed {seed} failed: run history({seed})");
    }
}

fn history(seed: u64) {
    let mut world = World::new(seed, Vec::new());
    let faults = world.rng.below(40);
    let mut runner: Option<Generation> = None;
    for _ in 0..STEPS {
        match world.rng.below(10) {
            0..=2 => client(&mut world),
            3 if world.rng.chance(faults) => runner = None,
            4 => stranger(&mut world),
            _ => run(&mut world, &mut runner),
        }
    }
    quiesce(&mut world, &mut runner);
}

fn client(world: &mut World) {
    let batch = batch(world);
    let blocked = world.blocked();
    match world.rng.below(20) {
        0 => {
            let title = Patch::Value(format!("title {}", world.rng.below(3)));
            let metadata = [("k".to_owned(), world.rng.chance(50).then(|| "v".to_owned()))];
            let metadata = metadata.into_iter().collect();
            let update = Command::Update { title, metadata };
            world.submit(Input::Command(update)).unwrap();
        }
        1 => {
            let running = world.state.is_running();
            let refused = world.submit(Input::Command(Command::Delete)).is_err();
            assert_eq!(
                refused, running,
                "only a running session keeps its delete away"
            );
            if !refused {
                // The harness of this test goes on with the session: take the event back.
                world.log.pop();
                world.state.next_seq -= 1;
            }
        }
        _ => {
            let refused = world.send(batch.clone()).err();
            let talks = batch.iter().any(|e| matches!(e, UserEvent::Message { .. }));
            let frees = batch
                .iter()
                .any(|e| matches!(e, UserEvent::Interrupt { .. }));
            if let Some(refused) = refused {
                assert!(
                    matches!(refused, Refused::WaitingOn { .. }) && talks && !frees,
                    "refused for {refused}, blocked on {blocked:?}"
                );
            }
        }
    }
}

fn batch(world: &mut World) -> Vec<UserEvent> {
    let mut batch = Vec::new();
    let custom = |p: &session::Placed| matches!(p.event.body, Body::AgentCustomToolUse { .. });
    let calls = world
        .log
        .iter()
        .filter(|p| custom(p))
        .map(|p| p.event.id)
        .collect::<Vec<_>>();
    for _ in 0..=world.rng.below(3) {
        let pick = world.rng.below(10);
        batch.push(match pick {
            0 => UserEvent::Interrupt { thread: None },
            1..=6 if !calls.is_empty() => {
                let recent = calls.len().min(3) as u64;
                let back = usize::try_from(world.rng.below(recent)).unwrap();
                let call = calls[calls.len() - 1 - back];
                UserEvent::CustomToolResult {
                    call,
                    content: vec![],
                    is_error: None,
                }
            }
            _ => message("hello"),
        });
    }
    batch
}

/// A runner that lost the session, or repeats itself: refused, and nothing changes.
fn stranger(world: &mut World) {
    let before = (world.state.clone(), world.log.len());
    let stale = Generation(world.state.generation.0.wrapping_sub(1));
    let fact = world.reply(Some("late"), &["bash"]);
    let refused = world.fact(stale, fact, Pace::Go);
    assert!(matches!(refused, Err(Refused::Stale { .. })), "{refused:?}");
    let call = EventId::from_bits(world.rng.wide());
    let ghost = Fact::Finished {
        call,
        content: vec![],
        is_error: false,
    };
    let held = world.state.generation;
    let refused = world.fact(held, ghost, Pace::Go);
    assert!(
        matches!(refused, Err(Refused::OutOfPlace { .. })),
        "{refused:?}"
    );
    assert_eq!(
        before,
        (world.state.clone(), world.log.len()),
        "a refused fact left a trace"
    );
}

fn run(world: &mut World, runner: &mut Option<Generation>) {
    if !world.state.is_running() {
        *runner = None;
        return;
    }
    let Some(generation) = *runner else {
        world.claim().unwrap();
        *runner = Some(world.state.generation);
        return;
    };
    let pace = if world.rng.chance(3) {
        Pace::Halt
    } else {
        Pace::Go
    };
    let usage = ModelUsage::default();
    let fact = match world.step {
        _ if world.state.interrupting && world.rng.chance(70) => Fact::Interrupted { usage },
        Step::Request { .. } if world.rng.chance(5) => Fact::RequestFailed {
            kind: SessionErrorKind::ModelOverloadedError,
            message: "overloaded".to_owned(),
            usage,
        },
        Step::Request { .. } => random_reply(world),
        Step::Execute { call } => {
            let is_error = world.rng.chance(20);
            Fact::Finished {
                call,
                content: vec![Block::text("ok")],
                is_error,
            }
        }
        Step::Rest => {
            *runner = None;
            return;
        }
    };
    if world.fact(generation, fact, pace).unwrap() == Step::Rest {
        *runner = None;
    }
}

fn random_reply(world: &mut World) -> Fact {
    let names = ["bash", "read", "ask", "unknown"];
    let n = if world.rng.chance(55) {
        0
    } else {
        world.rng.below(4)
    };
    let calls = (0..n)
        .map(|_| names[usize::try_from(world.rng.below(4)).unwrap()])
        .collect::<Vec<_>>();
    let text = (n == 0 || world.rng.chance(50)).then_some("text");
    world.reply(text, &calls)
}

/// Liveness: once faults stop and every question is answered, the session comes to rest.
fn quiesce(world: &mut World, runner: &mut Option<Generation>) {
    for _ in 0..10_000 {
        if world.state.is_running() {
            if runner.is_none() {
                world.claim().unwrap();
                *runner = Some(world.state.generation);
            }
            let fact = match world.step {
                _ if world.state.interrupting => Fact::Interrupted {
                    usage: ModelUsage::default(),
                },
                Step::Request { .. } => world.reply(Some("done"), &[]),
                Step::Execute { call } => Fact::Finished {
                    call,
                    content: vec![],
                    is_error: false,
                },
                Step::Rest => {
                    *runner = None;
                    continue;
                }
            };
            if world.report(fact) == Step::Rest {
                *runner = None;
            }
        } else if world.blocked().is_empty() {
            assert!(world.inbox.is_empty(), "the session rests on unread input");
            return;
        } else {
            let answers = world
                .blocked()
                .into_iter()
                .map(|call| UserEvent::CustomToolResult {
                    call,
                    content: vec![],
                    is_error: None,
                });
            let answers = answers.collect();
            world.send(answers).unwrap();
        }
    }
    panic!("the session never comes to rest");
}
