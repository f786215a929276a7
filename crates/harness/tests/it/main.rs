//! The loop as the session plane meets it, and the texts that are part of every session's prefix.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

// The place is the same for all tests that need the package.
#[path = "../../../testkit/src/cache.rs"]
mod cache;
mod claude;
mod dialects;
mod foreign;
mod hostile;
#[path = "../../../testkit/src/inside.rs"]
mod inside;
mod install;
mod lost;
mod native;
mod plane;
mod prompt;
mod real;
