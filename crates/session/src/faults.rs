//! Thirteen defects on purpose, each a mistake that this kind of software is known to make. They exist only
//! under the feature `faults`, which nothing shipped enables, and prove that the simulation's general
//! invariants see them. Without the feature every question here is answered no at compile time.

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A dropped fence: what a stale generation reports is believed.
    FenceDropped,
    /// A late acknowledgement: a send is answered and what has to wait is not kept.
    LateAck,
    /// A lost intent: a turn opens and nobody is told to run it.
    LostIntent,
    /// A double start: a call that was lost with its runner is started again without a word.
    DoubleStart,
    /// A forgotten drain: the model is asked while a message still waits.
    ForgottenDrain,
    /// A usage counted twice: that of a failed request.
    UsageTwice,
    /// A result for a closed call is taken into the log.
    ClosedCall,
    /// An idle announced before its state: the wait it names is that of before the answer.
    IdleBeforeState,
    /// A forgotten outcome: an interrupt ends it without an evaluation.
    OutcomeForgotten,
    /// A lost iteration: a revision is not counted.
    IterationLost,
    /// A lost answer: a thread ends its turn and its coordinator never hears of it.
    AnswerLost,
    /// A lost cross-post: what a thread asks its client does not show on the primary.
    CrossPostLost,
    /// A status that is not the fold: a thread that rests makes its session idle.
    FoldForgotten,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::FenceDropped,
        Self::LateAck,
        Self::LostIntent,
        Self::DoubleStart,
        Self::ForgottenDrain,
        Self::UsageTwice,
        Self::ClosedCall,
        Self::IdleBeforeState,
        Self::OutcomeForgotten,
        Self::IterationLost,
        Self::AnswerLost,
        Self::CrossPostLost,
        Self::FoldForgotten,
    ];
}

#[cfg(feature = "faults")]
std::thread_local! {
    static PRESENT: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Makes the decisions of this thread suffer from `fault`, or from none.
#[cfg(feature = "faults")]
pub fn plant(fault: Option<Fault>) {
    PRESENT.set(fault);
}

#[cfg(feature = "faults")]
pub(crate) fn on(fault: Fault) -> bool {
    PRESENT.get() == Some(fault)
}

#[cfg(not(feature = "faults"))]
pub(crate) const fn on(_: Fault) -> bool {
    false
}
