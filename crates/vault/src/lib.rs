//! Secrets at rest and their resolution. It never logs, prints or returns a secret except to the one
//! caller that spends it.
//!
//! Everything hangs on one master key ([`master`]): keys for sealing and for hashing are derived from it
//! and it encrypts nothing itself. [`Vault`] is the handle; [`llm`] says which model a session's vaults
//! choose; [`keys`] mints and recognises API keys.
#![forbid(unsafe_code)]

mod crypt;
pub mod keys;
pub mod llm;
pub mod master;
pub mod secret;
mod unlock;

pub use crypt::{OpenError, Place};
pub use unlock::{KeySource, UnlockError, Vault};
