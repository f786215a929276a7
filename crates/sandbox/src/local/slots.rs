//! Who is live, and who is on the way there or out: a place for each sandbox that this process has to do with. It starts
//! and ends none.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::ending::End;
use super::running::Running;
use crate::provider::{Sandbox as _, SandboxId};

pub(super) type Live = HashMap<SandboxId, Slot>;

pub(super) enum Slot {
    /// Being attached or deleted.
    Changing,
    Running(Known),
}

/// A sandbox that runs, or is on its way out.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) running: Weak<Running>,
    pub(super) ends: End,
}

impl Known {
    pub(super) fn alive(&self) -> Option<Arc<Running>> {
        self.running.upgrade().filter(|running| running.is_alive())
    }
}
