//! How much one workspace may have, so that none takes the room of the others. The store only counts:
//! the numbers are the operator's.

use crate::error::Plenty;

/// What a workspace may have. What it has above a cap that was lowered stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Sessions that are not deleted.
    pub sessions: u64,
    /// Vaults that are not deleted.
    pub vaults: u64,
    /// Active credentials of one vault.
    pub vault_credentials: u32,
    /// Turns that run at once; none: all that there is room for.
    pub turns: Option<u32>,
    /// Bytes of answers kept under its `Idempotency-Key`s, each counted with [`crate::limits::KEPT_BESIDE`].
    pub kept: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            sessions: crate::limits::WORKSPACE_SESSIONS,
            vaults: crate::limits::WORKSPACE_VAULTS,
            vault_credentials: crate::limits::VAULT_CREDENTIALS,
            turns: None,
            kept: crate::limits::WORKSPACE_KEPT,
        }
    }
}

impl Caps {
    /// How much of it.
    #[must_use]
    pub fn of(self, what: Plenty) -> u64 {
        match what {
            Plenty::Sessions => self.sessions,
            Plenty::Vaults => self.vaults,
            Plenty::Kept => self.kept,
        }
    }
}
