//! Policy: the contract's networking, the operator's and the sandbox's ordered rules, and the always-denied
//! set, as one compiled thing that decides and says why. It must never allow what nothing allows: no policy,
//! an unknown one or a broken one denies.
//!
//! Three layers, in this order; the first rule that matches decides:
//! 1. the operator's rules,
//! 2. the sandbox's own rules (a tenant's, through the API),
//! 3. what the contract's networking lists; beyond it `unrestricted` allows and `limited` denies.
//!
//! Above them stands the always-denied set. Only the operator lifts it: by `allow_private`, or by an allowing
//! rule that names the address or its range. Neither a name nor `*` does.
//!
//! A connection is judged up to four times, each time with more seen ([`Seen`]): when it is made, when its
//! first bytes are there, for each request on it, and when an address of its name is about to be dialled
//! ([`Policy::judge_address`]).

mod compile;
mod decide;
mod error;
mod explain;
mod file;
mod offline;
mod preset;
mod rule;
mod table;

pub use compile::Policy;
pub use decide::{Attempt, Cause, Decision, Mcp, Request, Seen, Verdict};
pub use error::{PolicyError, Problem};
pub use explain::Explanation;
pub use file::{AttachedFile, FileError, NetworkingFile, PolicyFile, read_policy};
pub use offline::{CaseReport, Found, Report, test_policy};
pub use preset::Preset;
pub use rule::{Action, Attached, Base, Mode, Origin, PortSpec, Ports, Protocol, Rule, RuleSet};
