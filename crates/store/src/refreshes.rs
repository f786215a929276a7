//! When access tokens of OAuth credentials are refreshed, and by whom: one server at a time. What is said to
//! an authorization server, and what its answer means, is decided elsewhere.

use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::time::Micros;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::feed::Changed;
use crate::store::{Store, on_back};
use crate::vaults::{CredentialRow, Sealed};

/// A credential that somebody should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Its vault.
    pub vault: VaultId,
    /// Itself.
    pub credential: CredentialId,
}

/// Who holds the lease of a refresh: random, so that a lease that was lost is never taken for ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(pub u128);

/// Whether an attempt waits for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It waits after a failure, and never comes after the grant was refused.
    Kept,
    /// Somebody asked for it: only another one's lease keeps it back.
    Waived,
}

/// What came of asking for the lease.
#[derive(Debug, Clone)]
pub enum Claim {
    /// It is ours.
    Ours {
        /// The credential as it stands.
        row: Box<CredentialRow>,
        /// How often it failed in a row.
        failures: u32,
    },
    /// Somebody else refreshes, until then at the latest.
    Held {
        /// When its lease ends.
        until: Micros,
    },
    /// It was tried a moment ago.
    NotYet {
        /// How often it failed in a row; 0: it was refreshed.
        failures: u32,
    },
    /// The grant is gone.
    Refused,
}

/// What an attempt came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Nobody was asked.
    Untried,
    /// It failed, and may be tried again.
    Failed {
        /// The revision of the credential that it was tried with.
        base: u32,
    },
    /// The authorization server says that the grant is gone.
    Refused {
        /// The revision of the credential that had it.
        base: u32,
    },
    /// There are new tokens.
    Renewed {
        /// The revision of the credential that they were made from.
        base: u32,
        /// The `auth` object as clients see it.
        auth: Box<RawValue>,
        /// The secrets.
        sealed: Sealed,
    },
}

impl Outcome {
    /// The revision of which it says something.
    pub(crate) const fn base(&self) -> Option<u32> {
        match self {
            Self::Untried => None,
            Self::Failed { base } | Self::Refused { base } | Self::Renewed { base, .. } => {
                Some(*base)
            }
        }
    }
}

/// The end of an attempt.
#[derive(Debug, Clone)]
pub struct Settled {
    /// What it came to.
    pub outcome: Outcome,
    /// When to look at it next; none: when somebody needs it.
    pub due_at: Option<Micros>,
    /// Before that it is not tried again. An attempt that asked nobody changes nothing of it.
    pub retry_at: Micros,
}

impl Store {
    /// Takes the lease of refreshing a credential until `until`, if nobody else has it and its time has come. Whoever has
    /// it keeps it that way.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Archived`].
    pub async fn claim_refresh(
        &self,
        due: Due,
        holder: Holder,
        patience: Patience,
        now: Micros,
        until: Micros,
    ) -> Result<Claim, Error> {
        on_back!(self, write, |cx| refreshes::claim(
            cx,
            due,
            holder,
            patience,
            (now, until)
        ))
    }

    /// Ends an attempt and gives its lease back. New tokens are stored whoever holds the lease by now, as
    /// long as the credential is what they were made from: the old ones may be worth nothing.
    ///
    /// # Errors
    /// [`crate::Conflict::Revision`]: the credential changed meanwhile; nothing was stored, and the lease is
    /// still ours. [`Error::NotFound`], [`Error::Archived`].
    pub async fn settle_refresh(
        &self,
        due: Due,
        holder: Holder,
        settled: Settled,
        now: Micros,
    ) -> Result<(), Error> {
        let renewed = matches!(settled.outcome, Outcome::Renewed { .. });
        on_back!(self, write, |cx| refreshes::settle(
            cx, due, holder, settled, now
        ))?;
        if renewed {
            self.feed().changed(Changed::Vault(due.vault));
        }
        Ok(())
    }

    /// Credentials whose time has come and that nobody is at, the longest due first.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn refreshes_due(&self, now: Micros, limit: u32) -> Result<Vec<Due>, Error> {
        on_back!(self, read, |c| refreshes::due(c, now, limit))
    }
}
