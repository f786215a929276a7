//! The section `[sandbox]`: what each sandbox may use. Whether this host can hold it to that, `longhand
//! doctor` says.

use sandbox::Allowance;
use serde::Deserialize;

/// `[sandbox]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// Memory in MiB, files in `/tmp` and `/dev/shm` included.
    pub memory_mib: u64,
    /// Processor time; 100 is one processor.
    pub cpu_percent: u64,
    /// Processes and threads.
    pub processes: u64,
}

impl Default for Sandbox {
    fn default() -> Self {
        let Allowance {
            memory_bytes,
            cpu_millis,
            processes,
        } = Allowance::default();
        Self {
            memory_mib: memory_bytes >> 20,
            cpu_percent: cpu_millis / 10,
            processes,
        }
    }
}

impl Sandbox {
    /// In the units of the provider, which refuses what is too small.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        Allowance {
            memory_bytes: self.memory_mib.saturating_mul(1 << 20),
            cpu_millis: self.cpu_percent.saturating_mul(10),
            processes: self.processes,
        }
    }

    /// Every setting with its value.
    #[must_use]
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sandbox.memory_mib", self.memory_mib.to_string()),
            ("sandbox.cpu_percent", self.cpu_percent.to_string()),
            ("sandbox.processes", self.processes.to_string()),
        ]
    }
}
