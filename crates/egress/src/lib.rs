//! What a sandbox may reach, and why: policy, and the readers of what it is judged by (names, paths, DNS,
//! TLS hellos, HTTP heads), and the audit. Those own every decision about egress and must never open a
//! connection, resolve a name or read a clock: that is the part of [`host`], the egress process, which asks
//! them.
//!
//! Each input comes from hostile code. A parser here is total and bounded, and refuses what two readers
//! could understand in two ways.

#![forbid(unsafe_code)]

pub mod audit;
pub mod dns;
pub mod host;
pub mod http1;
pub mod identity;
pub mod inject;
pub mod intercept;
pub mod limits;
mod name;
mod path;
pub mod policy;
pub mod sni;

pub use name::{Authority, AuthorityError, HostPattern, Name, NameError, Target, TargetError};
pub use path::{Path, PathError, Reading};
