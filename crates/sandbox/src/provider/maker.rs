//! Owns the names of the providers that an operator, an environment or a caller can choose from. It makes nothing.

use std::fmt;
use std::str::FromStr;

/// Who makes a sandbox, and so whose kernel serves what runs in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ProviderName {
    /// The host's kernel, which all sandboxes share.
    #[default]
    Local,
    /// A kernel of its own in user space, gVisor's: slower, and what breaks out of the programs' kernel is not in the
    /// host's.
    Gvisor,
}

impl ProviderName {
    /// All that there are.
    pub const ALL: [Self; 2] = [Self::Local, Self::Gvisor];

    /// Its name in settings, metadata and requests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Gvisor => "gvisor",
        }
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ProviderName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        found.ok_or_else(|| format!("must be \"local\" or \"gvisor\", not {name:?}"))
    }
}
