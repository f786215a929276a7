//! Owns what a request holds while it is under way: its place in the row, its entry in the table. It
//! speaks to nobody.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hand::limits::PROCESSES;
use hand::wire::{Id, OLDEST, Tool};

use super::Inner;
use crate::error::Error;
use crate::limits::TOOL_GRACE;
use crate::local::pipes;
use crate::process::Process;
use crate::provider::ToolCall;

/// The shells of one sandbox, and how long the bash calls under way may take in each, one after another.
pub(super) struct Shells {
    /// Whether each caller has one: all share the one that an older hand has.
    own: bool,
    waiting: Mutex<HashMap<Option<String>, Duration>>,
}

impl Shells {
    /// Those of a hand of that version.
    pub(super) fn of(version: u32) -> Self {
        Self {
            own: version > OLDEST,
            waiting: Mutex::default(),
        }
    }

    /// Whether the hand knows of callers.
    pub(super) fn have_owners(&self) -> bool {
        self.own
    }

    /// As the hand knows the caller.
    pub(super) fn caller(&self, call: &ToolCall) -> Option<String> {
        call.caller.clone().filter(|_| self.own)
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, HashMap<Option<String>, Duration>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a call among those that wait for the same shell.
pub(super) struct Turn<'a> {
    inner: &'a Inner,
    own: Duration,
    /// Which shell; none for what needs no shell.
    shell: Option<Option<String>>,
    before: Duration,
}

impl<'a> Turn<'a> {
    pub(super) fn new(inner: &'a Inner, call: &ToolCall) -> Self {
        let own = call.name.time_limit(&call.input);
        let shell = (call.name == Tool::Bash).then(|| inner.shells.caller(call));
        let mut before = Duration::ZERO;
        if let Some(shell) = &shell {
            let mut waiting = inner.shells.waiting();
            let time = waiting.entry(shell.clone()).or_default();
            before = *time;
            *time = time.saturating_add(own);
        }
        Self {
            inner,
            own,
            shell,
            before,
        }
    }

    pub(super) fn limit(&self) -> Duration {
        self.before
            .saturating_add(self.own)
            .saturating_add(TOOL_GRACE)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(shell) = self.shell.take() else {
            return;
        };
        if let Entry::Occupied(mut time) = self.inner.shells.waiting().entry(shell) {
            *time.get_mut() = time.get().saturating_sub(self.own);
            if time.get().is_zero() {
                time.remove();
            }
        }
    }
}

/// The table's entry of a process of which the hand has not said yet that it runs. Dropped before,
/// the entry goes with it.
pub(super) struct Unstarted<'a> {
    inner: &'a Inner,
    id: Id,
    started: bool,
}

impl<'a> Unstarted<'a> {
    pub(super) fn open(inner: &'a Arc<Inner>, id: Id) -> Result<(Self, Process), Error> {
        let mut table = inner.lock();
        // The hand refuses them too, if it is honest.
        if table.processes.len() >= PROCESSES {
            return Err(Error::busy(format!(
                "more than {PROCESSES} processes at once"
            )));
        }
        let (pipes, process) = pipes::open(inner, id);
        table.processes.insert(id, pipes);
        let unstarted = Self {
            inner,
            id,
            started: false,
        };
        Ok((unstarted, process))
    }

    pub(super) fn started(mut self) {
        self.started = true;
    }
}

impl Drop for Unstarted<'_> {
    fn drop(&mut self) {
        if !self.started {
            self.inner.forget_process(self.id);
        }
    }
}
