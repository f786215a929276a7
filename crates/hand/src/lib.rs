//! PID 1 inside a sandbox, and the protocol spoken with it. It trusts nobody inside and holds no secret.
//!
//! [`wire`] is for both sides and knows no transport; [`agent`] runs only in the static helper.

#![forbid(unsafe_code)]

pub mod agent;
pub mod limits;
pub mod wire;
