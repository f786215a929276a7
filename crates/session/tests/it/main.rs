//! The session core as its users meet it: rules by example, and a seeded simulation.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod check;
mod client;
mod coverage;
#[cfg(feature = "faults")]
mod faulty;
mod fold;
mod oracle;
mod rules;
mod sim;
mod simulation;
mod world;
