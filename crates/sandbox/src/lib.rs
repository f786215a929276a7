//! Isolated, persistent sandboxes behind a `Provider`. It never runs a command outside a sandbox, whatever the host lacks.
//!
//! A caller knows a [`Provider`], the [`Sandbox`]es it attaches and the [`Process`]es in them.
//! [`Local`] is the provider for this machine; how it isolates stands in the `jail` crate.
#![forbid(unsafe_code)]

mod diary;
mod error;
mod files;
mod isolation;
mod keeper;
pub mod limits;
mod local;
mod process;
mod provider;
mod stats;

pub use diary::{Diary, Entry as DiaryEntry, Step, What};
pub use error::Error;
pub use files::{Connection, Download, FileWatch, Held, Listing, Upload};
pub use hand::wire::{
    Change, Changed, Changes, Content, Entry, Kind, Output as ToolOutput, Running, Signal, Size,
    Tool,
};
pub use isolation::{Held as HeldLimit, Isolation, Level};
/// Where [`Config::programs`] appears in a sandbox.
pub const PROGRAMS: &str = "/run/longhand";

pub use keeper::{Keeper, Load, Settings, Standing, Terms, Visit};
pub use local::{Allowance, Config, Disk, DiskKind, Ends, Local, Network};
pub use process::{Command, ExitStatus, Process};
pub use provider::{
    Birth, Ending, Finding, How, Provider, Report, Sandbox, SandboxId, Spec, ToolCall,
};
pub use stats::Stats;
