//! What becomes of an authorization server's answer. New tokens are the only copy there is, and what they were made
//! from is spent: they are given up last of all. It asks nobody anything.

use std::time::Duration;

use contract::credential::{Auth, McpOauth};
use contract::secret::Secret;
use contract::time::Micros;
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
    /// Stores that there are no new tokens.
    pub(super) async fn failed(
        &self,
        it: Due,
        (holder, failures): (Holder, u32),
        mut opened: Opened,
        error: GrantError,
    ) -> Result<Attempt, TokenError> {
        let credential_id = it.credential.to_string();
        tracing::warn!(credential_id, %error, "an access token could not be refreshed");
        let refused = matches!(error, GrantError::Refused { .. });
        let sent = Sent::of(&opened.secret);
        let end = |current: &Opened, now| {
            let (base, retry_at) = (current.row.revision, after(now, pause(failures)));
            Ok(Settled {
                outcome: if refused {
                    Outcome::Refused { base }
                } else {
                    Outcome::Failed { base }
                },
                due_at: (!refused).then_some(retry_at),
                retry_at,
            })
        };
        let others = self.settle(it, holder, &mut opened, &sent, end).await?;
        let said = Some(error);
        Ok(match others {
            Some(token) => Attempt::Token(token),
            None if refused => Attempt::Over(TokenError::Revoked { said }),
            None => Attempt::Over(TokenError::Failed { said }),
        })
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
        let end = |current: &Opened, now| self.granted(it, current, &grant, now);
        loop {
            let error = match self.settle(it, holder, &mut current, &sent, end).await {
                Ok(others) => return Ok(Attempt::Token(others.unwrap_or(grant.access_token))),
                Err(error) if lasts(&error) => return Err(error),
                Err(error) => error,
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

    /// Stores what came of it: `end` says so of the credential as it stands, which may have changed meanwhile. If its
    /// tokens are still those that were sent, it is said of them; if not, its owner has given it others. These are
    /// returned then, and nothing is said of them.
    async fn settle(
        &self,
        it: Due,
        holder: Holder,
        current: &mut Opened,
        sent: &Sent,
        end: impl Fn(&Opened, Micros) -> Result<Settled, TokenError>,
    ) -> Result<Option<Secret>, TokenError> {
        loop {
            let now = (self.clock)();
            let settled = end(current, now)?;
            match self.store.settle_refresh(it, holder, settled, now).await {
                Ok(()) => return Ok(None),
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
                return Ok(Some(changed.secret.token));
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

    /// That there are new tokens, in place of those that the credential has.
    fn granted(
        &self,
        it: Due,
        current: &Opened,
        grant: &Grant,
        now: Micros,
    ) -> Result<Settled, TokenError> {
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
        let oauth = McpOauth {
            expires_at: grant.expires_at,
            ..current.oauth.clone()
        };
        let rest = after(now, REFRESH_REST);
        let due_at = due(&oauth).map(|due| due.max(rest));
        let auth = serde_json::to_string(&Auth::McpOauth(oauth)).map_err(TokenError::Stored)?;
        Ok(Settled {
            outcome: Outcome::Renewed {
                base: current.row.revision,
                auth: RawValue::from_string(auth).map_err(TokenError::Stored)?,
                sealed: self
                    .vault
                    .seal_credential(it.workspace, it.credential, &secret),
            },
            due_at,
            retry_at: rest,
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
