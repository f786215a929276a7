//! One attempt at a refresh: the lease and the question. What becomes of the answer stands beside it, whoever waits for
//! it in the module above.

use contract::credential::{Auth, McpOauth, Refresh};
use contract::ids::WorkspaceId;
use contract::secret::Secret;
use contract::time::Micros;
use store::clock;
use store::refreshes::{Claim, Due, Holder, Outcome, Patience, Settled};
use store::vaults::CredentialRow;

use super::{Inner, Named, TokenError};
use crate::OpenError;
use crate::limits::{REFRESH_AHEAD, REFRESH_LEASE, REFRESH_REST, SKEW};
use crate::oauth::{self, after};
use crate::secret::CredentialSecret;

/// A credential with its secrets open.
pub(crate) struct Opened {
    pub(super) row: CredentialRow,
    pub(super) oauth: McpOauth,
    pub(crate) secret: CredentialSecret,
}

impl Opened {
    pub(super) fn refresh(&self) -> Option<&Refresh> {
        let refresh = self.oauth.refresh.as_ref();
        refresh.filter(|_| self.secret.refresh_token.is_some())
    }

    /// The MCP server it is for.
    pub(crate) fn server(&self) -> &str {
        &self.oauth.mcp_server_url
    }
}

/// What came of one attempt.
pub(super) enum Attempt {
    /// A token that is not the one before.
    Token(Secret),
    /// There will be none now.
    Over(TokenError),
    /// Somebody else is at it.
    Held,
}

impl Named {
    pub(super) const fn due(self) -> Due {
        Due {
            workspace: self.workspace,
            vault: self.vault,
            credential: self.credential,
        }
    }
}

impl Inner {
    pub(crate) async fn opened(&self, it: Named) -> Result<Opened, TokenError> {
        let row = self
            .store
            .credential(it.workspace, it.vault, it.credential)
            .await?;
        if row.archived_at.is_some() {
            let thing = store::Thing::Credential(it.credential);
            return Err(store::Error::Archived(thing).into());
        }
        self.open(it.workspace, row)
    }

    pub(super) fn open(
        &self,
        workspace: WorkspaceId,
        row: CredentialRow,
    ) -> Result<Opened, TokenError> {
        let auth = serde_json::from_str::<Auth>(row.auth.get()).map_err(TokenError::Stored)?;
        let oauth = match auth {
            Auth::McpOauth(oauth) => oauth,
            Auth::StaticBearer(_) | Auth::EnvironmentVariable(_) => {
                let kind = row.kind.name();
                return Err(TokenError::Kind { kind });
            }
        };
        let sealed = row.sealed.as_ref().ok_or(crate::OpenError::Damaged)?;
        let secret = self.vault.open_credential(workspace, row.id, sealed)?;
        Ok(Opened { row, oauth, secret })
    }

    /// One look at a credential whose time has come; false if it may be due still.
    pub(super) async fn look(&self, it: Due) -> bool {
        match self.looked(it).await {
            Ok(()) => true,
            Err(error) => {
                let credential_id = it.credential.to_string();
                tracing::warn!(credential_id, %error, "an access token was not refreshed ahead of its expiry");
                false
            }
        }
    }

    async fn looked(&self, it: Due) -> Result<(), TokenError> {
        let now = (self.clock)();
        let holder = Holder(clock::entropy());
        let until = after(now, REFRESH_LEASE);
        let claim = self
            .store
            .claim_refresh(it, holder, Patience::Kept, now, until)
            .await?;
        let (row, failures) = match claim {
            Claim::Ours { row, failures } => (row, failures),
            Claim::Held { .. } | Claim::NotYet { .. } | Claim::Refused => return Ok(()),
        };
        let opened = self.claimed(it, holder, *row).await?;
        let due = opened.refresh().and_then(|_| due(&opened.oauth));
        if due.is_none_or(|due| due > now) {
            return self.untried(it, holder, due).await;
        }
        match self.exchange(it, (holder, failures), opened).await? {
            Attempt::Over(error) => Err(error),
            Attempt::Token(_) | Attempt::Held => Ok(()),
        }
    }

    /// Opens what the lease is ours of; if it does not open, gives it back.
    async fn claimed(
        &self,
        it: Due,
        holder: Holder,
        row: CredentialRow,
    ) -> Result<Opened, TokenError> {
        match self.open(it.workspace, row) {
            Err(error) => {
                // Another server may have the key, and so may this one soon. Otherwise there is nothing to be done until it
                // changes.
                let lacks = matches!(error, TokenError::Sealed(OpenError::KeyVersion { .. }));
                let soon = after((self.clock)(), REFRESH_REST);
                self.untried(it, holder, lacks.then_some(soon)).await?;
                Err(error)
            }
            opened => opened,
        }
    }

    /// Takes the lease and refreshes, unless the token is another one than `known` already.
    pub(super) async fn attempt(
        &self,
        it: Due,
        known: &Secret,
        patience: Patience,
    ) -> Result<Attempt, TokenError> {
        let now = (self.clock)();
        let holder = Holder(clock::entropy());
        let until = after(now, REFRESH_LEASE);
        let claim = self
            .store
            .claim_refresh(it, holder, patience, now, until)
            .await?;
        let (row, failures) = match claim {
            Claim::Ours { row, failures } => (row, failures),
            Claim::Held { .. } => return Ok(Attempt::Held),
            not @ (Claim::NotYet { .. } | Claim::Refused) => {
                return self.kept_back(it, known, &not).await;
            }
        };
        let opened = self.claimed(it, holder, *row).await?;
        if !same(&opened.secret.token, known) {
            let due = opened.refresh().and_then(|_| due(&opened.oauth));
            self.untried(it, holder, due).await?;
            return Ok(Attempt::Token(opened.secret.token));
        }
        self.exchange(it, (holder, failures), opened).await
    }

    /// It was tried a moment ago: what came of it holds for us too.
    async fn kept_back(
        &self,
        it: Due,
        known: &Secret,
        claim: &Claim,
    ) -> Result<Attempt, TokenError> {
        let row = self
            .store
            .credential(it.workspace, it.vault, it.credential)
            .await?;
        let opened = self.open(it.workspace, row)?;
        if !same(&opened.secret.token, known) {
            return Ok(Attempt::Token(opened.secret.token));
        }
        Ok(Attempt::Over(match claim {
            Claim::NotYet { failures: 0 } => TokenError::RefusedAfresh,
            Claim::Refused => TokenError::Revoked { said: None },
            Claim::NotYet { .. } | Claim::Ours { .. } | Claim::Held { .. } => {
                TokenError::Failed { said: None }
            }
        }))
    }

    /// Gives the lease back without having asked anybody.
    pub(super) async fn untried(
        &self,
        it: Due,
        holder: Holder,
        due_at: Option<Micros>,
    ) -> Result<(), TokenError> {
        let settled = Settled {
            outcome: Outcome::Untried,
            due_at,
            retry_at: Micros(0),
        };
        let now = (self.clock)();
        Ok(self.store.settle_refresh(it, holder, settled, now).await?)
    }

    /// Asks the authorization server and stores what it gave.
    async fn exchange(
        &self,
        it: Due,
        (holder, failures): (Holder, u32),
        opened: Opened,
    ) -> Result<Attempt, TokenError> {
        let Some(refresh) = opened.refresh() else {
            self.untried(it, holder, None).await?;
            return Ok(Attempt::Over(TokenError::NoRefreshToken));
        };
        let server = oauth::Server {
            client: &self.client,
            mode: &self.mode,
            timeout: self.token_timeout,
        };
        match oauth::ask(server, refresh, &opened.secret, self.clock).await {
            Ok(grant) => self.renew(it, holder, opened, grant).await,
            Err(error) => self.failed(it, (holder, failures), opened, error).await,
        }
    }
}

/// Whether the token is as good as expired.
pub(super) fn is_over(oauth: &McpOauth, now: Micros) -> bool {
    let soon = after(now, SKEW);
    oauth.expires_at.is_some_and(|at| at <= soon)
}

/// When to refresh it ahead of its expiry; none if it is not known to expire.
pub(super) fn due(oauth: &McpOauth) -> Option<Micros> {
    let ahead = i64::try_from(REFRESH_AHEAD.as_micros()).unwrap_or(0);
    let before = |at: Micros| Micros(at.0.saturating_sub(ahead));
    oauth.expires_at.map(before)
}

pub(super) fn same(one: &Secret, other: &Secret) -> bool {
    let (one, other) = (one.expose().as_bytes(), other.expose().as_bytes());
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}
