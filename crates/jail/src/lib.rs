//! Set-up and supervision of one sandbox, in a fixed order. It never continues after a step that failed.
//!
//! [`plan`] is the data spoken with the server; everything else runs only in the static helper,
//! whose single thread is what makes code after clone sound (see `sys::clone_process`).

#![forbid(unsafe_code)]

mod error;
mod mounts;
pub mod plan;
mod privileges;
mod seccomp;
mod setup;
mod supervisor;
mod userns;

pub use supervisor::run;
