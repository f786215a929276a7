//! Owns what an operator can set of the provider for this host. It checks nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Allowance, Disk, Gvisor, Network};
use crate::limits::{HANDOVER, ORPHAN};
use crate::provider::ProviderName;
use crate::template::TemplateRef;
use crate::workspace::Shares;

/// What an operator can set.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where deleted sandboxes wait for removal; on the same file system as the sandboxes.
    pub trash: PathBuf,
    /// Where generated templates are kept; on the same file system as the sandboxes.
    pub templates: PathBuf,
    /// Where layers and snapshots are kept; on the same file system as the sandboxes.
    pub snapshots: PathBuf,
    /// Where volumes are kept; on the same file system as the trash.
    pub volumes: PathBuf,
    /// Bytes that any volume may have; 0: as many as there is room for.
    pub volume_bytes: u64,
    /// What layers and snapshots may take of the disk.
    pub layers: Shares,
    /// What sandboxes see as `/usr`, read-only, that lie on no template.
    pub usr: PathBuf,
    /// What a workspace that is made lies on unless its [`Spec`] says otherwise.
    pub template: TemplateRef,
    /// Programs of the operator that every sandbox sees at [`PROGRAMS`](crate::PROGRAMS), read-only: readable for
    /// everybody, and without secrets.
    pub programs: Option<PathBuf>,
    /// How long attach and delete wait while another process has the sandbox: long enough for one
    /// that was just killed to finish dying.
    pub handover: Duration,
    /// What each sandbox may use.
    pub allowance: Allowance,
    /// Bytes of memory of all sandboxes together; 0: as much as each may have, times their number.
    pub memory_together: u64,
    /// Bytes that stay free on the disk of the sandboxes: while there are fewer, none starts, and what one
    /// that takes more runs is ended. 0: nobody looks.
    pub disk_reserve: u64,
    /// How long a sandbox lives on when this process is gone without a word, unless another adopts it.
    pub orphan: Duration,
    /// How many sandboxes wait for their first use, once [`Local::warm_up`] was called.
    pub warm: usize,
    /// Who makes a sandbox of which nobody has said it.
    pub provider: ProviderName,
    /// gVisor, where it is installed.
    pub gvisor: Gvisor,
    /// Whether none is made, and none taken over, that shares a kernel.
    pub own_kernels_only: bool,
    /// Who carries what sandboxes send. Without it they have no network but their own loopback.
    pub network: Option<Arc<dyn Network>>,
}

impl Config {
    /// The usual places beside `dir`: `trash`, `templates`, `snapshots` and `volumes` in its parent, the host's `/usr`.
    #[must_use]
    pub fn beside(dir: &Path) -> Self {
        let parent = dir.parent().unwrap_or(dir);
        Self {
            trash: parent.join("trash"),
            templates: parent.join("templates"),
            snapshots: parent.join("snapshots"),
            volumes: parent.join("volumes"),
            volume_bytes: Disk::default().bytes,
            layers: Shares::default(),
            usr: PathBuf::from("/usr"),
            template: TemplateRef::Host,
            programs: None,
            handover: HANDOVER,
            allowance: Allowance::default(),
            memory_together: 0,
            disk_reserve: 0,
            orphan: ORPHAN,
            warm: 0,
            provider: ProviderName::Local,
            gvisor: Gvisor::default(),
            own_kernels_only: false,
            network: None,
        }
    }
}
