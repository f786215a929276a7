//! The session core as its users meet it: rules by example, and a seeded simulation.
#![allow(missing_docs)]

mod rules;
mod simulation;
mod world;
