//! Owns what a sandbox's lock says about the sandbox that has it or had it last. Data only.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::pid_one::PidOne;
use crate::plan::Limits;

/// What a supervisor writes into the lock of its sandbox. If it is killed itself, the lock is free
/// before the last process of the sandbox has died, and its cgroups stay: the next owner reads here
/// what to wait for and what to remove. Those of one that was killed before it wrote are found by their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who runs the sandbox.
    pub supervisor: PidOne,
    /// The sandbox's PID 1; builds before 10 noted it only when it ran the hand.
    pub pid_one: Option<PidOne>,
    /// The directories of its cgroups.
    pub groups: Vec<PathBuf>,
    /// What it may use, and what holds it to that.
    pub limits: Limits,
}

impl Record {
    /// Whether anything of the sandbox may still run.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.pid_one.as_ref().is_some_and(PidOne::lives)
    }

    /// Whether a cgroup of it is still there. None outlasts a boot.
    #[must_use]
    pub fn left_groups(&self) -> bool {
        self.groups.iter().any(|dir| dir.exists()) && self.supervisor.is_of_this_boot()
    }
}
