//! Guarded dialling: every address a tenant can name is checked at connect time against the always-denied
//! set. It owns address classes, the operator's lift and the resolver; it must never learn HTTP semantics.
//!
//! Two holes are closed in two places, and both are needed:
//! * a **name** is resolved by [`Resolver`], which hands on only checked addresses, so what is connected
//!   to is what was checked and a second answer of the DNS (rebinding) never reaches the connector;
//! * a **literal address** in a URL never reaches a resolver: call [`check_url`] before every send.

#![forbid(unsafe_code)]

mod class;
mod client;
mod error;
mod net;
mod policy;
mod resolver;

pub use class::{Class, classify, effective};
pub use client::{Options, Roots, client, client_and_roots, install_crypto_provider};
pub use error::{Error, find};
pub use net::{Net, NetError};
pub use policy::{Mode, Policy, check_url};
pub use resolver::Resolver;
