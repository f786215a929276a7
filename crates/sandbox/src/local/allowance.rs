//! Owns what each sandbox may use, as an operator sets it, and finds what holds them to it (`groups`). It holds nobody to it.

use std::sync::Arc;

use jail::plan::{Limit, Limits};

use super::Shared;
use super::disk::Disk;
use super::groups::Groups;
use crate::error::Error;
use crate::limits::{CPU_MILLIS_MIN, IO_BYTES_MIN, MEMORY_BYTES_MIN, PROCESSES_MIN};

/// What a sandbox may use: all its processes together, where this host has cgroups (see
/// [`Provider::probe`] for what it has).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Bytes of memory, files in `/tmp` and `/dev/shm` included; at least [`MEMORY_BYTES_MIN`].
    pub memory_bytes: u64,
    /// Thousandths of one processor; at least [`CPU_MILLIS_MIN`].
    pub cpu_millis: u64,
    /// Processes and threads; at least [`PROCESSES_MIN`].
    pub processes: u64,
    /// Of the disk.
    pub disk: Disk,
    /// Bytes a second that it may read from the disk its files lie on, and as many that it may write to it; at least
    /// [`IO_BYTES_MIN`]; 0: as many as the disk can.
    pub io_bytes: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            cpu_millis: 4000,
            processes: 4096,
            disk: Disk::default(),
            io_bytes: 0,
        }
    }
}

impl Allowance {
    pub(super) fn check(&self) -> Result<(), Error> {
        self.disk.check()?;
        let least = [
            ("memory", self.memory_bytes, MEMORY_BYTES_MIN, "bytes"),
            (
                "cpu",
                self.cpu_millis,
                CPU_MILLIS_MIN,
                "thousandths of a processor",
            ),
            ("processes", self.processes, PROCESSES_MIN, ""),
        ];
        let io = (
            "disk traffic",
            self.io_bytes,
            IO_BYTES_MIN,
            "bytes a second",
        );
        let io = (self.io_bytes > 0).then_some(&io);
        match least
            .iter()
            .chain(io)
            .find(|(_, value, least, _)| value < least)
        {
            Some((name, value, least, unit)) => {
                let problem = format!("{name} of a sandbox: {value} is less than {least} {unit}");
                Err(Error::invalid(problem.trim_end()))
            }
            None => Ok(()),
        }
    }
}

impl Shared {
    /// What holds sandboxes to their limits here. Blocks the first time.
    pub(super) fn groups(&self) -> Arc<Groups> {
        let found = self.groups.get_or_init(|| {
            let groups = Groups::find(&self.allowance, self.together.as_ref(), self.dirs.root());
            groups.sweep_strays();
            Arc::new(groups)
        });
        Arc::clone(found)
    }

    /// What a sandbox with that limit of its disk may use, and what holds it to that. Blocks the first time.
    pub(super) fn limits(&self, disk: Limit) -> Limits {
        Limits {
            disk,
            ..self.groups().limits.clone()
        }
    }
}
