//! Isolated, persistent sandboxes behind a `Provider`. It never runs a command outside a sandbox, whatever the host lacks.
//!
//! A caller knows a [`Provider`], the [`Sandbox`]es it attaches and the [`Process`]es in them.
//! [`Local`] is the provider for this machine; how it isolates stands in the `jail` crate.
#![forbid(unsafe_code)]

mod error;
pub mod limits;
mod local;
mod process;
mod provider;

pub use error::Error;
pub use hand::wire::{Content, Output as ToolOutput, Tool};
pub use local::{Allowance, Config, Local};
pub use process::{Command, ExitStatus, Process};
pub use provider::{Finding, Provider, Report, Sandbox, SandboxId, Spec, ToolCall};
