//! Tries an OAuth credential at its MCP server (api.md §12.3): does the token open it, and if not, does another
//! one. What the servers say is shown without secrets. It keeps no session there.

use contract::credential::{
    HttpAnswer, McpProbe, RefreshAttempt, RefreshStatus, Validation, ValidationStatus,
    ValidationTag,
};
use contract::secret::Secret;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, Url};
use store::refreshes::Patience;

use crate::limits::{PROBE_TIMEOUT, TOKEN_ANSWER};
use crate::oauth::{GrantError, Shown, bearer, content_type, read, reason, secrets, shown};
use crate::refresh::{Inner, Named, Opened, Refresher, TokenError};

/// The version of MCP that we speak.
const PROTOCOL: &str = "2025-06-18";
const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";

/// A step that did not succeed.
struct Miss {
    method: &'static str,
    /// None: it was not reached.
    answer: Option<Shown>,
}

impl Miss {
    fn status(&self) -> Option<u16> {
        self.answer.as_ref().map(|answer| answer.status)
    }

    /// What it says of the credential. Of those that are no refusal, nothing is known.
    fn verdict(&self) -> ValidationStatus {
        match self.status() {
            Some(408 | 425 | 429) => ValidationStatus::Unknown,
            Some(400..=499) => ValidationStatus::Invalid,
            _ => ValidationStatus::Unknown,
        }
    }

    fn shown(self) -> McpProbe {
        McpProbe {
            method: self.method.to_owned(),
            http_response: self.answer.map(answer),
        }
    }
}

impl Refresher {
    /// Tries the credential; a 401 leads to a refresh and another try.
    ///
    /// Cancel safe: yes. A refresh that was begun goes on without its caller.
    ///
    /// # Errors
    /// [`TokenError`] if there is no such credential, or it is none to be tried. What servers do is an answer.
    pub async fn validate(&self, it: Named) -> Result<Validation, TokenError> {
        // Its secrets are open for no longer than it is tried.
        let _turn = self.0.probes.acquire().await;
        let opened = self.0.opened(it).await?;
        let mut found = Validation {
            kind: ValidationTag::VaultCredentialValidation,
            vault_id: it.vault,
            credential_id: it.credential,
            validated_at: (self.0.clock)(),
            status: ValidationStatus::Valid,
            has_refresh_token: opened.secret.refresh_token.is_some(),
            mcp_probe: None,
            refresh: None,
        };
        let Some(miss) = self.0.probe(&opened, &opened.secret.token).await else {
            return Ok(found);
        };
        if miss.status() != Some(401) {
            found.status = miss.verdict();
            found.mcp_probe = Some(miss.shown());
            return Ok(found);
        }
        let refreshed = self
            .instead_of(it, &opened.secret.token, Patience::Waived)
            .await;
        let (status, attempt, miss) = match refreshed {
            Ok(token) => {
                let again = self.0.probe(&opened, &token).await;
                let status = again
                    .as_ref()
                    .map_or(ValidationStatus::Valid, Miss::verdict);
                (status, attempt(RefreshStatus::Succeeded, None), again)
            }
            Err(error) => {
                let (status, attempt) = not_refreshed(error)?;
                (status, attempt, Some(miss))
            }
        };
        found.status = status;
        found.refresh = Some(attempt);
        found.mcp_probe = miss.map(Miss::shown);
        Ok(found)
    }
}

fn attempt(status: RefreshStatus, answer: Option<HttpAnswer>) -> RefreshAttempt {
    RefreshAttempt {
        status,
        http_response: answer,
    }
}

/// What a refresh that gave no token says of the credential.
fn not_refreshed(error: TokenError) -> Result<(ValidationStatus, RefreshAttempt), TokenError> {
    let (verdict, said) = match error {
        TokenError::NoRefreshToken => {
            let none = attempt(RefreshStatus::NoRefreshToken, None);
            return Ok((ValidationStatus::Invalid, none));
        }
        TokenError::Revoked { said } => (ValidationStatus::Invalid, said),
        TokenError::Failed { said } => (ValidationStatus::Unknown, said),
        TokenError::RefusedAfresh => (ValidationStatus::Invalid, None),
        other @ (TokenError::Kind { .. }
        | TokenError::Sealed(_)
        | TokenError::Stored(_)
        | TokenError::Store(_)) => return Err(other),
    };
    let attempt = match said {
        Some(GrantError::Unreachable { .. }) => attempt(RefreshStatus::ConnectError, None),
        Some(
            GrantError::Refused { answer: said, .. } | GrantError::Answer { answer: said, .. },
        ) => attempt(RefreshStatus::Failed, Some(answer(said))),
        None => attempt(RefreshStatus::Failed, None),
    };
    Ok((verdict, attempt))
}

fn answer(shown: Shown) -> HttpAnswer {
    HttpAnswer {
        status_code: shown.status,
        content_type: shown.content_type,
        body: shown.body,
        body_truncated: shown.truncated,
    }
}

impl Inner {
    /// `initialize`, then `tools/list`, as a client would; the step that failed, if one did.
    async fn probe(&self, opened: &Opened, token: &Secret) -> Option<Miss> {
        let hello = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": PROTOCOL, "capabilities": {},
            "clientInfo": {"name": "longhand", "version": env!("CARGO_PKG_VERSION")}}});
        let first = match self.step(opened, token, "initialize", &hello, None).await {
            Ok(answer) => answer,
            Err(miss) => return Some(miss),
        };
        let session = first.headers().get(SESSION).cloned();
        // Its body, a stream maybe, says nothing of the credential.
        drop(first);
        let ready = serde_json::json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let method = "notifications/initialized";
        if let Err(miss) = self
            .step(opened, token, method, &ready, session.as_ref())
            .await
        {
            return Some(miss);
        }
        let list = serde_json::json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
        let listed = self.step(opened, token, "tools/list", &list, session.as_ref());
        let miss = listed.await.err();
        if let Some(session) = session {
            self.goodbye(opened, token, session).await;
        }
        miss
    }

    async fn step(
        &self,
        opened: &Opened,
        token: &Secret,
        method: &'static str,
        message: &serde_json::Value,
        session: Option<&HeaderValue>,
    ) -> Result<Response, Miss> {
        let unreachable = |why: String| {
            tracing::debug!(method, why, "a probe did not reach its server");
            Miss {
                method,
                answer: None,
            }
        };
        let url = self.url(opened).map_err(unreachable)?;
        let mut request = self
            .client
            .post(url)
            .timeout(PROBE_TIMEOUT)
            .header(AUTHORIZATION, bearer(token))
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json")
            .body(message.to_string());
        if let Some(session) = session {
            request = request.header(SESSION, session);
        }
        if method != "initialize" {
            request = request.header(VERSION, PROTOCOL);
        }
        let sent = request.send().await;
        let response = sent.map_err(|error| unreachable(reason(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, kind) = (response.status(), content_type(&response));
        let (body, more) = read(response, TOKEN_ANSWER)
            .await
            .unwrap_or_else(|_| (Vec::new().into(), true));
        let mut told = secrets(&opened.secret);
        told.push(token);
        Err(Miss {
            method,
            answer: Some(shown(status, kind, &body, more, &told)),
        })
    }

    fn url(&self, opened: &Opened) -> Result<Url, String> {
        let url = Url::parse(opened.server()).map_err(|_| "its URL is malformed".to_owned())?;
        dial::check_url(&self.mode, &url).map_err(|error| error.to_string())?;
        Ok(url)
    }

    /// Ends the session, so that none is left there. Nobody waits for more than the answer.
    async fn goodbye(&self, opened: &Opened, token: &Secret, session: HeaderValue) {
        let Ok(url) = self.url(opened) else { return };
        let request = self
            .client
            .delete(url)
            .timeout(PROBE_TIMEOUT)
            .header(AUTHORIZATION, bearer(token))
            .header(SESSION, session)
            .header(VERSION, PROTOCOL);
        let _whatever = request.send().await;
    }
}
