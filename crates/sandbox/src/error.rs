//! Owns what can go wrong with a sandbox, named for what the caller can do. It maps nothing to HTTP.

use std::io;

/// Why a sandbox did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This host cannot run sandboxes. Nothing was run. The operator can act on the hint.
    #[error("this host cannot {step} (errno {errno}): {hint}")]
    Unsupported {
        /// The step of the set-up, e.g. `mount the root overlay`.
        step: String,
        /// The kernel's errno; 0 when the refusal is ours.
        errno: i32,
        /// What mends it.
        hint: String,
    },
    /// The sandbox ended while this was under way: it may have happened, in part or whole.
    /// Attach again to go on; the workspace is there.
    #[error("the sandbox ended during the call; its outcome is unknown")]
    Lost,
    /// The sandbox had ended before this was started: it had no effect. Attach again.
    #[error("the sandbox is not running")]
    Gone,
    /// Ended by the caller's token. What it had done until then stays done.
    #[error("cancelled")]
    Cancelled,
    /// Somebody else is using this sandbox, or too much runs in it. It had no effect; try later.
    #[error("busy: {problem}")]
    Busy {
        /// What is in the way.
        problem: String,
    },
    /// The caller's mistake. It had no effect.
    #[error("{problem}")]
    Invalid {
        /// What is wrong with what was asked.
        problem: String,
    },
    /// What there is stands against it, until somebody changes that. It had no effect.
    #[error("{problem}")]
    Conflict {
        /// What stands against it.
        problem: String,
    },
    /// There is nothing of that name in the sandbox. It had no effect.
    #[error("{problem}")]
    Missing {
        /// What is not there.
        problem: String,
    },
    /// Begun in the sandbox and not brought to its end, such as a write when the disk became full.
    #[error("{problem}")]
    Failed {
        /// Why not.
        problem: String,
    },
    /// The host's files or processes failed. It had no effect inside the sandbox.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn invalid(problem: impl Into<String>) -> Self {
        Self::Invalid {
            problem: problem.into(),
        }
    }

    /// A provider that cannot do what only some can.
    pub(crate) fn lacking(step: &str) -> Self {
        Self::Unsupported {
            step: step.to_owned(),
            errno: 0,
            hint: "this kind of sandbox has no such thing".to_owned(),
        }
    }

    pub(crate) fn conflict(problem: impl Into<String>) -> Self {
        Self::Conflict {
            problem: problem.into(),
        }
    }

    pub(crate) fn busy(problem: impl Into<String>) -> Self {
        Self::Busy {
            problem: problem.into(),
        }
    }
}

/// Says what was being done when the host failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::Io {
            doing: what(),
            source: error.into(),
        })
    }
}
