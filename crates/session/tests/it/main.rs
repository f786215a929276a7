//! The session core as its users meet it: rules by example, and a seeded simulation.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod rules;
mod simulation;
mod world;
