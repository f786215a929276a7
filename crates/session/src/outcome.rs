//! What a session works towards when its client defines an outcome (api.md §8.1, behaviours §20): the agent
//! works, a grader compares the result with the rubric in a context of its own, and the agent revises until
//! the grader is content or the iterations are used up. Nothing here knows how a grader grades.
//!
//! An outcome that was defined gets exactly one final evaluation, whatever happens to its turn.

use contract::event::{Body, ModelUsage};
use contract::ids::{EventId, OutcomeId};
use contract::time::Micros;
use serde::{Deserialize, Serialize};

use crate::decision::{Evaluation, Refused, Step, Webhook};
use crate::faults::{self, Fault};
use crate::input::{Fact, Grade, Pace, UserEvent, Waiting};
use crate::limits;
use crate::mint::Scribe;
use crate::state::{Effort, Phase, State, Thread, Used};
use crate::turn;

/// What a session shows of an outcome that an interrupt has ended.
const INTERRUPTED: &str = "The work on this outcome was interrupted.";

/// An outcome that has its place in the log and no final evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which.
    pub id: OutcomeId,
    /// Which of the session's outcomes it is, from 1.
    pub n: u32,
    /// Evaluations after which the agent is not asked to revise any more.
    pub max_iterations: u32,
    /// Which evaluation is next or open, from 0.
    pub iteration: u32,
    /// How far the iteration is.
    pub stage: OutcomeStage,
}

/// How far an iteration is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum OutcomeStage {
    /// The agent works.
    Working,
    /// The agent has said its last word; the evaluation has not begun.
    Ready,
    /// The evaluation is open, also while it waits for its next try or for a higher budget.
    Grading {
        /// Its `span.outcome_evaluation_start`.
        start: EventId,
        /// What the grader's requests have used so far.
        used: ModelUsage,
        /// How often its grader has told that it is at work; the next such fact names it, so that one that
        /// is repeated is refused.
        beat: u32,
    },
}

/// Where an outcome stands, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was accepted and waits for its place.
    Pending,
    /// The agent works on it.
    Running,
    /// The grader is at work.
    Evaluating,
    /// The grader wants another iteration.
    NeedsRevision,
    /// The grader is content.
    Satisfied,
    /// The last iteration did not satisfy the grader.
    MaxIterationsReached,
    /// It cannot be reached or judged.
    Failed,
    /// The client stopped it, or ended the session.
    Interrupted,
}

impl Standing {
    /// As the contract spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Evaluating => "evaluating",
            Self::NeedsRevision => "needs_revision",
            Self::Satisfied => "satisfied",
            Self::MaxIterationsReached => "max_iterations_reached",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether it is final.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Satisfied | Self::MaxIterationsReached | Self::Failed | Self::Interrupted
        )
    }
}

/// Refuses a definition while another outcome is open or waits, and more of them than a session may have.
/// One behind an interrupt is taken: by then the interrupt has ended what was open.
pub(crate) fn admit(
    state: &State,
    index: usize,
    behind_interrupt: bool,
    defined_before: bool,
) -> Result<(), Refused> {
    let open = state.outcome.is_some() && !behind_interrupt;
    if open || state.outcome_waits || defined_before {
        return Err(Refused::OutcomeOpen { index });
    }
    if state.outcomes >= limits::OUTCOMES {
        return Err(Refused::TooManyOutcomes {
            index,
            limit: limits::OUTCOMES,
        });
    }
    Ok(())
}

/// A definition was accepted: the session shows it from now on.
pub(crate) fn define(s: &mut Scribe, id: OutcomeId, description: &str) {
    s.state().outcomes += 1;
    let n = s.out.state.outcomes;
    s.out.evaluations.push(Evaluation {
        n,
        id,
        description: Some(description.to_owned()),
        iteration: 0,
        standing: Standing::Pending,
        explanation: None,
        completed_at: None,
    });
}

/// What a user's event does to the outcomes as it takes its place in passing: an interrupt ends the one that
/// is open, a definition opens its own.
pub(crate) fn pass(s: &mut Scribe, event: &UserEvent) {
    match event {
        UserEvent::Interrupt { thread } => {
            let primary = s.out.state.primary.id;
            if thread.is_none_or(|thread| thread == primary) {
                interrupt(s);
            }
        }
        UserEvent::Outcome {
            outcome,
            max_iterations,
            ..
        } => begin(s, *outcome, *max_iterations),
        _ => {}
    }
}

/// A definition has its place: the agent works towards it.
pub(crate) fn begin(s: &mut Scribe, id: OutcomeId, max_iterations: Option<u32>) {
    // At most one waits, and nothing is defined while it does: it is the last.
    let n = s.out.state.outcomes;
    let state = s.state();
    state.outcome_waits = false;
    state.outcome = Some(Outcome {
        id,
        n,
        max_iterations: max_iterations.unwrap_or(limits::ITERATIONS),
        iteration: 0,
        stage: OutcomeStage::Working,
    });
    stand(s, Standing::Running, None);
}

/// The agent has said its last word. True if a grader is to look at it. While one of its threads has a turn open
/// there is more to come: its answer opens the next turn.
pub(crate) fn wants_grading(s: &mut Scribe) -> bool {
    let rests = |thread: &Thread| thread.phase == Phase::Idle;
    if !s.is_primary() || !s.out.state.children.iter().all(rests) {
        return false;
    }
    let Some(outcome) = &mut s.state().outcome else {
        return false;
    };
    outcome.stage = OutcomeStage::Ready;
    true
}

/// True if grading is what the open turn does next. What the client said before it began comes first.
pub(crate) fn is_next(s: &mut Scribe) -> bool {
    let waits = s.thread().waiting > 0;
    let Some(outcome) = &mut s.state().outcome else {
        return false;
    };
    if outcome.stage == OutcomeStage::Ready && waits {
        outcome.stage = OutcomeStage::Working;
    }
    outcome.stage != OutcomeStage::Working
}

/// Opens the evaluation, or goes on with it.
pub(crate) fn grade(s: &mut Scribe, pace: Pace) {
    s.thread().phase = Phase::Due;
    let Some(outcome) = s.out.state.outcome.clone() else {
        return;
    };
    if pace == Pace::Halt {
        return;
    }
    let (outcome_id, iteration) = (outcome.id, outcome.iteration);
    let (start, beat) = if let OutcomeStage::Grading { start, beat, .. } = outcome.stage {
        s.write(Body::SpanOutcomeEvaluationOngoing {
            outcome_id,
            iteration,
        });
        (start, beat)
    } else {
        let start = s.write(Body::SpanOutcomeEvaluationStart {
            outcome_id,
            iteration,
        });
        let used = ModelUsage::default();
        s.state().outcome = Some(Outcome {
            stage: OutcomeStage::Grading {
                start,
                used,
                beat: 0,
            },
            ..outcome
        });
        stand(s, Standing::Evaluating, None);
        (start, 0)
    };
    s.thread().phase = Phase::Grading { start };
    turn::step(s, Step::Grade { start, beat });
}

/// What a fact about grading makes of the turn; none if it is no such fact, or fits no open evaluation.
pub(crate) fn report(s: &mut Scribe, fact: &Fact, inbox: &[Waiting], pace: Pace) -> Option<()> {
    match fact {
        Fact::Grading { start, beat, used } => {
            is_open(s, *start)?;
            if next_beat(s)? != *beat {
                return None;
            }
            going_on(s, used.as_ref(), inbox, pace);
        }
        Fact::Graded {
            start,
            grade,
            explanation,
            used,
        } => {
            is_open(s, *start)?;
            count(s, used);
            graded(s, *grade, explanation.clone(), inbox, pace);
        }
        _ => return None,
    }
    Some(())
}

fn is_open(s: &mut Scribe, start: EventId) -> Option<()> {
    (s.thread().phase == Phase::Grading { start }).then_some(())
}

/// Counts that the grader is at work: which time this would be.
fn next_beat(s: &mut Scribe) -> Option<u32> {
    match &mut s.state().outcome.as_mut()?.stage {
        OutcomeStage::Grading { beat, .. } => {
            *beat += 1;
            Some(*beat - 1)
        }
        OutcomeStage::Working | OutcomeStage::Ready => None,
    }
}

/// The grader is still at work. Between two of its requests the session may think otherwise of it.
fn going_on(s: &mut Scribe, used: Option<&Used>, inbox: &[Waiting], pace: Pace) {
    match used {
        // A request is in flight: it is not cut for a drain, and an interrupt has told its runner.
        None => grade(s, Pace::Go),
        Some(used) => {
            count(s, used);
            s.thread().phase = Phase::Due;
            turn::proceed(s, inbox, pace);
        }
    }
}

fn graded(s: &mut Scribe, grade: Grade, explanation: String, inbox: &[Waiting], pace: Pace) {
    s.thread().phase = Phase::Due;
    s.thread().effort = Effort::default();
    let interrupting = s.thread().interrupting;
    let last = s.out.state.outcome.as_ref();
    let last = last.is_some_and(|o| o.iteration + 1 >= o.max_iterations);
    // A turn whose work was not enough goes on: to revise, or to say what is missing.
    let goes_on = grade == Grade::NeedsRevision;
    match grade {
        Grade::Satisfied => end(s, Standing::Satisfied, explanation),
        Grade::Failed => end(s, Standing::Failed, explanation),
        Grade::NeedsRevision if last => end(s, Standing::MaxIterationsReached, explanation),
        // The interrupt ends it.
        Grade::NeedsRevision if interrupting => {}
        Grade::NeedsRevision => revise(s, explanation),
    }
    turn::after_grading(s, goes_on, inbox, pace);
}

/// The next iteration begins.
fn revise(s: &mut Scribe, explanation: String) {
    tell_end(s, Standing::NeedsRevision, explanation.clone());
    if let Some(outcome) = &mut s.state().outcome {
        outcome.stage = OutcomeStage::Working;
        if !faults::on(Fault::IterationLost) {
            outcome.iteration += 1;
        }
    }
    stand(s, Standing::Running, Some(explanation));
}

/// Ends the outcome that is open, if one is, because the client wants no more of it.
pub(crate) fn interrupt(s: &mut Scribe) {
    if faults::on(Fault::OutcomeForgotten) {
        s.state().outcome = None;
        return;
    }
    end(s, Standing::Interrupted, INTERRUPTED.to_owned());
}

/// Ends the outcome that is open, if one is, with its final evaluation.
pub(crate) fn end(s: &mut Scribe, standing: Standing, explanation: String) {
    let Some(at) = tell_end(s, standing, explanation.clone()) else {
        return;
    };
    stand(s, standing, Some(explanation));
    if let Some(told) = s.out.evaluations.last_mut() {
        told.completed_at = Some(at);
    }
    s.state().outcome = None;
}

/// Writes the end of an evaluation; when that was.
fn tell_end(s: &mut Scribe, standing: Standing, explanation: String) -> Option<Micros> {
    let outcome = s.out.state.outcome.clone()?;
    let (start, usage) = match outcome.stage {
        OutcomeStage::Grading { start, used, .. } => (Some(start), used),
        OutcomeStage::Working | OutcomeStage::Ready => (None, ModelUsage::default()),
    };
    s.write(Body::SpanOutcomeEvaluationEnd {
        outcome_evaluation_start_id: start,
        outcome_id: outcome.id,
        iteration: outcome.iteration,
        result: standing.name().to_owned(),
        explanation,
        usage,
    });
    s.hook(Webhook::OutcomeEvaluationEnded);
    Some(s.out.state.last_at)
}

/// Notes where the open outcome stands, for the session's object.
fn stand(s: &mut Scribe, standing: Standing, explanation: Option<String>) {
    let Some(outcome) = &s.out.state.outcome else {
        return;
    };
    let evaluation = Evaluation {
        n: outcome.n,
        id: outcome.id,
        description: None,
        iteration: outcome.iteration,
        standing,
        explanation,
        completed_at: None,
    };
    s.out.evaluations.push(evaluation);
}

/// Counts what a request of the grader used: in the evaluation and in the session.
pub(crate) fn count(s: &mut Scribe, used: &Used) {
    s.count(used);
    let Some(Outcome {
        stage: OutcomeStage::Grading { used: sum, .. },
        ..
    }) = &mut s.state().outcome
    else {
        return;
    };
    let more = &used.usage;
    sum.input_tokens += more.input_tokens;
    sum.output_tokens += more.output_tokens;
    sum.cache_creation_input_tokens += more.cache_creation_input_tokens;
    sum.cache_read_input_tokens += more.cache_read_input_tokens;
}
