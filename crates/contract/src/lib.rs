//! The wire contract: types, ids, limits and the error envelope, parsed strictly. Serde only: it does
//! no IO and knows no rule of a session.
#![forbid(unsafe_code)]

pub mod agent;
mod check;
pub mod client_event;
pub mod content;
pub mod credential;
pub mod deployment;
pub mod dialect;
pub mod dream;
pub mod environment;
pub mod error;
pub mod event;
pub mod file;
pub mod ids;
pub mod limits;
pub mod memory;
pub mod metadata;
pub mod model;
pub mod page;
pub mod parse;
pub mod patch;
pub mod query;
mod schema;
pub mod secret;
pub mod session;
pub mod skill;
pub mod time;
pub mod tools;
pub mod vault;
pub mod work;
