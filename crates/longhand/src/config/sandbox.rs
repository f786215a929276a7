//! The section `[sandbox]`: what each sandbox may use. Whether this host can hold it to that, `longhand
//! doctor` says.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use sandbox::limits::{
    CPU_MILLIS_MIN, DISK_BYTES_MIN, DISK_FILES_MIN, IMAGE_BYTES_MIN, MEMORY_BYTES_MIN, ORPHAN,
    POOL_MOST, PROCESSES_MIN,
};
use sandbox::{Allowance, Disk, DiskKind, Gvisor, Level, ProviderName, Settings, TemplateRef};
use serde::Deserialize;

/// More cannot run on one host: each has 65,536 ids of the kernel's four billion.
const MOST: usize = 60_000;

/// `[sandbox]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// Memory in MiB, files in `/tmp` and `/dev/shm` included.
    pub memory_mib: u64,
    /// MiB of memory of all sandboxes together. 0: as much as each may have, times their number.
    pub memory_together_mib: u64,
    /// Processor time; 100 is one processor.
    pub cpu_percent: u64,
    /// Processes and threads.
    pub processes: u64,
    /// How each is held to its share of the disk: `soft`, by counting, or `image`, by a file system of its
    /// own. A sandbox keeps what it was made with.
    pub disk: Kind,
    /// MiB on the disk. 0: as many as there are.
    pub disk_mib: u64,
    /// Files, where they are counted. 0: as many as there are.
    pub disk_files: u64,
    /// MiB that may lie in any volume. 0: as many as there is room for.
    pub volume_mib: u64,
    /// MiB that the layers of one sandbox and of its snapshots may take: what was sealed counts here, and not to
    /// `disk_mib`. 0: as many as there is room for.
    pub layers_mib: u64,
    /// The same of all sandboxes together.
    pub layers_together_mib: u64,
    /// MiB that stay free on the host's disk: below, no sandbox starts, and one that writes is stopped in
    /// that. 0: nobody looks.
    pub disk_reserve_mib: u64,
    /// MiB a second that each may read from its disk, and as many that it may write. 0: as many as the disk can.
    pub io_mib_per_second: u64,
    /// The lowest level of isolation that this server runs with: `basic`, `ids`, `limits`, `disk` or `kernel`.
    pub require_isolation: String,
    /// Who makes a sandbox unless somebody says otherwise: `local`, with the host's kernel, or `gvisor`, with one of its
    /// own.
    pub provider: String,
    /// The program that `gvisor` takes.
    pub runsc: PathBuf,
    /// By what it catches system calls (its `--platform`). Empty: as it likes best.
    pub gvisor_platform: String,
    /// Seconds without use after which one is paused: it keeps its memory and uses no processor. 0: never.
    pub pause_after: u64,
    /// Seconds without use after which one is stopped: its files and where its shell was stay.
    pub stop_after: u64,
    /// Whether what a turn wrote in its sandbox is brought to the disk when the turn is over, in the background.
    pub sync_after_turn: bool,
    /// How many run on this host at once; who wants one more waits for its turn.
    pub max_running: usize,
    /// Seconds that one lives on after its server was killed, unless the next one takes it over. 0: none.
    pub orphan_seconds: u64,
    /// Whether a session's sandbox is made with the session, in the background, unless its metadata or its
    /// environment's says otherwise (`longhand.sandbox`).
    pub eager: bool,
    /// How many wait, made for nobody, for the next session that needs a first one. They run beside those that
    /// `max_running` counts. 0: none.
    pub warm: usize,
    /// What a sandbox is made on, unless somebody says otherwise: `host` for the host's `/usr`, or a template's name.
    pub template: String,
    /// Where `longhand template build` gets packages of Debian.
    pub debian_mirror: String,
    /// Whether a server that is stopped in order leaves them running, for one that starts within
    /// `orphan_seconds`; else it stops them.
    pub leave_running: bool,
    /// A directory that all servers on one database share: workspaces are exported there when a turn ends, and the
    /// server that takes over from one that is gone brings them back.
    pub exports: Option<PathBuf>,
}

/// How a sandbox is held to its share of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// By counting.
    Soft,
    /// By a file system of its own.
    Image,
}

impl Default for Sandbox {
    fn default() -> Self {
        let Allowance {
            memory_bytes,
            cpu_millis,
            processes,
            disk,
            io_bytes,
        } = Allowance::default();
        Self {
            require_isolation: Level::Basic.to_string(),
            provider: ProviderName::Local.to_string(),
            runsc: Gvisor::default().program,
            gvisor_platform: String::new(),
            disk: Kind::Soft,
            disk_mib: disk.bytes >> 20,
            disk_files: disk.files,
            volume_mib: disk.bytes >> 20,
            layers_mib: 2 * (disk.bytes >> 20),
            layers_together_mib: 100 << 10,
            disk_reserve_mib: 512,
            io_mib_per_second: io_bytes >> 20,
            memory_mib: memory_bytes >> 20,
            memory_together_mib: 0,
            cpu_percent: cpu_millis / 10,
            processes,
            pause_after: 60,
            stop_after: 600,
            sync_after_turn: true,
            max_running: 1_000,
            orphan_seconds: ORPHAN.as_secs(),
            eager: false,
            warm: 0,
            template: TemplateRef::Host.to_string(),
            debian_mirror: "http://deb.debian.org/debian".to_owned(),
            leave_running: false,
            exports: None,
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
            ("stop_after", self.stop_after, 1),
            ("max_running", self.max_running as u64, 1),
        ];
        let disk = match self.disk {
            Kind::Soft => ("disk_mib", DISK_BYTES_MIN >> 20),
            Kind::Image => ("disk_mib", IMAGE_BYTES_MIN >> 20),
        };
        let unlimited = self.disk_mib == 0 && self.disk == Kind::Soft;
        let disk = (!unlimited).then_some((disk.0, self.disk_mib, disk.1));
        let files =
            (self.disk_files > 0).then_some(("disk_files", self.disk_files, DISK_FILES_MIN));
        let volume =
            (self.volume_mib > 0).then_some(("volume_mib", self.volume_mib, DISK_BYTES_MIN >> 20));
        for (name, value, least) in least.into_iter().chain(disk).chain(files).chain(volume) {
            if value < least {
                bail!("`sandbox.{name}` is {value}: it must be at least {least}");
            }
        }
        if self.warm > POOL_MOST {
            bail!(
                "`sandbox.warm` is {}: it must be at most {POOL_MOST}",
                self.warm
            );
        }
        Ok(Allowance {
            memory_bytes: self.memory_mib.saturating_mul(1 << 20),
            cpu_millis: self.cpu_percent.saturating_mul(10),
            processes: self.processes,
            disk: Disk {
                bytes: self.disk_mib.saturating_mul(1 << 20),
                files: self.disk_files,
                kind: match self.disk {
                    Kind::Soft => DiskKind::Soft,
                    Kind::Image => DiskKind::Image,
                },
            },
            io_bytes: self.io_mib_per_second.saturating_mul(1 << 20),
        })
    }

    /// What sandboxes are made on.
    ///
    /// # Errors
    /// What is no template's name.
    pub fn template(&self) -> anyhow::Result<TemplateRef> {
        let template = self.template.parse();
        template.map_err(|error: sandbox::Error| anyhow::anyhow!("`sandbox.template`: {error}"))
    }

    /// The level below which this server does not run.
    ///
    /// # Errors
    /// A name that is no level's.
    pub fn level(&self) -> anyhow::Result<Level> {
        let level = self.require_isolation.parse();
        level.map_err(|error: String| anyhow::anyhow!("`sandbox.require_isolation`: {error}"))
    }

    /// Who makes sandboxes of which nobody says it. Where each must have a kernel of its own, that is nobody else.
    ///
    /// # Errors
    /// A name that is nobody's, or one that the level of isolation rules out.
    pub fn provider(&self) -> anyhow::Result<ProviderName> {
        let provider: ProviderName = self
            .provider
            .parse()
            .map_err(|error: String| anyhow::anyhow!("`sandbox.provider`: {error}"))?;
        if self.level()? == Level::Kernel && provider != ProviderName::Gvisor {
            bail!(
                "`sandbox.require_isolation` is \"kernel\": set `sandbox.provider = \"gvisor\"`, the provider whose \
                 sandboxes have a kernel of their own"
            );
        }
        Ok(provider)
    }

    /// gVisor as it is set up here.
    #[must_use]
    pub fn gvisor(&self) -> Gvisor {
        Gvisor {
            program: self.runsc.clone(),
            platform: Some(self.gvisor_platform.clone()).filter(|platform| !platform.is_empty()),
        }
    }

    /// When sandboxes are paused and stopped, and how many run.
    #[must_use]
    pub fn keeping(&self) -> Settings {
        Settings {
            pause_after: Some(self.pause_after)
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            sleep_after: Duration::from_secs(self.stop_after),
            most: self.max_running.clamp(1, MOST),
            eager: self.eager,
            sync_after_turn: self.sync_after_turn,
            ..Settings::default()
        }
    }

    /// For who makes sandboxes that are no use to anybody later: none outlives this process.
    #[must_use]
    pub fn short_lived(&self) -> Self {
        Self {
            orphan_seconds: 0,
            eager: false,
            warm: 0,
            leave_running: false,
            ..self.clone()
        }
    }

    /// Where workspaces are exported to.
    ///
    /// # Errors
    /// It is no directory: what is shared is not made here, or each server would have one of its own.
    pub fn exports_there(&self) -> anyhow::Result<Option<PathBuf>> {
        if let Some(path) = self.exports.as_ref().filter(|path| !path.is_dir()) {
            bail!(
                "`sandbox.exports` {} is no directory here: mount or make it, the same one on all servers",
                path.display()
            );
        }
        Ok(self.exports.clone())
    }

    /// Every setting with its value.
    #[must_use]
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sandbox.memory_mib", self.memory_mib.to_string()),
            (
                "sandbox.memory_together_mib",
                self.memory_together_mib.to_string(),
            ),
            ("sandbox.cpu_percent", self.cpu_percent.to_string()),
            ("sandbox.processes", self.processes.to_string()),
            ("sandbox.require_isolation", self.require_isolation.clone()),
            ("sandbox.provider", self.provider.clone()),
            ("sandbox.runsc", self.runsc.display().to_string()),
            ("sandbox.gvisor_platform", self.gvisor_platform.clone()),
            ("sandbox.disk", format!("{:?}", self.disk).to_lowercase()),
            ("sandbox.disk_mib", self.disk_mib.to_string()),
            ("sandbox.disk_files", self.disk_files.to_string()),
            ("sandbox.volume_mib", self.volume_mib.to_string()),
            ("sandbox.layers_mib", self.layers_mib.to_string()),
            (
                "sandbox.layers_together_mib",
                self.layers_together_mib.to_string(),
            ),
            (
                "sandbox.disk_reserve_mib",
                self.disk_reserve_mib.to_string(),
            ),
            (
                "sandbox.io_mib_per_second",
                self.io_mib_per_second.to_string(),
            ),
            ("sandbox.pause_after", self.pause_after.to_string()),
            ("sandbox.stop_after", self.stop_after.to_string()),
            ("sandbox.sync_after_turn", self.sync_after_turn.to_string()),
            ("sandbox.max_running", self.max_running.to_string()),
            ("sandbox.orphan_seconds", self.orphan_seconds.to_string()),
            ("sandbox.eager", self.eager.to_string()),
            ("sandbox.warm", self.warm.to_string()),
            ("sandbox.template", self.template.clone()),
            ("sandbox.debian_mirror", self.debian_mirror.clone()),
            ("sandbox.leave_running", self.leave_running.to_string()),
            (
                "sandbox.exports",
                self.exports
                    .as_ref()
                    .map_or_else(|| "(not set)".to_owned(), |path| format!("{path:?}")),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_sandboxes_is_checked_against_what_is_required() {
        let with = |provider: &str, level: &str| Sandbox {
            provider: provider.to_owned(),
            require_isolation: level.to_owned(),
            ..Sandbox::default()
        };
        let gvisor = with("gvisor", "kernel").provider();
        assert_eq!(gvisor.unwrap(), ProviderName::Gvisor);
        let local = with("local", "disk").provider();
        assert_eq!(local.unwrap(), ProviderName::Local);
        let said = |refused: Sandbox| refused.provider().unwrap_err().to_string();
        assert!(said(with("local", "kernel")).contains("`sandbox.provider = \"gvisor\"`"));
        assert!(said(with("runsc", "basic")).contains("`sandbox.provider`: must be"));
    }

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
