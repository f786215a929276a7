//! The session core: a pure state machine. Commands and facts in; events, records and intents out. It
//! never does IO, reads a clock or draws a random number.
//!
//! Read in this order: [`state`] (what a session is between two inputs), [`input`] (what may happen to
//! it), [`decision`] (what then becomes true, in one transaction), [`decide()`] (the rules); then `send`
//! (what clients may send), `turn` (how a turn opens, goes on and ends), `report` (what runners report),
//! `outcome` (what the agent is to reach, and who says whether it did), `team` (several threads in one session).
//!
//! Invariants, checked by [`state::State::check`] before a state is stored and after it is loaded:
//! the log is gapless and its `processed_at` strictly grows; a call is recorded as started before
//! anyone runs it; only the current generation may report facts; an idle session holds no open call
//! except those that wait for its client.
#![forbid(unsafe_code)]

mod announce;
mod around;
mod check;
mod decide;
pub mod decision;
pub mod faults;
pub mod input;
pub mod limits;
mod mint;
pub mod money;
mod outcome;
pub mod policy;
mod recover;
mod report;
mod send;
pub mod state;
mod team;
mod thread;
mod turn;

pub use decide::{decide, open};
pub use decision::{
    Begun, Decision, EndedThread, Evaluation, Intent, Placed, Record, RecordKind, Refused, Step,
    ThreadOf, Waited, Webhook,
};
pub use input::{
    AgentChange, Around, Called, Command, Fact, Grade, Input, Needs, Newcomer, Opening, Order,
    Pace, ProposedCall, Remedy, Update, UserEvent, Waiting,
};
pub use money::{Budget, Cost};
pub use outcome::{Outcome, OutcomeStage, Standing};
pub use state::{
    Advising, Call, CallKind, Effort, Generation, Phase, Rest, Stage, State, Status, Thread,
    Totals, Used, WaitsOn, trace,
};
