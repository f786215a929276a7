//! The agent loop. A [`Harness`] turns steps of the session core into model calls and tool calls; it
//! decides no policy and stores nothing itself.
//!
//! Both placements speak the same words to the session plane: a resident loop (`native`) is told by a
//! [`Step`] what to do, does it and reports a [`Fact`]; a foreign loop inside the sandbox does things of
//! its own accord, so there the same step is the permission to go on, and its adapter holds the process
//! back until it has come.
#![forbid(unsafe_code)]

mod accepted;
mod bill;
pub mod bodies;
pub mod brief;
pub mod causes;
pub mod claude;
pub mod door;
pub mod install;
pub mod judge;
mod limits;
pub mod native;
pub mod plane;

use std::sync::Arc;

use async_trait::async_trait;
pub use bill::used;
pub use brief::{Brief, BuiltinTool, Member, Networking, Team};
use contract::ids::SessionId;
pub use plane::{Entry, EntryBody, MadeUp, Plane, PlaneError, Preview, Spent, Taken};
use sandbox::Sandbox;
pub use session::{Fact, Step};

/// One way to run a turn.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The name that selects it (`longhand.harness`).
    fn name(&self) -> &'static str;

    /// Works from `first` until the session plane says [`Step::Rest`].
    ///
    /// Cancel safe: yes. Everything that matters has been reported; what was in flight is settled by
    /// whoever claims the session next.
    ///
    /// # Errors
    /// [`PlaneError`] if the run may not, or cannot, go on. A failure of the model or of a tool is not an
    /// error here but a fact.
    async fn run(&self, plane: &dyn Plane, first: Step) -> Result<(), PlaneError>;

    /// Has what it runs inside the sandbox of that session there before the session's first turn, if it runs anything
    /// there. Nobody is asked anything; where it fails, the first turn sees to it.
    ///
    /// Cancel safe: yes.
    async fn prepare(&self, _session: SessionId, _brief: &Brief, _sandbox: &Arc<dyn Sandbox>) {}
}
