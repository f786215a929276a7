//! What a state must never say: storing it would corrupt the session. Checked before a state is stored and after it is
//! loaded; it mends nothing.

use crate::money::Budget;
use crate::outcome::OutcomeStage;
use crate::state::{Call, CallKind, Phase, Stage, State, Status, Thread, asked};

impl State {
    /// Panics if the state contradicts itself: storing it would corrupt the session.
    pub fn check(&self) {
        for thread in self.threads() {
            self.check_thread(thread);
        }
        self.check_team();
        self.check_outcome();
        assert_eq!(
            self.status() == Status::Running,
            self.totals.running_since.is_some(),
            "the clock of running time is not in step with the status"
        );
    }

    fn check_thread(&self, thread: &Thread) {
        let capped = matches!(self.budget, Budget::Limit { .. });
        let started = thread.calls().iter().filter(|c| c.stage == Stage::Started);
        assert!(started.count() <= 1, "two calls of one thread run at once");
        assert!(
            !self.archived || !thread.is_open(),
            "an archived session has an open turn"
        );
        assert!(
            thread.rest.is_none() || thread.status() != Status::Running,
            "a thread that runs waits for somebody"
        );
        match &thread.phase {
            Phase::Idle => assert!(
                thread.waiting == 0 || capped || thread.interrupting || self.is_open(),
                "an idle session leaves input waiting"
            ),
            Phase::Blocked { calls } => {
                assert!(
                    !asked(calls).is_empty() || thread.interrupting,
                    "a session waits for no answer"
                );
                assert!(
                    thread.interrupting
                        || calls.iter().all(|c| matches!(
                            c.stage,
                            Stage::Asked | Stage::Ready | Stage::Denied { .. }
                        )),
                    "a session that waits holds a call that runs or is done"
                );
            }
            Phase::Paused => assert!(capped, "paused without a budget"),
            _ => {}
        }
        assert!(
            thread.status() != Status::Idle || !thread.interrupting || self.is_in_flight(),
            "an idle session leaves an interrupt waiting"
        );
        assert_eq!(
            thread.status() == Status::Running,
            thread.totals.running_since.is_some(),
            "the clock of a thread is not in step with its status"
        );
    }

    /// What holds between threads.
    fn check_team(&self) {
        assert!(
            self.children.len() <= crate::limits::THREADS,
            "more threads than there may be"
        );
        let mut seen = std::collections::BTreeSet::new();
        assert!(
            self.threads().all(|thread| seen.insert(thread.id)),
            "two threads have one id"
        );
        let waiting = self.threads().map(|thread| thread.waiting).sum::<u32>();
        assert_eq!(
            self.waiting, waiting,
            "what waits is not what waits for the threads"
        );
        let asks = |call: &Call| call.kind == CallKind::Advisor && call.stage == Stage::Started;
        let asking = self.primary.calls().iter().find(|c| asks(c));
        assert_eq!(
            asking.map(|c| c.id),
            self.advising.map(|a| a.call),
            "the advisor is asked by nobody, or the question by none"
        );
        let own = |call: &Call| !call.kind.is_repeatable();
        let children = &mut self.children.iter();
        assert!(
            children.all(|t| t.calls().iter().all(own)),
            "a thread other than the primary leads others"
        );
    }
}

impl State {
    fn check_outcome(&self) {
        let phase = &self.primary.phase;
        assert!(
            !self.outcome_waits || self.waiting > 0,
            "an outcome waits in an empty inbox"
        );
        let Some(outcome) = &self.outcome else {
            assert!(!matches!(phase, Phase::Grading { .. }), "nothing is graded");
            return;
        };
        // Its agent may rest while its threads work, or while the budget keeps their answers from it.
        let delegated =
            self.primary.waiting > 0 || self.children.iter().any(|t| t.phase != Phase::Idle);
        assert!(
            (*phase != Phase::Idle || delegated) && !self.archived,
            "an idle session leaves an outcome without its evaluation"
        );
        assert!(
            outcome.iteration < outcome.max_iterations,
            "an outcome has had more iterations than it may"
        );
        let fits = match (phase, &outcome.stage) {
            (Phase::Grading { start }, OutcomeStage::Grading { start: open, .. }) => start == open,
            (Phase::Due | Phase::Retrying { .. } | Phase::Paused, _) => true,
            (Phase::Grading { .. }, _) => false,
            (_, stage) => *stage == OutcomeStage::Working,
        };
        assert!(fits, "phase and outcome contradict one another");
    }
}
