//! Owns the words for how well a sandbox is kept apart: levels, and what holds each limit. It isolates nothing.

use std::fmt;
use std::str::FromStr;

/// How well sandboxes are kept apart from the host and from each other. Each level has all of those before it, but for
/// [`Level::Kernel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Namespaces of its own, no network of the host's, a filter of system calls, few capabilities, resource
    /// limits. There is never less: what cannot have this does not run.
    Basic,
    /// And user ids that nobody else on the host has. Below, whatever breaks out of its namespaces is the user
    /// that the server runs as.
    Ids,
    /// And memory, processor time and processes are limited for a sandbox as a whole.
    Limits,
    /// And its files are on a file system of its own with a size that nothing exceeds.
    Disk,
    /// All of [`Level::Limits`], whatever its disk is, and a kernel that serves nothing but this sandbox. What a
    /// sandbox has is told apart from the other levels: [`Isolation::own_kernel`].
    Kernel,
}

impl Level {
    /// From the weakest on.
    pub const ALL: [Self; 5] = [
        Self::Basic,
        Self::Ids,
        Self::Limits,
        Self::Disk,
        Self::Kernel,
    ];

    /// Its name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Ids => "ids",
            Self::Limits => "limits",
            Self::Disk => "disk",
            Self::Kernel => "kernel",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|level| level.name() == name);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|level| level.name()).collect();
            format!(
                "{name:?} is no level of isolation: they are {}",
                names.join(", ")
            )
        })
    }
}

/// How one sandbox is kept apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// The highest level that it has all of, [`Level::Kernel`] left out.
    pub level: Level,
    /// Whether its programs have a kernel of their own, and not the host's.
    pub own_kernel: bool,
    /// Whether its user ids are nobody else's.
    pub own_ids: bool,
    /// How many it has: programs that change their user need more than one.
    pub ids: u32,
    /// Bytes of memory.
    pub memory: Held,
    /// Thousandths of one processor.
    pub cpu: Held,
    /// Processes and threads.
    pub processes: Held,
    /// Bytes on the disk.
    pub disk: Held,
    /// Bytes a second to and from the disk, each way. Of no level: it keeps sandboxes from being slow, not apart.
    pub io: Held,
}

/// A limit, and what holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// How much; 0: nothing is limited.
    pub most: u64,
    /// By what means, in a word.
    pub by: &'static str,
    /// Whether it holds for the sandbox as a whole and is never exceeded.
    pub firmly: bool,
}

impl Isolation {
    /// Whether it has all of that level.
    #[must_use]
    pub fn reaches(&self, least: Level) -> bool {
        match least {
            Level::Kernel => self.own_kernel && self.level >= Level::Limits,
            _ => self.level >= least,
        }
    }

    /// What is weaker than it could be, in words, with the level that lacks it.
    #[must_use]
    pub fn weaker(&self) -> Vec<String> {
        let mut weaker = Vec::new();
        if !self.own_ids {
            let fail = match self.ids {
                1 => "; programs in it that change their user fail",
                _ => "",
            };
            weaker.push(format!(
                "no ids of its own: what breaks out of its namespaces is the user that the server runs as{fail}"
            ));
        }
        // Nobody wants that one limited unless an operator says so.
        let io = (self.io.most > 0).then_some(("disk traffic", &self.io));
        let always = [
            ("memory", &self.memory),
            ("processor time", &self.cpu),
            ("processes", &self.processes),
            ("disk", &self.disk),
        ];
        for (what, held) in always.into_iter().chain(io) {
            if !held.firmly {
                weaker.push(format!("{what}: held by {}", held.by));
            }
        }
        weaker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_known_by_their_names_only() {
        assert!(Level::ALL.is_sorted());
        for level in Level::ALL {
            assert_eq!(level.name().parse(), Ok(level));
        }
        assert_eq!(
            "full".parse::<Level>().unwrap_err(),
            "\"full\" is no level of isolation: they are basic, ids, limits, disk, kernel"
        );
    }
}
