//! The HTTP edge: routes, keys, headers, errors, paging, event streams and limits. It has no rules of
//! its own: `contract` says what is well-formed, `session` what is allowed, `store` what is true.
#![forbid(unsafe_code)]
#![allow(dead_code)]

mod body;
mod cursor;
pub mod limits;
mod serve;
mod sse;

pub use serve::{Drained, serve, serve_unix};
