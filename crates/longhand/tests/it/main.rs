//! The binary from outside: what survives a kill and a power cut, and how it stops when asked to.

#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod archives;
mod canary;
mod certificates;
mod claude;
mod claude_inside;
mod claude_lost;
mod claude_stale;
mod crash;
mod drain;
mod durable;
mod edge;
mod egress;
mod egress_kills;
mod egress_rules;
mod fleet;
mod injected;
mod isolation;
mod kernels;
mod keys_master;
mod memory;
mod model_inside;
mod outlive;
mod people;
mod plane;
mod postgres;
mod power;
mod refusals;
mod registry;
mod registry_debian;
mod releases;
mod renewed;
mod replicas;
mod restored;
mod sandbox_life;
mod sandboxes;
mod shells;
mod stage;
mod teams;
mod templates;
mod terminal;
mod trouble;
mod trust;
mod workspace_cuts;
mod workspaces;
