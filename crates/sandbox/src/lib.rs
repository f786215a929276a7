//! Isolated, persistent sandboxes behind a `Provider`. It never runs a command outside a sandbox, whatever the host lacks.
//!
//! A caller knows a [`Provider`], the [`Sandbox`]es it attaches and the [`Process`]es in them.
//! [`Local`] is the provider for this machine; how it isolates stands in the `jail` crate.
#![forbid(unsafe_code)]

mod archive;
mod carried;
mod diary;
#[cfg(test)]
mod dice;
mod error;
mod files;
mod isolation;
mod keeper;
pub mod limits;
mod local;
mod process;
mod provider;
mod snapshot;
mod stats;
mod template;
mod volume;
mod workspace;

pub use carried::{Export, Exported, Import};
pub use diary::{Diary, Entry as DiaryEntry, Step, What};
pub use error::Error;
pub use files::{Connection, Download, FileWatch, Held, Listing, Upload};
pub use hand::wire::{
    Change, Changed, Changes, Content, Entry, Exec, Kept, Kind, Output as ToolOutput, Running,
    Signal, Size, Tool,
};
pub use isolation::{Held as HeldLimit, Isolation, Level};
/// Where [`Config::programs`] appears in a sandbox.
pub const PROGRAMS: &str = "/run/longhand";
/// Where a loop that runs inside keeps what it remembers. It lasts as long as the session, whatever becomes of the
/// sandbox or its files, and no other session gets it: [`Workspaces`] leaves it where it is.
pub const STATE: &str = "/run/harness";

pub use jail::plan::Steering;
pub use keeper::{Keeper, Load, Settings, Standing, Terms, Visit};
pub use local::{
    Allowance, Config, Disk, DiskKind, Ends, Gvisor, Local, Network, Trusting, template_home,
};
pub use process::{Command, ExitStatus, Printed, Process};
pub use provider::{
    Birth, Ending, Finding, How, Provider, ProviderName, Report, Sandbox, SandboxId, Spec, ToolCall,
};
pub use snapshot::{NewSnapshot, Snapshot, SnapshotId, Workspaces};
pub use stats::Stats;
pub use template::{
    Blob, Gathering, Imported, Incoming, NewTemplate, Progress, Template, TemplateHome, TemplateId,
    TemplateName, TemplateRef, Templates,
};
pub use volume::{Mount, Mounts, NewVolume, VOLUMES, Volume, VolumeId, VolumeName, Volumes};
pub use workspace::Shares;
