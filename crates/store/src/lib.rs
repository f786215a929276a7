//! Persistence behind named async operations. It never leaks a driver type or a transaction, and holds
//! no rule of its own: `session` decides, it stores.
//!
//! One writer per database folds what is queued into one durable commit, then publishes to the feed and
//! answers, in that order: nothing is seen or acknowledged before it is on disk (law 1). Every operation
//! is an inherent method of [`Store`]; row types stand beside it, one module an aggregate.
//!
//! Cancel safety of every operation: dropping its future never undoes a write that was queued; it only
//! loses the answer.
#![forbid(unsafe_code)]

pub mod agents;
pub mod caps;
pub mod clock;
pub mod environments;
pub mod error;
pub mod events;
#[cfg(feature = "simulation")]
pub mod faults;
#[cfg(not(feature = "simulation"))]
mod faults;
pub mod feed;
pub mod kept;
pub mod keys;
mod known;
pub mod limits;
mod link;
pub mod master;
pub mod meta;
pub mod moving;
pub mod page;
mod postgres;
pub mod refreshes;
pub mod replica;
mod rules;
pub mod runs;
pub mod sandbox_rules;
pub mod sessions;
#[cfg(feature = "simulation")]
pub mod simulation;
mod sqlite;
pub mod stats;
mod store;
pub mod threads;
pub mod timeline;
pub mod usage;
pub mod vaults;

pub use error::{Conflict, Error, OpenError, SubmitError, Thing};
pub use store::{Options, Store, Synchronous};
