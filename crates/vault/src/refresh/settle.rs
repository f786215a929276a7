//! What becomes of an authorization server's answer. New tokens are the only copy there is, and what they were made
//! from is spent: they are given up last of all. It asks nobody anything.

use std::time::Duration;

use contract::credential::{Auth, McpOauth};
use contract::secret::Secret;
use serde_json::value::RawValue;
use store::Conflict;
use store::refreshes::{Due, Holder, Outcome, Patience, Settled};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Opened, due, same};
use super::{Inner, TokenError};
use crate::limits::{FAILURE_PAUSE, REFRESH_LEASE, REFRESH_REST, STORE_PAUSE, STORE_WAIT};
use crate::oauth::{Grant, GrantError, after};
use crate::secret::CredentialSecret;

/// The tokens that an authorization server was asked with.
struct Sent {
    token: Secret,
    refresh_token: Option<Secret>,
}

impl Sent {
    fn of(secret: &CredentialSecret) -> Self {
        Self {
            token: secret.token.copy(),
            refresh_token: secret.refresh_token.as_ref().map(Secret::copy),
        }
    }

    /// Whether the credential has them still.
    fn are_those_of(&self, secret: &CredentialSecret) -> bool {
        let kept = match (&secret.refresh_token, &self.refresh_token) {
            (Some(now), Some(sent)) => same(now, sent),
            _ => false,
        };
        kept && same(&secret.token, &self.token)
    }
}

impl Inner {
    pub(super) async fn failed(
        &self,
        it: Due,
        (holder, failures): (Holder, u32),
        error: GrantError,
    ) -> Result<Attempt, TokenError> {
        let now = (self.clock)();
        let credential_id = it.credential.to_string();
        tracing::warn!(credential_id, %error, "an access token could not be refreshed");
        let refused = matches!(error, GrantError::Refused { .. });
        let retry_at = after(now, pause(failures));
        let settled = Settled {
            outcome: if refused {
                Outcome::Refused
            } else {
                Outcome::Failed
            },
            due_at: (!refused).then_some(retry_at),
            retry_at,
        };
        self.store.settle_refresh(it, holder, settled, now).await?;
        let said = Some(error);
        Ok(Attempt::Over(if refused {
            TokenError::Revoked { said }
        } else {
            TokenError::Failed { said }
        }))
    }

    /// Stores new tokens. Whatever keeps the store from taking them, they are kept here, and the lease with them, and are
    /// tried again for [`STORE_WAIT`]; once the refresher ends, for as long as a question may take.
    pub(super) async fn renew(
        &self,
        it: Due,
        holder: Holder,
        opened: Opened,
        grant: Grant,
    ) -> Result<Attempt, TokenError> {
        let (sent, mut current) = (Sent::of(&opened.secret), opened);
        let credential_id = it.credential.to_string();
        let mut tries = Tries::begin();
        loop {
            let error = match self.put(it, holder, &mut current, &sent, &grant).await {
                Err(error) if !lasts(&error) => error,
                done => return done,
            };
            if tries.is_first() {
                tracing::warn!(credential_id, %error, "new tokens cannot be stored; they are kept, and it is tried again");
            }
            if !tries.pause(&self.ending, self.token_timeout).await {
                tracing::error!(credential_id, %error,
                    "new tokens could not be stored and are lost; those before them are spent: give the credential others");
                return Err(error);
            }
            self.hold(it, holder).await;
        }
    }

    /// Stores new tokens once. The credential may have changed meanwhile: if its tokens are still those that were
    /// sent, the new ones belong there; if not, its owner has given it others.
    async fn put(
        &self,
        it: Due,
        holder: Holder,
        current: &mut Opened,
        sent: &Sent,
        grant: &Grant,
    ) -> Result<Attempt, TokenError> {
        loop {
            let now = (self.clock)();
            let mut oauth = current.oauth.clone();
            oauth.expires_at = grant.expires_at;
            let rest = after(now, REFRESH_REST);
            let settled = Settled {
                due_at: due(&oauth).map(|due| due.max(rest)),
                retry_at: rest,
                outcome: self.outcome(it, current, oauth, grant)?,
            };
            match self.store.settle_refresh(it, holder, settled, now).await {
                Ok(()) => return Ok(Attempt::Token(grant.access_token.copy())),
                Err(store::Error::Conflict(Conflict::Revision { .. })) => {}
                Err(error) => return Err(error.into()),
            }
            let row = self
                .store
                .credential(it.workspace, it.vault, it.credential)
                .await?;
            let changed = self.open(it.workspace, row)?;
            if !sent.are_those_of(&changed.secret) {
                self.untried(it, holder, due(&changed.oauth)).await?;
                return Ok(Attempt::Token(changed.secret.token));
            }
            *current = changed;
        }
    }

    /// Keeps the lease, or takes it again: whoever else refreshed would show tokens that are spent.
    async fn hold(&self, it: Due, holder: Holder) {
        let now = (self.clock)();
        let until = after(now, REFRESH_LEASE);
        let held = self
            .store
            .claim_refresh(it, holder, Patience::Waived, now, until)
            .await;
        if let Err(error) = held {
            let credential_id = it.credential.to_string();
            tracing::debug!(credential_id, %error, "the lease of a refresh cannot be kept");
        }
    }

    fn outcome(
        &self,
        it: Due,
        current: &Opened,
        oauth: McpOauth,
        grant: &Grant,
    ) -> Result<Outcome, TokenError> {
        let kept = &current.secret;
        let secret = CredentialSecret {
            token: grant.access_token.copy(),
            refresh_token: grant
                .refresh_token
                .as_ref()
                .or(kept.refresh_token.as_ref())
                .map(Secret::copy),
            client_secret: kept.client_secret.as_ref().map(Secret::copy),
        };
        let auth = serde_json::to_string(&Auth::McpOauth(oauth)).map_err(TokenError::Stored)?;
        Ok(Outcome::Renewed {
            base: current.row.revision,
            auth: RawValue::from_string(auth).map_err(TokenError::Stored)?,
            sealed: self
                .vault
                .seal_credential(it.workspace, it.credential, &secret),
        })
    }
}

/// Whether no later attempt cures it: there is no place any more for what was to be stored.
fn lasts(error: &TokenError) -> bool {
    matches!(
        error,
        TokenError::Store(store::Error::NotFound(_) | store::Error::Archived(_))
            | TokenError::Kind { .. }
            | TokenError::Stored(_)
    )
}

/// How often it is tried to store new tokens, and for how long.
struct Tries {
    made: u32,
    last: Instant,
    pause: Duration,
    is_ending: bool,
}

impl Tries {
    fn begin() -> Self {
        Self {
            made: 0,
            last: Instant::now() + STORE_WAIT,
            pause: STORE_PAUSE.0,
            is_ending: false,
        }
    }

    fn is_first(&self) -> bool {
        self.made == 0
    }

    /// Waits until it is to be tried again; false if it no longer is. Once `ending`, it is for `grace` only.
    async fn pause(&mut self, ending: &CancellationToken, grace: Duration) -> bool {
        let now = Instant::now();
        if now >= self.last {
            return false;
        }
        let next = sleep_until(now + self.pause);
        tokio::pin!(next);
        if !self.is_ending && ending.run_until_cancelled(&mut next).await.is_none() {
            self.is_ending = true;
            self.last = self.last.min(Instant::now() + grace);
        }
        if self.is_ending {
            next.await;
        }
        self.made += 1;
        self.pause = (self.pause * 2).min(STORE_PAUSE.1);
        true
    }
}

/// The pause after one more failure.
fn pause(failures: u32) -> Duration {
    let (first, most) = FAILURE_PAUSE;
    first
        .saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX))
        .min(most)
}
