//! Defects on purpose, each a mistake that a store of several servers is known to make. They exist only under the
//! feature `simulation`, which nothing shipped enables, and prove that the simulation sees them. Without it every
//! question here is answered no at compile time.

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "simulation"),
    allow(dead_code, reason = "nobody plants one")
)]
pub enum Fault {
    /// A lost wake-up: a beat does not read what changed.
    BeatReadsNothing,
    /// An event is shown before one that stands before it in the log.
    GapShown,
    /// What was shown is shown again.
    ShownAgain,
    /// A run is taken from whoever holds it.
    HolderUnasked,
    /// A run whose holder is gone is nobody's.
    OrphansLeft,
    /// A run is taken away from where its session's workspace is.
    HostUnasked,
    /// A stale writer is not refused: its word counts as that of the one that holds the run.
    StaleTaken,
}

#[cfg(feature = "simulation")]
impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::BeatReadsNothing,
        Self::GapShown,
        Self::ShownAgain,
        Self::HolderUnasked,
        Self::OrphansLeft,
        Self::HostUnasked,
        Self::StaleTaken,
    ];
}

#[cfg(feature = "simulation")]
std::thread_local! {
    static PRESENT: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Makes the stores of this thread suffer from `fault`, or from none.
#[cfg(feature = "simulation")]
pub fn plant(fault: Option<Fault>) {
    PRESENT.set(fault);
}

#[cfg(feature = "simulation")]
pub(crate) fn on(fault: Fault) -> bool {
    PRESENT.get() == Some(fault)
}

#[cfg(not(feature = "simulation"))]
pub(crate) const fn on(_: Fault) -> bool {
    false
}
