//! The section `[sandbox]`: what each sandbox may use. Whether this host can hold it to that, `longhand
//! doctor` says.

use anyhow::bail;
use sandbox::Allowance;
use sandbox::limits::{CPU_MILLIS_MIN, MEMORY_BYTES_MIN, PROCESSES_MIN};
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
    /// In the units of the provider.
    ///
    /// # Errors
    /// A setting that is too small, by name.
    pub fn allowance(&self) -> anyhow::Result<Allowance> {
        let least = [
            ("memory_mib", self.memory_mib, MEMORY_BYTES_MIN >> 20),
            ("cpu_percent", self.cpu_percent, CPU_MILLIS_MIN / 10),
            ("processes", self.processes, PROCESSES_MIN),
        ];
        for (name, value, least) in least {
            if value < least {
                bail!("`sandbox.{name}` is {value}: it must be at least {least}");
            }
        }
        Ok(Allowance {
            memory_bytes: self.memory_mib.saturating_mul(1 << 20),
            cpu_millis: self.cpu_percent.saturating_mul(10),
            processes: self.processes,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_providers_and_what_is_too_small_is_named() {
        let defaults = Sandbox::default();
        assert_eq!(defaults.allowance().unwrap(), Allowance::default());
        let small = Sandbox {
            memory_mib: 31,
            ..defaults
        };
        assert_eq!(
            small.allowance().unwrap_err().to_string(),
            "`sandbox.memory_mib` is 31: it must be at least 32"
        );
    }
}
