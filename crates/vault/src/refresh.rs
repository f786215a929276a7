//! Access tokens that are fresh: refreshed ahead of their expiry and when a server refuses them, by one at a time
//! over all servers of a store. New tokens are stored before anybody uses them.

mod attempt;
mod settle;

use std::sync::Arc;
use std::time::Duration;

use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::secret::Secret;
use contract::time::Micros;
use store::refreshes::Patience;
use store::{Store, clock};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::attempt::Opened;
use self::attempt::{Attempt, is_over, same};
use crate::handle::Vault;
use crate::limits::{
    DUE_AT_ONCE, DUE_LOOK, PROBES, REFRESH_LEASE, REFRESH_LOOK, REFRESH_WAIT, TOKEN_TIMEOUT,
};
use crate::oauth::GrantError;

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
    /// Nothing is begun any more, and what goes on is to come to its end.
    ending: CancellationToken,
}

/// Gives fresh access tokens. Cloning it clones a handle.
#[derive(Clone)]
pub struct Refresher(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Refresher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refresher(…)")
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
            ending: CancellationToken::new(),
        })))
    }

    /// The access token of a credential, refreshed first if it expires within [`crate::limits::SKEW`].
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
            let attempts = listed.into_iter().map(|it| {
                let inner = Arc::clone(&self.0);
                due.spawn(async move { inner.look(it).await })
            });
            let mut done = 0;
            for attempt in attempts.collect::<Vec<_>>() {
                // What is left at the stop is waited for below.
                let Some(looked) = stop.run_until_cancelled(attempt).await else {
                    break;
                };
                done += usize::from(looked.unwrap_or(false));
            }
            // As many as could be, and none of them is due any more: there may be others.
            if done < DUE_AT_ONCE {
                let _stopped = stop.run_until_cancelled(tokio::time::sleep(DUE_LOOK)).await;
            }
        }
        self.close().await;
    }

    /// Waits for refreshes under way: their new tokens are stored before this returns, unless the store takes none for as
    /// long as one question to a token endpoint may take.
    pub async fn close(&self) {
        self.0.ending.cancel();
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
            // One whose tokens cannot be stored goes on without us.
            let longest = until + self.0.token_timeout;
            let Ok(attempt) = tokio::time::timeout_at(longest, attempt).await else {
                return Err(TokenError::Failed { said: None });
            };
            match attempt.unwrap_or(Ok(Attempt::Held))? {
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
