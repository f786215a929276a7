//! Outcomes folded from the log: each is defined once, evaluated in order, and ends with exactly one final
//! evaluation. What the session's object shows of them must agree.

use contract::event::{Body, ModelUsage, RetryStatus};
use contract::ids::{EventId, OutcomeId};
use session::input::{Grade, ReplyEnd};
use session::{
    Command, Decision, Evaluation, Fact, Input, Phase, Standing, State, Status, Used, UserEvent,
    Webhook, limits,
};

use crate::check::{Checker, fact_of};
use crate::world::{OPEN, used};

/// An outcome that has no final evaluation yet, as the log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    pub id: OutcomeId,
    pub max: u32,
    pub iteration: u32,
    /// The evaluation that is open, and what it has used.
    pub grading: Option<(EventId, ModelUsage)>,
    /// How often its grader said that it is at work.
    pub beats: u32,
}

/// An outcome with so many iterations at most.
pub fn outcome(id: u128, max_iterations: Option<u32>) -> UserEvent {
    UserEvent::Outcome {
        outcome: OutcomeId::from_bits(id),
        description: "a report".to_owned(),
        rubric: "it is short".to_owned(),
        max_iterations,
    }
}

/// A verdict. It costs a cent.
pub fn graded(grade: Grade) -> Fact {
    Fact::Graded {
        start: OPEN,
        grade,
        explanation: "because".to_owned(),
        used: used(1),
    }
}

/// What a runner says that it has used.
pub fn used_of(input: &Input) -> Used {
    match input {
        Input::Fact { fact, .. } => match fact.as_ref() {
            Fact::Replied { used, .. }
            | Fact::Compacted { used, .. }
            | Fact::RequestFailed { used, .. }
            | Fact::Graded { used, .. }
            | Fact::UsedInside { used, .. }
            | Fact::Interrupted { used } => *used,
            Fact::Grading { used, .. } => used.unwrap_or_default(),
            Fact::Advised { used, .. } => *used,
            Fact::HostUnreachable { .. }
            | Fact::Delegated { .. }
            | Fact::TakeUp
            | Fact::Finished { .. }
            | Fact::Lost { .. } => Used::default(),
        },
        _ => Used::default(),
    }
}

impl Checker {
    /// The request that is open, of the agent or of a grader.
    pub fn requested(&self) -> Option<(EventId, u32)> {
        let beats = self.aim.as_ref().map_or(0, |aim| aim.beats);
        let graded = self.graded().map(|start| (start, beats));
        self.span.map(|(span, _)| (span, 0)).or(graded)
    }

    /// The evaluation that a runner works on.
    pub fn graded(&self) -> Option<EventId> {
        let (start, _) = self.aim.as_ref()?.grading.as_ref()?;
        self.at_work.then_some(*start)
    }

    /// Whether somebody works on the evaluation of this start.
    pub fn grades(&self, start: EventId) -> bool {
        self.graded() == Some(start)
    }

    /// A runner said something, or was lost: what its grader used counts, and it is not at work any more
    /// unless an event says so. What a program has used is no word of a runner's.
    pub fn grader(&mut self, input: &Input) {
        let inside = matches!(fact_of(input), Some(Fact::UsedInside { .. }));
        if inside || matches!(input, Input::Command(_)) {
            return;
        }
        if std::mem::take(&mut self.at_work)
            && let Some((_, sum)) = self.aim.as_mut().and_then(|aim| aim.grading.as_mut())
        {
            let used = used_of(input);
            sum.input_tokens += used.usage.input_tokens;
            sum.output_tokens += used.usage.output_tokens;
            sum.cache_creation_input_tokens += used.usage.cache_creation_input_tokens;
            sum.cache_read_input_tokens += used.usage.cache_read_input_tokens;
            self.sums.add(&used);
            // A verdict forgives what failed before, as a word of the model does.
            if let Some(Fact::Graded { .. }) = fact_of(input) {
                self.failures = 0;
            }
            if let (Some(Fact::Grading { .. }), Some(aim)) = (fact_of(input), &mut self.aim) {
                aim.beats += 1;
            }
        }
    }

    pub fn outcome_event(&mut self, body: &Body, id: EventId, input: &Input, decision: &Decision) {
        match body {
            Body::UserDefineOutcome {
                outcome_id,
                max_iterations,
                ..
            } => {
                assert_eq!(self.aim, None, "two outcomes at once");
                self.aim = Some(Aim {
                    id: *outcome_id,
                    max: max_iterations.map_or(limits::ITERATIONS, std::num::NonZeroU32::get),
                    iteration: 0,
                    grading: None,
                    beats: 0,
                });
            }
            Body::SpanOutcomeEvaluationStart {
                outcome_id,
                iteration,
            } => {
                self.may_grade();
                assert!(
                    self.waiting.is_empty(),
                    "graded while a message waits for its answer"
                );
                let aim = self.aim.as_mut().expect("nothing is graded");
                assert_eq!((aim.id, aim.iteration), (*outcome_id, *iteration));
                assert!(aim.grading.is_none(), "two evaluations at once");
                aim.grading = Some((id, ModelUsage::default()));
                aim.beats = 0;
                self.at_work = true;
            }
            Body::SpanOutcomeEvaluationOngoing {
                outcome_id,
                iteration,
            } => {
                let heartbeat = matches!(fact_of(input), Some(Fact::Grading { used: None, .. }));
                if !heartbeat {
                    self.may_grade();
                }
                let aim = self.aim.as_ref().expect("nothing is graded");
                assert_eq!((aim.id, aim.iteration), (*outcome_id, *iteration));
                assert!(aim.grading.is_some(), "no evaluation goes on");
                self.at_work = true;
            }
            Body::SpanOutcomeEvaluationEnd {
                outcome_evaluation_start_id,
                outcome_id,
                iteration,
                result,
                usage,
                ..
            } => {
                let mut aim = self.aim.take().expect("an evaluation of nothing");
                assert_eq!((aim.id, aim.iteration), (*outcome_id, *iteration));
                let grading = aim.grading.take();
                let (start, sum) = grading.map_or((None, ModelUsage::default()), |(start, sum)| {
                    (Some(start), sum)
                });
                assert_eq!(*outcome_evaluation_start_id, start, "another evaluation");
                assert_eq!(*usage, sum, "an evaluation shows another usage");
                self.hooks.push(Webhook::OutcomeEvaluationEnded);
                if ends(&aim, result, input, decision) {
                    return;
                }
                aim.iteration += 1;
                self.aim = Some(aim);
            }
            other => panic!("{} is no outcome's", other.kind()),
        }
    }

    fn may_grade(&self) {
        assert!(self.span.is_none(), "graded in the middle of a request");
        assert_eq!(
            self.status,
            Status::Running,
            "a grader of a session at rest"
        );
        assert!(self.open.is_empty(), "graded with calls open");
        assert!(
            !self.sums.spent(self.now),
            "the grader is asked beyond the budget"
        );
    }

    /// What is said waits while a grader is at work, unless the turn or the session ends.
    pub fn not_graded(&self, input: &Input, decision: &Decision) {
        let open = self.aim.as_ref().is_some_and(|aim| aim.grading.is_some());
        let ends = matches!(input, Input::Command(Command::Archive)) || exhausts(decision);
        assert!(!open || ends, "said in the middle of an evaluation");
    }

    /// What the session's object shows, told in order.
    pub fn standings(&mut self, evaluations: &[Evaluation]) {
        for evaluation in evaluations {
            let Evaluation { n, standing, .. } = evaluation;
            let at = *n as usize - 1;
            assert_eq!(evaluation.completed_at.is_some(), standing.is_final());
            if evaluation.description.is_some() {
                assert_eq!((at, *standing), (self.shown.len(), Standing::Pending));
                self.shown.push(*standing);
            } else {
                assert!(!self.shown[at].is_final(), "an outcome ended twice");
                self.shown[at] = *standing;
            }
        }
    }

    /// What must be true of outcomes, once everything of a decision was folded.
    pub fn outcomes_settled(&self, state: &State) {
        let held = state.outcome.as_ref();
        let held = held.map(|o| (o.id, o.iteration, o.max_iterations));
        let aim = self.aim.as_ref();
        assert_eq!(
            held,
            aim.map(|a| (a.id, a.iteration, a.max)),
            "the outcome is not that of the log"
        );
        let started = match &state.primary.phase {
            Phase::Grading { start } => Some(*start),
            _ => None,
        };
        assert_eq!(started, self.graded(), "phase and evaluation differ");
        let mut waiting = self.waiting.iter();
        let waits = waiting.any(|w| w.event.kind() == "user.define_outcome");
        assert_eq!(state.outcome_waits, waits, "an outcome is forgotten");
        assert_eq!(state.outcomes as usize, self.shown.len());
        // Every outcome that is neither open nor waits has its final evaluation.
        let mut open = self.shown.iter().filter(|shown| !shown.is_final());
        if let Some(aim) = aim {
            let standing = if aim.grading.is_some() {
                Standing::Evaluating
            } else {
                Standing::Running
            };
            assert_eq!(open.next(), Some(&standing), "an outcome stands elsewhere");
        }
        if waits {
            assert_eq!(open.next(), Some(&Standing::Pending));
        }
        assert_eq!(open.next(), None, "an outcome ended without an evaluation");
        let at_rest = self.status == Status::Terminated || state.primary.phase == Phase::Idle;
        assert!(!at_rest || aim.is_none(), "an outcome is left at rest");
    }
}

/// Whether `result` ends the outcome; fails if nothing that happened says so.
fn ends(aim: &Aim, result: &str, input: &Input, decision: &Decision) -> bool {
    let grade = match fact_of(input) {
        Some(Fact::Graded { grade, .. }) => Some(*grade),
        _ => None,
    };
    let last = aim.iteration + 1 == aim.max;
    let said = match result {
        "satisfied" => grade == Some(Grade::Satisfied),
        "needs_revision" => grade == Some(Grade::NeedsRevision) && !last,
        "max_iterations_reached" => grade == Some(Grade::NeedsRevision) && last,
        "failed" => grade == Some(Grade::Failed) || exhausts(decision) || refuses(fact_of(input)),
        "interrupted" => {
            let mut events = decision.events.iter();
            let stopped = events.any(|p| p.event.body.kind() == "user.interrupt");
            stopped || matches!(input, Input::Command(Command::Archive))
        }
        other => panic!("{other} is no result"),
    };
    assert!(said, "an outcome ends as {result} for no reason");
    result != "needs_revision"
}

fn exhausts(decision: &Decision) -> bool {
    decision
        .events
        .iter()
        .any(|placed| match &placed.event.body {
            Body::SessionError { error } => error.retry_status == RetryStatus::Exhausted {},
            _ => false,
        })
}

fn refuses(fact: Option<&Fact>) -> bool {
    let Some(Fact::Replied { end, .. }) = fact else {
        return false;
    };
    matches!(end, ReplyEnd::Refused(_))
}
