//! Who does what is queued: threads of the store, or, in a simulation, the thread that asks.

use crate::replica::ReplicaName;
use crate::rules::fault::Trouble;
use crate::runs::Holder;

/// Who does what is queued.
#[derive(Debug)]
pub(super) enum Way {
    /// Threads of the store.
    Threads,
    /// The thread that asks.
    #[cfg(feature = "simulation")]
    Caller(Box<super::caller::Caller>),
}

#[cfg(not(feature = "simulation"))]
impl Way {
    #[allow(clippy::unused_async, reason = "a simulation waits here")]
    pub(super) async fn there(&self, _writes: bool) -> Result<(), Trouble> {
        let Self::Threads = self;
        Ok(())
    }

    pub(super) fn go(&self, _writes: bool) {
        let Self::Threads = self;
    }

    /// A file has one server.
    pub(super) fn replica(&self) -> Option<(ReplicaName, Holder)> {
        let Self::Threads = self;
        None
    }

    #[allow(clippy::unused_async, reason = "a simulation waits here")]
    pub(super) async fn back(&self, _writes: bool) -> Result<(), Trouble> {
        let Self::Threads = self;
        Ok(())
    }
}

#[cfg(feature = "simulation")]
impl Way {
    /// A request goes out.
    pub(super) async fn there(&self, writes: bool) -> Result<(), Trouble> {
        match self {
            Self::Threads => Ok(()),
            Self::Caller(caller) => caller.there(writes).await,
        }
    }

    /// Does what was queued, if no thread does.
    pub(super) fn go(&self, writes: bool) {
        match self {
            Self::Threads => {}
            Self::Caller(caller) => caller.go(writes),
        }
    }

    /// As whom the process is there, if it is one of several.
    pub(super) fn replica(&self) -> Option<(ReplicaName, Holder)> {
        match self {
            Self::Threads => None,
            Self::Caller(caller) => caller.replica(),
        }
    }

    /// An answer comes back.
    pub(super) async fn back(&self, writes: bool) -> Result<(), Trouble> {
        match self {
            Self::Threads => Ok(()),
            Self::Caller(caller) => caller.back(writes).await,
        }
    }
}
