//! The session core as its users meet it: rules by example, and a seeded simulation.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod asks;
mod budgets;
mod check;
mod client;
mod coverage;
#[cfg(feature = "faults")]
mod faulty;
mod fold;
mod graded;
mod inside;
mod invariants;
mod malformed;
mod oracle;
mod outcomes;
mod recoveries;
mod reports;
mod retries;
mod rules;
mod sim;
mod simulation;
mod table;
mod team_client;
mod team_coverage;
mod team_fold;
mod team_probe;
mod team_rules;
mod team_scenes;
mod team_table;
mod team_words;
mod team_world;
mod teams;
mod threads;
mod updates;
mod world;
