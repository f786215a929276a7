//! The audit: what was decided and done, in a chain of hashes, in a database of its own. It must never drop
//! a record to go on: when it cannot write, whoever wants to record waits.
//!
//! Each record's hash covers its place, its text and the hash before it. [`verify`] finds a record that was
//! changed, removed or put elsewhere, also at either end. Whoever can write the file can make a new chain:
//! against that, keep a [`Head`] elsewhere and compare.

mod chain;
mod control;
mod read;
mod record;
mod retention;
mod search;
mod verify;
mod writer;

pub use chain::{AuditError, Head};
pub use control::{Control, Stage};
pub use read::{read, read_control};
pub use record::{Action, Kind, Record};
pub use retention::{Retention, trim};
pub use search::{Found, Placed, Search, search};
pub use verify::{Finding, Verified, verify};
pub use writer::{Audit, AuditClosed, Options};
