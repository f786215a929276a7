//! Tests of `egress`: names, paths, policies, and the readers of DNS, TLS hellos and HTTP heads, and the audit.

// clippy.toml allows these in test functions; the helpers beside them are tests as well
#![allow(clippy::unwrap_used, clippy::panic)]

mod audit;
mod dns;
mod hellos;
mod http1;
mod http1_attacks;
mod identity;
mod names;
mod offline;
mod paths;
mod policies;
mod policy_input;
mod policy_properties;
