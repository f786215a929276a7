//! The resolver that a sandbox has: it reads a query, and answers with virtual addresses. It must never ask
//! anybody: nothing of a query leaves this machine, and no record type but A and AAAA has an answer.

mod answer;
mod pool;
mod query;

pub use answer::{Answer, OnDenied, answer_for, write_answer};
pub use pool::{Full, Pool, Virtual};
pub use query::{Malformed, Query, Rcode, RecordType};
