//! Defects on purpose, each a mistake that a server of this kind is known to make. They exist only under the
//! feature `faults`, which nothing shipped enables, and prove that the simulation sees them. Without the
//! feature every question here is answered no at compile time.

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Leases of running turns are not renewed.
    RenewalDropped,
    /// A turn that a drain cut is not handed back.
    HandBackDropped,
    /// A turn that failed is not given back.
    GiveBackDropped,
    /// A lost intent: an interrupt is not handed to the turn it is for.
    StopUnheard,
    /// A lease that is gone does not end its turn.
    LossUnheard,
    /// A lost intent: a turn that was opened wakes nobody.
    WakeUnheard,
    /// A late acknowledgement: a fact that could not be stored is believed, and its run ends.
    LateAck,
    /// A workspace that was lost with its host is taken for the session's own, or a new one for it, and nobody is told.
    LostWorkspaceKept,
    /// A claim whose answer was lost stands, and nobody works on its turn.
    LostClaimKept,
    /// What a report that failed said of where the session runs is taken for stored.
    PlaceForgotten,
}

impl Fault {
    /// Those that only show among several servers.
    pub const AMONG: [Self; 3] = [
        Self::LostWorkspaceKept,
        Self::LostClaimKept,
        Self::PlaceForgotten,
    ];

    /// All others.
    pub const ALL: [Self; 7] = [
        Self::RenewalDropped,
        Self::HandBackDropped,
        Self::GiveBackDropped,
        Self::StopUnheard,
        Self::LossUnheard,
        Self::WakeUnheard,
        Self::LateAck,
    ];
}

#[cfg(feature = "faults")]
std::thread_local! {
    static PRESENT: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Makes the orchestrators of this thread suffer from `fault`, or from none.
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
