//! Owns what a request holds while it is under way: its place in the row, its entry in the table. It
//! speaks to nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hand::limits::PROCESSES;
use hand::wire::{Id, Tool};

use super::Inner;
use crate::error::Error;
use crate::limits::TOOL_GRACE;
use crate::local::pipes;
use crate::process::Process;
use crate::provider::ToolCall;

/// The place of a call among those that wait for the one shell.
pub(super) struct Turn<'a> {
    inner: &'a Inner,
    own: Duration,
    /// Milliseconds that it adds to what later calls may have to wait.
    added: u64,
    before: Duration,
}

impl<'a> Turn<'a> {
    pub(super) fn new(inner: &'a Inner, call: &ToolCall) -> Self {
        let own = call.name.time_limit(&call.input);
        let (added, before) = if call.name == Tool::Bash {
            let added = u64::try_from(own.as_millis()).unwrap_or(u64::MAX);
            let before = inner.shell.fetch_add(added, Ordering::Relaxed);
            (added, Duration::from_millis(before))
        } else {
            (0, Duration::ZERO)
        };
        Self {
            inner,
            own,
            added,
            before,
        }
    }

    pub(super) fn limit(&self) -> Duration {
        self.before + self.own + TOOL_GRACE
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.inner.shell.fetch_sub(self.added, Ordering::Relaxed);
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
