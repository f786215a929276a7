//! How a sandbox began, and why one ended that nobody ended.

use crate::diary::Step;

/// How a sandbox came to be what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Birth {
    /// By what means.
    pub how: How,
    /// What the time was spent on, one after another.
    pub steps: Vec<Step>,
}

/// By what means a sandbox came to be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum How {
    /// Made for whoever asked.
    #[default]
    Made,
    /// Made before, for nobody, and used by nobody until it was asked for.
    Ready,
    /// Left by an earlier process.
    TakenOver,
}

/// Why a sandbox ended that nobody ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// For want of memory.
    OutOfMemory,
    /// By a signal from outside.
    Killed,
    /// Nobody knows: it was not to be talked to any more.
    Silent,
}
