//! What a program in the sandbox has used of the session's model, one example a rule.

use contract::event::Body;
use session::{Command, Fact, Generation, Input, Pace, Phase, Refused, State, Status, Step};

use crate::world::{World, executing, finished, message, running_on, used};

const SPAN: [&str; 2] = ["span.model_request_start", "span.model_request_end"];

fn inside(cents: u64) -> Fact {
    Fact::UsedInside {
        used: used(cents),
        is_error: false,
    }
}

/// The state but for what was counted and how far the log has come.
fn stands(state: &State) -> State {
    let mut state = state.clone();
    (state.next_seq, state.last_at) = Default::default();
    state.totals = session::Totals::default();
    state.primary.totals = session::Totals::default();
    state
}

/// Reports it as of that generation: what it writes, and that nothing else comes of it.
fn counts(world: &mut World, generation: Generation) {
    let (from, before) = (world.log.len(), world.state.clone());
    let step = world.fact(generation, inside(1), Pace::Go);
    assert_eq!(step, Ok(Step::Rest));
    assert_eq!(world.kinds_from(from), SPAN);
    assert_eq!(stands(&world.state), stands(&before));
    let (then, now) = (before.totals, world.state.totals);
    assert_eq!(now.input, then.input + 10);
    assert_eq!(now.cost.0, then.cost.0 + 10_000_000_000);
    let shown = &world.log[from + 1].event.body;
    assert!(
        matches!(shown, Body::SpanModelRequestEnd { model_usage, .. } if *model_usage == used(1).usage)
    );
}

#[test]
fn what_a_program_used_counts_in_every_phase_and_moves_nothing() {
    let mut world = running_on("go");
    let held = world.state.generation;
    counts(&mut world, held);
    assert!(matches!(
        world.state.primary.phase,
        Phase::Requesting { .. }
    ));
    let reply = world.reply(None, &["bash"]);
    let call = executing(world.report(reply));
    counts(&mut world, held);
    world.report(finished(call, "went on"));
    let reply = world.reply(Some("done"), &[]);
    assert_eq!(world.report(reply), Step::Rest);
    assert_eq!(world.state.status(), Status::Idle);
    counts(&mut world, held);
    world.send(vec![message("again")]).unwrap();
    counts(&mut world, held);
}

#[test]
fn it_counts_whoever_holds_the_session_now() {
    let mut world = running_on("go");
    let lost = world.state.generation;
    world.claim().unwrap();
    assert_ne!(world.state.generation, lost);
    counts(&mut world, lost);
}

#[test]
fn it_counts_against_the_budget_of_the_next_request() {
    let mut world = World::with_budget(7, vec![message("go")], Some(5));
    world.claim().unwrap();
    let reply = world.reply(None, &["bash"]);
    let call = executing(world.report(reply));
    let held = world.state.generation;
    world.fact(held, inside(5), Pace::Go).unwrap();
    assert!(world.state.is_spent(contract::time::Micros(world.now)));
    assert_eq!(world.report(finished(call, "went on")), Step::Rest);
    assert_eq!(world.state.primary.phase, Phase::Paused);
}

#[test]
fn nothing_is_written_behind_the_end_of_a_session() {
    let mut world = World::new(3, Vec::new());
    world.submit(Input::Command(Command::Archive)).unwrap();
    let held = world.state.generation;
    let refused = world.fact(held, inside(1), Pace::Go);
    assert_eq!(refused, Err(Refused::Archived));
}
