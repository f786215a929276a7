//! A state that contradicts itself is never stored or acted on: `State::check` names each contradiction.

use contract::ids::{EventId, OutcomeId};
use contract::time::Micros;
use session::{Budget, Call, CallKind, OutcomeStage, Phase, Stage, State, Status, UserEvent};

use crate::table::brought_to;

/// What the check says of `state`.
fn said(state: &State) -> Option<String> {
    let caught = std::panic::catch_unwind(|| state.check()).err()?;
    let text = caught.downcast_ref::<String>().cloned();
    text.or_else(|| Some((*caught.downcast_ref::<&str>()?).to_owned()))
}

fn holds_against(heading: &str, contradiction: &str, corrupt: impl Fn(&mut State)) {
    let mut state = brought_to(heading).state;
    assert_eq!(said(&state), None, "{heading} is sound");
    corrupt(&mut state);
    let said = said(&state).unwrap_or_default();
    assert!(said.contains(contradiction), "{heading}: {said:?}");
}

fn stages(state: &mut State, to: &[Stage]) {
    let call = |stage: &Stage| Call {
        id: contract::ids::EventId::from_bits(1),
        seq: 1,
        name: "bash".to_owned(),
        kind: CallKind::Sandbox,
        stage: stage.clone(),
    };
    let calls = to.iter().map(call).collect();
    state.primary.phase = match state.status() {
        Status::Idle => Phase::Blocked { calls },
        _ => Phase::Acting { calls },
    };
}

#[test]
fn one_call_of_a_thread_runs_at_once() {
    holds_against("acting", "two calls of one thread run at once", |state| {
        stages(state, &[Stage::Started, Stage::Started]);
    });
}

#[test]
fn an_archived_session_has_no_open_turn() {
    for heading in ["due", "retrying"] {
        holds_against(heading, "an archived session has an open turn", |state| {
            state.archived = true;
        });
    }
}

#[test]
fn input_waits_in_an_idle_session_only_behind_a_budget() {
    for none in [Budget::None, Budget::Removed] {
        holds_against("idle", "an idle session leaves input waiting", |state| {
            (state.waiting, state.primary.waiting, state.budget) = (1, 1, none);
        });
    }
    let mut state = brought_to("exhausted").state;
    (state.waiting, state.primary.waiting) = (1, 1);
    assert_eq!(said(&state), None);
}

#[test]
fn a_session_that_waits_names_what_it_waits_for_and_holds_nothing_that_runs_or_is_done() {
    holds_against("blocked", "a session waits for no answer", |state| {
        stages(state, &[Stage::Ready]);
    });
    for stage in [Stage::Started, Stage::Done] {
        holds_against("blocked", "holds a call that runs or is done", |state| {
            stages(state, &[Stage::Asked, stage.clone()]);
        });
    }
    let mut state = brought_to("blocked").state;
    stages(
        &mut state,
        &[Stage::Asked, Stage::Ready, Stage::Denied { message: None }],
    );
    assert_eq!(said(&state), None);
}

#[test]
fn only_a_budget_pauses() {
    for none in [Budget::None, Budget::Removed] {
        holds_against("paused", "paused without a budget", |state| {
            state.budget = none;
        });
    }
}

#[test]
fn an_idle_session_has_no_interrupt_waiting() {
    holds_against(
        "idle",
        "an idle session leaves an interrupt waiting",
        |state| {
            state.primary.interrupting = true;
        },
    );
    assert_eq!(said(&brought_to("interrupting a call").state), None);
}

#[test]
fn the_clock_of_running_time_goes_exactly_while_it_runs() {
    let contradiction = "the clock of running time is not in step";
    holds_against("idle", contradiction, |state| {
        state.totals.running_since = Some(Micros(1));
    });
    holds_against("requesting", contradiction, |state| {
        state.totals.running_since = None;
    });
    holds_against("retrying", contradiction, |state| {
        state.totals.running_since = Some(Micros(1));
    });
}

#[test]
fn the_traces_of_two_turns_or_of_two_sessions_differ() {
    let session = |bits| contract::ids::SessionId::from_bits(bits);
    let all = [
        (0b1100, 1),
        (0b1100, 2),
        (0b1100, 4),
        (0b1100, 8),
        (0b0100, 1),
    ];
    let traces = all.map(|(bits, turn)| session::trace(session(bits), turn));
    let distinct = traces.iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(distinct.len(), all.len());
    assert!(!traces.contains(&0));
}

#[test]
fn an_outcome_is_in_step_with_the_phase() {
    holds_against("idle", "an outcome waits in an empty inbox", |state| {
        state.outcome_waits = true;
    });
    holds_against("grading", "nothing is graded", |state| state.outcome = None);
    let outcome = brought_to("grading").state.outcome;
    holds_against(
        "idle",
        "leaves an outcome without its evaluation",
        |state| {
            state.outcome.clone_from(&outcome);
        },
    );
    holds_against("grading", "more iterations than it may", |state| {
        let outcome = state.outcome.as_mut().unwrap();
        outcome.iteration = outcome.max_iterations;
    });
    let contradiction = "phase and outcome contradict one another";
    holds_against("grading", contradiction, |state| {
        state.outcome.as_mut().unwrap().stage = OutcomeStage::Working;
    });
    holds_against("grading", contradiction, |state| {
        let start = EventId::from_bits(1);
        state.primary.phase = Phase::Grading { start };
    });
    holds_against("requesting", contradiction, |state| {
        state.outcome.clone_from(&outcome);
    });
}

#[test]
fn what_waits_costs_what_its_texts_are_long() {
    let outcome = UserEvent::Outcome {
        outcome: OutcomeId::from_bits(1),
        description: "twelve bytes".to_owned(),
        rubric: "five!".to_owned(),
        max_iterations: Some(3),
    };
    assert_eq!(outcome.bytes(), 17);
}
