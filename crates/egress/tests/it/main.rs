//! Tests of `egress`: names, paths, policies.

// clippy.toml allows these in test functions; the helpers beside them are tests as well
#![allow(clippy::unwrap_used, clippy::panic)]

mod names;
mod offline;
mod paths;
mod policies;
mod policy_input;
mod policy_properties;
