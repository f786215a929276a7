//! The wire contract: types, ids, limits and the error envelope, parsed strictly. Serde only: it does
//! no IO and knows no rule of a session.
#![forbid(unsafe_code)]

pub mod content;
pub mod event;
pub mod ids;
pub mod patch;
pub mod time;
