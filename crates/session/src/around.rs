//! What stands around a decision: what the store looks up for an input, and what it brings along. No rule is here.

use std::collections::{BTreeMap, BTreeSet};

use contract::event::Permission;
use contract::ids::{EventId, ThreadId};
use contract::time::Micros;

use crate::input::{Command, Fact, Input, UserEvent, Waiting};
use crate::state::{Phase, Stage, State};

/// What the store must look up beside the state before it asks for a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// The waiting events, oldest first.
    pub inbox: bool,
    /// Title and metadata.
    pub profile: bool,
    /// For these ids: the tool-use event of this session that has it, if one does.
    pub calls: BTreeSet<EventId>,
    /// Whether this thread was ever begun.
    pub thread: Option<ThreadId>,
}

/// A tool-use event of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Called {
    /// The thread it belongs to.
    pub thread: ThreadId,
    /// Its `evaluated_permission`; none if it is an `agent.custom_tool_use`.
    pub permission: Option<Permission>,
}

/// Title and metadata of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// The title.
    pub title: Option<String>,
    /// The metadata.
    pub metadata: BTreeMap<String, String>,
}

/// The world around a decision: everything that is neither state nor input.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// The clock.
    pub now: Micros,
    /// Fresh random bits; ids are made of them.
    pub entropy: u128,
    /// The inbox, oldest first, if [`Needs::inbox`].
    pub inbox: Vec<Waiting>,
    /// Title and metadata, if [`Needs::profile`].
    pub profile: Profile,
    /// Those of [`Needs::calls`] that exist.
    pub calls: BTreeMap<EventId, Called>,
    /// Whether [`Needs::thread`] was begun and has ended.
    pub ended: bool,
}

impl Input {
    /// Whether this input can give waiting events their place. A message to a running session cannot: it
    /// costs the same however many wait before it.
    fn may_drain(&self, state: &State) -> bool {
        // What one thread does may be what another waits for.
        if !state.children.is_empty() {
            return true;
        }
        match self {
            Self::Command(Command::Send(events)) => match state.primary.phase {
                Phase::Requesting { .. }
                | Phase::Compacting { .. }
                | Phase::Grading { .. }
                | Phase::Acting { .. } => false,
                Phase::Due | Phase::Retrying { .. } => events
                    .iter()
                    .any(|e| matches!(e, UserEvent::Interrupt { .. })),
                Phase::Idle | Phase::Blocked { .. } | Phase::Paused => true,
            },
            Self::Command(Command::Delete) => false,
            // While calls are left to run, what waits goes on waiting, unless an interrupt does.
            Self::Fact { fact, .. } => match &**fact {
                Fact::Finished { .. } => {
                    let mut calls = state.primary.calls().iter();
                    state.primary.interrupting || !calls.any(|c| c.stage == Stage::Ready)
                }
                Fact::Grading { used: None, .. } | Fact::UsedInside { .. } => false,
                _ => true,
            },
            Self::Command(Command::Update(_) | Command::Archive | Command::ArchiveThread(_))
            | Self::Claim => true,
        }
    }

    /// What must be looked up for this input on this state.
    #[must_use]
    pub fn needs(&self, state: &State) -> Needs {
        let mut needs = Needs {
            inbox: state.waiting > 0 && self.may_drain(state),
            ..Needs::default()
        };
        match self {
            Self::Command(Command::Send(events)) => {
                needs.calls = events.iter().filter_map(UserEvent::answers).collect();
            }
            Self::Command(Command::Update(_)) => needs.profile = true,
            Self::Command(Command::ArchiveThread(thread)) => needs.thread = Some(*thread),
            Self::Command(Command::Archive | Command::Delete) | Self::Claim | Self::Fact { .. } => {
            }
        }
        needs
    }
}
