//! Owns what is sent to a registry and to whom: which addresses may be dialled, where without TLS, who is shown the password
//! and the token. It believes no answer's content.
//!
//! **Whom it dials.** The registry that was named by the operator, wherever that is. What the registry itself names (another
//! place for a blob, one that gives out tokens) is dialled as what a tenant names: no private address, unless
//! `egress.allow_private` has it.
//!
//! **What is shown.** The token and the password go to the registry, the password to the place that it names for tokens too;
//! neither to where it sends for a blob.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::secret::Secret;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use url::Url;

use super::challenge::Challenge;
use super::reference::is_loopback;
use super::trouble::Trouble;

/// Places that one request may be sent on to.
const REDIRECTS: usize = 5;
/// How long a registry may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer that gives a token.
const TOKEN_BYTES: u64 = 256 << 10;
/// The longest that a registry may ask to be left alone.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// Who asks.
pub(crate) struct Login {
    /// The name.
    pub(crate) user: String,
    /// Its password, or a token that stands for one.
    pub(crate) password: Secret,
}

/// What an operator says of the way to a registry.
pub(crate) struct Access {
    /// Who asks; nobody in particular.
    pub(crate) login: Option<Login>,
    /// Whether other machines may be asked without TLS.
    pub(crate) plain_http: bool,
    /// What else may be dialled of what the registry names.
    pub(crate) lifted: dial::Policy,
}

/// One registry, asked about one repository.
pub(super) struct Client {
    registry: Url,
    repository: String,
    access: Access,
    /// For the registry itself.
    named: reqwest::Client,
    /// For what that names.
    others: (dial::Mode, reqwest::Client),
    authorization: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<Secret>,
    access_token: Option<Secret>,
}

impl Client {
    /// # Errors
    /// The TLS roots of this system cannot be read.
    pub(super) fn new(registry: Url, repository: String, access: Access) -> anyhow::Result<Self> {
        let options = dial::Options {
            read_timeout: Some(SILENCE),
            // What is unpacked on the way has no digest that anybody said.
            gzip: false,
            ..dial::Options::default()
        };
        let client = |mode: &dial::Mode| {
            dial::client(mode, &options).context("cannot make a client for a registry")
        };
        let guarded = dial::Mode::guarded(access.lifted.clone());
        Ok(Self {
            named: client(&dial::Mode::Exempt)?,
            others: (guarded.clone(), client(&guarded)?),
            registry,
            repository,
            access,
            authorization: None,
        })
    }

    /// Asks for something of the repository: `manifests/latest`, `blobs/sha256:…`, from that byte on.
    ///
    /// # Errors
    /// [`Trouble`]: it is not there, may not be had, or does not come just now.
    pub(super) async fn get(
        &mut self,
        what: &str,
        accept: &'static str,
        from: u64,
    ) -> Result<Response, Trouble> {
        let path = format!("v2/{}/{what}", self.repository);
        let url = self.registry.join(&path).context("no path")?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if from > 0 {
            let range = HeaderValue::try_from(format!("bytes={from}-")).context("no number")?;
            headers.insert(RANGE, range);
        }
        let mut response = self.sent(&url, &headers).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.authorization = Some(self.authorized(&response).await?);
            response = self.sent(&url, &headers).await?;
        }
        judged(response, &path)
    }

    /// Sends it, and on to where the registry says.
    async fn sent(&self, first: &Url, headers: &HeaderMap) -> Result<Response, Trouble> {
        let mut url = first.clone();
        for _ in 0..=REDIRECTS {
            let mut headers = headers.clone();
            if let Some(authorization) = self.authorization.as_ref().filter(|_| self.is_own(&url)) {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            let client = self.dialled(&url)?;
            let response = client.get(url.clone()).headers(headers).send().await;
            let response = response.map_err(|error| Trouble::sending(error, &url))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let to = response.headers().get(LOCATION);
            let to = to.and_then(|to| to.to_str().ok());
            let to = to.and_then(|to| url.join(to).ok());
            url = to.with_context(|| format!("{} sends on to nowhere", shown(&url)))?;
        }
        Err(anyhow!("{} sends on too often", shown(first)).into())
    }

    /// Whether a URL is the registry's own, by scheme, host and port.
    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.registry.origin()
    }

    /// Whose client a URL is dialled with, if it may be.
    fn dialled(&self, url: &Url) -> anyhow::Result<&reqwest::Client> {
        if self.is_own(url) {
            return Ok(&self.named);
        }
        let (mode, client) = &self.others;
        dial::check_url(mode, url)
            .with_context(|| format!("{} names {}", shown(&self.registry), shown(url)))?;
        let is_secure = url.scheme() == "https" || is_loopback(url) || self.access.plain_http;
        ensure!(
            is_secure && (url.scheme() == "https" || self.registry.scheme() == "http"),
            "{} names {}, which is without TLS",
            shown(&self.registry),
            shown(url)
        );
        Ok(client)
    }

    /// What the registry is shown from now on.
    async fn authorized(&self, refusal: &Response) -> Result<HeaderValue, Trouble> {
        let asked = refusal.headers().get_all(WWW_AUTHENTICATE).iter();
        let asked: Vec<&str> = asked.filter_map(|asked| asked.to_str().ok()).collect();
        let challenge = Challenge::read(&asked.join(", "));
        let challenge = challenge
            .context("the registry refuses, and does not say what it wants to be shown")?;
        match (challenge, self.basic()?) {
            (Challenge::Basic, Some(basic)) => Ok(basic),
            (Challenge::Basic, None) => Err(anyhow!(
                "the registry wants a name and a password: --user NAME, and the password on standard input"
            )
            .into()),
            (Challenge::Bearer { realm, service }, basic) => {
                self.token(&realm, service.as_deref(), basic).await
            }
        }
    }

    fn basic(&self) -> anyhow::Result<Option<HeaderValue>> {
        let Some(login) = &self.access.login else {
            return Ok(None);
        };
        let pair = Secret::new(format!("{}:{}", login.user, login.password.expose()));
        let text = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
        Ok(Some(hidden(&text)?))
    }

    /// Fetches a token to read the repository.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        basic: Option<HeaderValue>,
    ) -> Result<HeaderValue, Trouble> {
        let mut url = Url::parse(realm).context("the registry names no place for tokens")?;
        let scope = format!("repository:{}:pull", self.repository);
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let mut request = self.dialled(&url)?.get(url.clone());
        if let Some(basic) = basic {
            request = request.header(AUTHORIZATION, basic);
        }
        let response = request.send().await;
        let response = response.map_err(|error| Trouble::sending(error, &url))?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(anyhow!("{} gives out no token: {}", shown(&url), self.refused()).into());
        }
        let response = judged(response, &shown(&url))?;
        let bytes = Secret::new(
            String::from_utf8(whole(response, TOKEN_BYTES).await?)
                .context("the token's answer is no text")?,
        );
        // Its own words may have the token in them.
        let read: Result<Token, _> = serde_json::from_str(bytes.expose());
        let read = read.map_err(|_| anyhow!("{} answers with no token", shown(&url)))?;
        let token = read.token.or(read.access_token);
        let token = token.with_context(|| format!("{} answers with no token", shown(&url)))?;
        let text = Secret::new(format!("Bearer {}", token.expose()));
        Ok(hidden(&text)?)
    }

    /// What somebody can do about a refusal.
    fn refused(&self) -> &'static str {
        match self.access.login {
            Some(_) => "it takes neither that name nor that password",
            None => "it wants to know who asks (--user NAME, and the password on standard input)",
        }
    }
}

/// A header that nobody prints.
fn hidden(text: &Secret) -> anyhow::Result<HeaderValue> {
    let value = HeaderValue::try_from(text.expose());
    // The error would show what it was.
    let mut value =
        value.map_err(|_| anyhow!("what is to be shown to the registry is no header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A URL without what may be secret in it: a signature in its query.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// An answer that gives what was asked for.
fn judged(response: Response, what: &str) -> Result<Response, Trouble> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let wait = response.headers().get(RETRY_AFTER);
    let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
    let wait = wait.map(|seconds| Duration::from_secs(seconds).min(LEFT_ALONE));
    let said = anyhow!(match status {
        StatusCode::NOT_FOUND => format!("{what} is not there"),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!(
            "{what} is not for who asks, or not there ({status}); --user NAME says who that is"
        ),
        other => format!("{what}: the answer is {other}"),
    });
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(Trouble::Passing(said, wait))
        }
        status if status.is_server_error() => Err(Trouble::Passing(said, wait)),
        _ => Err(said.into()),
    }
}

/// All of an answer.
///
/// # Errors
/// It was cut, or has more than so many bytes.
pub(super) async fn whole(mut response: Response, most: u64) -> Result<Vec<u8>, Trouble> {
    let url = response.url().clone();
    let mut bytes = Vec::new();
    loop {
        let piece = response.chunk().await;
        match piece.map_err(|error| Trouble::sending(error, &url))? {
            None => return Ok(bytes),
            Some(piece) if (bytes.len() + piece.len()) as u64 <= most => bytes.extend(piece),
            Some(_) => return Err(too_large(&url, most).into()),
        }
    }
}

fn too_large(url: &Url, most: u64) -> anyhow::Error {
    anyhow!("{} answers with more than {most} bytes", shown(url))
}
