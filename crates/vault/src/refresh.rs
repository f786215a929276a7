//! Access tokens that are fresh: refreshed ahead of their expiry and when a server refuses them, by one at a time
//! over all servers of a store. New tokens are stored before anybody uses them.

use std::sync::Arc;
use std::time::Duration;

use contract::credential::{Auth, McpOauth, Refresh};
use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::secret::Secret;
use contract::time::Micros;
use serde_json::value::RawValue;
use store::refreshes::{Claim, Due, Holder, Outcome, Patience, Settled};
use store::vaults::CredentialRow;
use store::{Conflict, Store, clock};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::handle::Vault;
use crate::limits::{
    DUE_AT_ONCE, DUE_LOOK, FAILURE_PAUSE, PROBES, REFRESH_AHEAD, REFRESH_LEASE, REFRESH_LOOK,
    REFRESH_REST, REFRESH_WAIT, SKEW, TOKEN_TIMEOUT,
};
use crate::oauth::{self, Grant, GrantError, after};
use crate::secret::CredentialSecret;

/// Which credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Its vault.
    pub vault: VaultId,
    /// Itself.
    pub credential: CredentialId,
}

/// Why there is no usable token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The credential holds no token of this kind.
    #[error("the credential is of type `{kind}`, not `mcp_oauth`")]
    Kind {
        /// What it is.
        kind: &'static str,
    },
    /// The token was refused, and there is nothing to refresh it with.
    #[error("the access token was refused, and the credential has no refresh token")]
    NoRefreshToken,
    /// The authorization server took the grant back, now or before.
    #[error("the authorization server refused the refresh token; give the credential new tokens")]
    Revoked {
        /// What it said; none if it said so before.
        said: Option<GrantError>,
    },
    /// It could not be refreshed now.
    #[error("the access token could not be refreshed; it is tried again")]
    Failed {
        /// Why; none if that was before.
        #[source]
        said: Option<GrantError>,
    },
    /// A token that was refreshed a moment ago was refused.
    #[error("the access token was refreshed a moment ago, and the server refuses that one too")]
    RefusedAfresh,
    /// The stored secret does not open.
    #[error(transparent)]
    Sealed(#[from] crate::OpenError),
    /// What is stored cannot be read.
    #[error("read what is stored as a credential")]
    Stored(#[source] serde_json::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// How authorization servers and MCP servers are reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The operator's lift of the always-denied set: these URLs are tenants'.
    pub policy: dial::Policy,
    /// Further roots that the operator trusts.
    pub extra_roots_pem: Vec<Vec<u8>>,
    /// The clock.
    pub clock: fn() -> Micros,
    /// Time for one question to a token endpoint, from name to last byte; at most a third of
    /// [`REFRESH_LEASE`].
    pub token_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: dial::Policy::default(),
            extra_roots_pem: Vec::new(),
            clock: clock::now,
            token_timeout: TOKEN_TIMEOUT,
        }
    }
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) vault: Arc<Vault>,
    pub(crate) client: reqwest::Client,
    pub(crate) mode: dial::Mode,
    pub(crate) clock: fn() -> Micros,
    pub(crate) probes: Semaphore,
    token_timeout: Duration,
    tasks: TaskTracker,
}

/// Gives fresh access tokens. Cloning it clones a handle.
#[derive(Clone)]
pub struct Refresher(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Refresher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refresher(…)")
    }
}

/// A credential with its secrets open.
pub(crate) struct Opened {
    row: CredentialRow,
    oauth: McpOauth,
    pub(crate) secret: CredentialSecret,
}

impl Opened {
    fn refresh(&self) -> Option<&Refresh> {
        let refresh = self.oauth.refresh.as_ref();
        refresh.filter(|_| self.secret.refresh_token.is_some())
    }

    /// The MCP server it is for.
    pub(crate) fn server(&self) -> &str {
        &self.oauth.mcp_server_url
    }
}

/// Why somebody wants a token.
enum Want<'a> {
    /// It is due, or soon.
    Fresh,
    /// This one was refused.
    InsteadOf(&'a Secret),
}

impl Refresher {
    /// A refresher over this store and vault. It connects to nothing yet.
    ///
    /// # Errors
    /// An extra root that is no certificate.
    pub fn new(
        store: Store,
        vault: Arc<Vault>,
        settings: Settings,
    ) -> Result<Self, reqwest::Error> {
        let mode = dial::Mode::guarded(settings.policy);
        let options = dial::Options {
            extra_roots_pem: settings.extra_roots_pem,
            ..dial::Options::default()
        };
        let client = dial::client(&mode, &options)?;
        Ok(Self(Arc::new(Inner {
            store,
            vault,
            client,
            mode,
            clock: settings.clock,
            token_timeout: settings.token_timeout.min(REFRESH_LEASE / 3),
            probes: Semaphore::new(PROBES),
            tasks: TaskTracker::new(),
        })))
    }

    /// The access token of a credential, refreshed first if it expires within [`SKEW`].
    ///
    /// Cancel safe: yes. A refresh that was begun goes on without its caller.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn token(&self, it: Named) -> Result<Secret, TokenError> {
        let opened = self.0.opened(it).await?;
        if !is_over(&opened.oauth, (self.0.clock)()) || opened.refresh().is_none() {
            return Ok(opened.secret.token);
        }
        match self.renewed(it, opened, Want::Fresh, Patience::Kept).await {
            // Its server gives it so short a life that it is never more than this.
            Err(TokenError::RefusedAfresh) => Ok(self.0.opened(it).await?.secret.token),
            done => done,
        }
    }

    /// Another token than `refused`, which a server answered with 401.
    ///
    /// Cancel safe: yes, as [`Self::token`].
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn after_refusal(&self, it: Named, refused: &Secret) -> Result<Secret, TokenError> {
        self.instead_of(it, refused, Patience::Kept).await
    }

    pub(crate) async fn instead_of(
        &self,
        it: Named,
        refused: &Secret,
        patience: Patience,
    ) -> Result<Secret, TokenError> {
        let opened = self.0.opened(it).await?;
        if !same(&opened.secret.token, refused) {
            return Ok(opened.secret.token);
        }
        let want = Want::InsteadOf(refused);
        self.renewed(it, opened, want, patience).await
    }

    /// Refreshes what is due until `stop`, then waits for what it began.
    pub async fn run(&self, stop: CancellationToken) {
        let due = self.0.tasks.clone();
        while !stop.is_cancelled() {
            let now = (self.0.clock)();
            let listed = self.0.store.refreshes_due(now, DUE_AT_ONCE as u32).await;
            let listed = listed.unwrap_or_else(|error| {
                tracing::error!(%error, "tokens that are due cannot be listed");
                Vec::new()
            });
            let all = listed.len();
            let attempts = listed.into_iter().map(|it| {
                let inner = Arc::clone(&self.0);
                due.spawn(async move { inner.look(it).await })
            });
            for attempt in attempts.collect::<Vec<_>>() {
                let _ended = attempt.await;
            }
            // As many as could be: there may be more.
            if all < DUE_AT_ONCE {
                let _stopped = stop.run_until_cancelled(tokio::time::sleep(DUE_LOOK)).await;
            }
        }
        self.close().await;
    }

    /// Waits for refreshes under way: their new tokens are stored before this returns.
    pub async fn close(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Refreshes, or waits for whoever does.
    async fn renewed(
        &self,
        it: Named,
        opened: Opened,
        want: Want<'_>,
        patience: Patience,
    ) -> Result<Secret, TokenError> {
        if opened.refresh().is_none() {
            return Err(TokenError::NoRefreshToken);
        }
        let before = match want {
            Want::Fresh => opened.secret.token,
            Want::InsteadOf(refused) => Secret::new(refused.expose().to_owned()),
        };
        let until = tokio::time::Instant::now() + REFRESH_WAIT;
        let (mut pause, most) = REFRESH_LOOK;
        loop {
            let (inner, known) = (Arc::clone(&self.0), before.copy());
            let attempt = self
                .0
                .tasks
                .spawn(async move { inner.attempt(it.due(), &known, patience).await });
            match attempt.await.unwrap_or(Ok(Attempt::Held))? {
                Attempt::Token(token) => return Ok(token),
                Attempt::Over(error) => return Err(error),
                Attempt::Held if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(most);
                }
                Attempt::Held => return Err(TokenError::Failed { said: None }),
            }
        }
    }
}

/// What came of one attempt.
enum Attempt {
    /// A token that is not the one before.
    Token(Secret),
    /// There will be none now.
    Over(TokenError),
    /// Somebody else is at it.
    Held,
}

impl Named {
    const fn due(self) -> Due {
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

    fn open(&self, workspace: WorkspaceId, row: CredentialRow) -> Result<Opened, TokenError> {
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

    /// One look at a credential whose time has come.
    async fn look(&self, it: Due) {
        let looked = self.looked(it).await;
        if let Err(error) = looked {
            let credential_id = it.credential.to_string();
            tracing::warn!(credential_id, %error, "an access token was not refreshed ahead of its expiry");
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
        let opened = match self.open(it.workspace, *row) {
            Ok(opened) => opened,
            Err(error) => {
                // Nothing to be done until it changes.
                self.untried(it, holder, None).await?;
                return Err(error);
            }
        };
        let due = opened.refresh().and_then(|_| due(&opened.oauth));
        if due.is_none_or(|due| due > now) {
            return self.untried(it, holder, due).await;
        }
        match self.exchange(it, (holder, failures), opened).await? {
            Attempt::Over(error) => Err(error),
            Attempt::Token(_) | Attempt::Held => Ok(()),
        }
    }

    /// Takes the lease and refreshes, unless the token is another one than `known` already.
    async fn attempt(
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
        let opened = self.open(it.workspace, *row)?;
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
    async fn untried(
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
            Err(error) => self.failed(it, (holder, failures), error).await,
        }
    }

    async fn failed(
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

    /// Stores new tokens. The credential may have changed meanwhile: if its tokens are still those that were
    /// spent, the new ones belong there; if not, its owner has given it others.
    async fn renew(
        &self,
        it: Due,
        holder: Holder,
        opened: Opened,
        grant: Grant,
    ) -> Result<Attempt, TokenError> {
        let spent = opened.secret.refresh_token.as_ref().map(Secret::copy);
        let (used, mut current) = (opened.secret.token.copy(), opened);
        loop {
            let now = (self.clock)();
            let mut oauth = current.oauth.clone();
            oauth.expires_at = grant.expires_at;
            let rest = after(now, REFRESH_REST);
            let settled = Settled {
                due_at: due(&oauth).map(|due| due.max(rest)),
                retry_at: rest,
                outcome: self.outcome(it, &current, oauth, &grant)?,
            };
            match self.store.settle_refresh(it, holder, settled, now).await {
                Ok(()) => return Ok(Attempt::Token(grant.access_token)),
                Err(store::Error::Conflict(Conflict::Revision { .. })) => {}
                Err(error) => return Err(error.into()),
            }
            let row = self
                .store
                .credential(it.workspace, it.vault, it.credential)
                .await?;
            current = self.open(it.workspace, row)?;
            let kept = match (&current.secret.refresh_token, &spent) {
                (Some(now), Some(spent)) => same(now, spent),
                _ => false,
            };
            if !kept || !same(&current.secret.token, &used) {
                self.untried(it, holder, due(&current.oauth)).await?;
                return Ok(Attempt::Token(current.secret.token));
            }
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

/// Whether the token is as good as expired.
fn is_over(oauth: &McpOauth, now: Micros) -> bool {
    let soon = after(now, SKEW);
    oauth.expires_at.is_some_and(|at| at <= soon)
}

/// When to refresh it ahead of its expiry; none if it is not known to expire.
fn due(oauth: &McpOauth) -> Option<Micros> {
    let ahead = i64::try_from(REFRESH_AHEAD.as_micros()).unwrap_or(0);
    let before = |at: Micros| Micros(at.0.saturating_sub(ahead));
    oauth.expires_at.map(before)
}

/// The pause after one more failure.
fn pause(failures: u32) -> Duration {
    let (first, most) = FAILURE_PAUSE;
    first
        .saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX))
        .min(most)
}

fn same(one: &Secret, other: &Secret) -> bool {
    let (one, other) = (one.expose().as_bytes(), other.expose().as_bytes());
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}
