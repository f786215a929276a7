//! Secrets at rest and their resolution. It never logs, prints or returns a secret except to the one
//! caller that spends it.
//!
//! Everything hangs on one master key ([`master`]): keys for sealing and for hashing are derived from it
//! and it encrypts nothing itself. [`Vault`] is the handle; [`rotate`] gives it another master key;
//! [`llm`] says which model a session's vaults choose; [`keys`] mints and recognises API keys; [`refresh`]
//! keeps OAuth tokens fresh and [`probe`] tries them; [`placeholder`] is what stands in a sandbox instead of a
//! secret.
#![forbid(unsafe_code)]

mod crypt;
mod handle;
pub mod keys;
mod lent;
pub mod limits;
pub mod llm;
pub mod master;
pub mod oauth;
pub mod placeholder;
pub mod probe;
pub mod refresh;
mod ring;
pub mod rotate;
pub mod scrub;
pub mod secret;
mod unlock;

pub use crypt::{OpenError, Place};
pub use handle::Vault;
pub use lent::Lent;
pub use unlock::{KeySource, UnlockError};
