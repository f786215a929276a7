//! Asking a token endpoint for another access token (RFC 6749 §6), and judging what it answers. It stores
//! nothing, follows no redirect, and shows no secret.

use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use contract::credential::{Refresh, TokenAuth};
use contract::secret::Secret;
use contract::time::Micros;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::limits::{SHOWN_ANSWER, TOKEN_ANSWER};
use crate::scrub::scrub;
use crate::secret::CredentialSecret;

/// What a token endpoint gave.
#[derive(Debug)]
pub struct Grant {
    /// The access token.
    pub access_token: Secret,
    /// The next refresh token; none: the old one stays.
    pub refresh_token: Option<Secret>,
    /// When the access token expires, if it was said.
    pub expires_at: Option<Micros>,
}

/// What a foreign server answered, fit to be shown: without the secrets it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its status.
    pub status: u16,
    /// Its content type, if it said one.
    pub content_type: String,
    /// The beginning of its body.
    pub body: String,
    /// Whether there was more.
    pub truncated: bool,
}

/// Why there is no other access token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GrantError {
    /// The server says that the grant, or the client, is not valid: asking again is of no use.
    #[error("the authorization server refuses the refresh token ({reason})")]
    Refused {
        /// Its code, as RFC 6749 §5.2 names it.
        reason: String,
        /// What it answered.
        answer: Shown,
    },
    /// It answered something else; later it may do better.
    #[error("the token endpoint answered {} and no token: {problem}", answer.status)]
    Answer {
        /// What is wrong with it.
        problem: &'static str,
        /// What it answered.
        answer: Shown,
    },
    /// It was not reached, or it did not answer in time.
    #[error("the token endpoint cannot be reached: {why}")]
    Unreachable {
        /// In words fit for a tenant.
        why: String,
    },
}

/// Codes after which asking again is of no use.
const FINAL: [&str; 6] = [
    "invalid_grant",
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_request",
];

#[derive(Deserialize)]
struct Told {
    access_token: Secret,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<Seconds>,
    #[serde(default)]
    refresh_token: Option<Secret>,
}

/// Some servers quote it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

#[derive(Deserialize)]
struct Problem {
    error: String,
}

/// How an authorization server is reached.
#[derive(Clone, Copy)]
pub(crate) struct Server<'s> {
    pub(crate) client: &'s reqwest::Client,
    pub(crate) mode: &'s dial::Mode,
    /// From name to last byte.
    pub(crate) timeout: Duration,
}

/// Asks for another access token.
///
/// Cancel safe: no. The server may have taken the refresh token back and given another that nobody has then;
/// run it in a task that is waited for.
///
/// # Errors
/// [`GrantError`].
pub(crate) async fn ask(
    server: Server<'_>,
    refresh: &Refresh,
    secret: &CredentialSecret,
    now: fn() -> Micros,
) -> Result<Grant, GrantError> {
    let unreachable = |why: String| GrantError::Unreachable { why };
    let url = Url::parse(&refresh.token_endpoint)
        .map_err(|_| unreachable("its URL is malformed".to_owned()))?;
    dial::check_url(server.mode, &url).map_err(|error| unreachable(error.to_string()))?;
    let mut request = server
        .client
        .post(url)
        .timeout(server.timeout)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form(refresh, secret));
    if refresh.token_endpoint_auth == TokenAuth::ClientSecretBasic {
        request = request.header(AUTHORIZATION, basic(refresh, secret));
    }
    let response = request
        .send()
        .await
        .map_err(|error| unreachable(reason(&error)))?;
    let status = response.status();
    let content_type = content_type(&response);
    let (body, more) = read(response, TOKEN_ANSWER)
        .await
        .map_err(|error| unreachable(reason(&error)))?;
    let shown = || shown(status, content_type.clone(), &body, more, &secrets(secret));
    if !status.is_success() {
        return Err(failed(status, &body, shown));
    }
    let answer = |problem| GrantError::Answer {
        problem,
        // What is no token may still have one in it.
        answer: Shown {
            body: String::new(),
            ..shown()
        },
    };
    if more {
        return Err(answer("the answer is too long"));
    }
    let told = serde_json::from_slice::<Told>(&body)
        .map_err(|_| answer("it is no JSON object with an `access_token`"))?;
    grant(told, now()).map_err(answer)
}

fn failed(status: StatusCode, body: &[u8], shown: impl Fn() -> Shown) -> GrantError {
    let code = serde_json::from_slice::<Problem>(body).map(|problem| problem.error);
    match code {
        Ok(code)
            if matches!(status.as_u16(), 400 | 401 | 403) && FINAL.contains(&code.as_str()) =>
        {
            GrantError::Refused {
                reason: code,
                answer: shown(),
            }
        }
        _ => GrantError::Answer {
            problem: if status.is_redirection() {
                "redirects are not followed with secrets"
            } else {
                "it is no answer of an authorization server"
            },
            answer: shown(),
        },
    }
}

fn grant(told: Told, now: Micros) -> Result<Grant, &'static str> {
    if told
        .token_type
        .is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer"))
    {
        return Err("its token is no bearer token");
    }
    let usable = |token: &Secret| {
        let text = token.expose();
        let fits = (1..=contract::limits::SECRET_BYTES).contains(&text.len());
        fits && !text.bytes().any(|byte| byte.is_ascii_control())
    };
    if !usable(&told.access_token) {
        return Err("its access token does not fit a header");
    }
    if told
        .refresh_token
        .as_ref()
        .is_some_and(|token| token.expose().len() > contract::limits::SECRET_BYTES)
    {
        return Err("its refresh token is too long");
    }
    let seconds = told.expires_in.and_then(|seconds| match seconds {
        Seconds::Number(seconds) => Some(seconds),
        Seconds::Text(text) => text.trim().parse().ok(),
    });
    // A life of more than ten years, or of none, is a mistake of the server: the token says when it ends.
    let life = seconds.filter(|seconds| (0.0..=315_360_000.0).contains(seconds));
    let expires_at = life.map(|seconds| after(now, Duration::from_secs_f64(seconds)));
    Ok(Grant {
        access_token: told.access_token,
        refresh_token: told
            .refresh_token
            .filter(|token| !token.expose().is_empty()),
        expires_at,
    })
}

/// `now` and a while.
pub(crate) fn after(now: Micros, while_: Duration) -> Micros {
    let micros = i64::try_from(while_.as_micros()).unwrap_or(i64::MAX);
    Micros(now.0.saturating_add(micros))
}

pub(crate) fn secrets(secret: &CredentialSecret) -> Vec<&Secret> {
    let others = [&secret.refresh_token, &secret.client_secret];
    let others = others.into_iter().filter_map(Option::as_ref);
    std::iter::once(&secret.token).chain(others).collect()
}

/// The request's body. Its memory is wiped when it was sent.
fn form(refresh: &Refresh, secret: &CredentialSecret) -> Bytes {
    let token = secret.refresh_token.as_ref().map_or("", Secret::expose);
    let client_secret = secret.client_secret.as_ref().map_or("", Secret::expose);
    let posts = refresh.token_endpoint_auth == TokenAuth::ClientSecretPost;
    let names = refresh.token_endpoint_auth != TokenAuth::ClientSecretBasic;
    let fields = [
        ("grant_type", Some("refresh_token")),
        ("refresh_token", Some(token)),
        ("client_id", names.then_some(refresh.client_id.as_str())),
        ("client_secret", posts.then_some(client_secret)),
        ("scope", refresh.scope.as_deref()),
        ("resource", refresh.resource.as_deref()),
    ];
    let present = || {
        fields
            .iter()
            .filter_map(|(name, value)| value.map(|v| (name, v)))
    };
    let room = present().map(|(name, value)| name.len() + 3 * value.len() + 2);
    let mut body = Zeroizing::new(Vec::with_capacity(room.sum()));
    for (name, value) in present() {
        if !body.is_empty() {
            body.push(b'&');
        }
        body.extend_from_slice(name.as_bytes());
        body.push(b'=');
        encode(value, &mut body);
    }
    Bytes::from_owner(body)
}

/// As HTML forms are encoded (RFC 6749 appendix B).
fn encode(text: &str, into: &mut Zeroizing<Vec<u8>>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b' ' => into.push(b'+'),
            b'*' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => into.push(byte),
            _ => into.extend_from_slice(&[
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]),
        }
    }
}

/// RFC 6749 §2.3.1: both parts are form-encoded first.
fn basic(refresh: &Refresh, secret: &CredentialSecret) -> HeaderValue {
    let client_secret = secret.client_secret.as_ref().map_or("", Secret::expose);
    let room = 3 * (refresh.client_id.len() + client_secret.len()) + 1;
    let mut pair = Zeroizing::new(Vec::with_capacity(room));
    encode(&refresh.client_id, &mut pair);
    pair.push(b':');
    encode(client_secret, &mut pair);
    let mut text = Zeroizing::new(String::with_capacity(6 + pair.len().div_ceil(3) * 4));
    text.push_str("Basic ");
    base64::engine::general_purpose::STANDARD.encode_string(&**pair, &mut text);
    sensitive(text)
}

/// `Bearer` and a token.
pub(crate) fn bearer(token: &Secret) -> HeaderValue {
    let mut text = Zeroizing::new(String::with_capacity(7 + token.expose().len()));
    text.push_str("Bearer ");
    text.push_str(token.expose());
    sensitive(text)
}

/// A header that no log shows and whose memory is wiped.
fn sensitive(text: Zeroizing<String>) -> HeaderValue {
    struct Wiped(Zeroizing<String>);
    impl AsRef<[u8]> for Wiped {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    let value = HeaderValue::from_maybe_shared(Bytes::from_owner(Wiped(text)));
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
    value.set_sensitive(true);
    value
}

pub(crate) fn content_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok());
    text.unwrap_or_default().chars().take(255).collect()
}

/// The body up to `limit` bytes, and whether there was more.
pub(crate) async fn read(
    mut response: Response,
    limit: usize,
) -> reqwest::Result<(Zeroizing<Vec<u8>>, bool)> {
    let mut body = Zeroizing::new(Vec::with_capacity(limit));
    while let Some(chunk) = response.chunk().await? {
        let room = limit - body.len();
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if chunk.len() > room {
            return Ok((body, true));
        }
    }
    Ok((body, false))
}

/// An answer as it may be shown.
pub(crate) fn shown(
    status: StatusCode,
    content_type: String,
    body: &[u8],
    more: bool,
    secrets: &[&Secret],
) -> Shown {
    // Scrubbed before it is cut: half a secret would not be found.
    let text = scrub(&String::from_utf8_lossy(body), secrets);
    let end = text.floor_char_boundary(SHOWN_ANSWER);
    Shown {
        status: status.as_u16(),
        content_type: scrub(&content_type, secrets),
        truncated: more || end < text.len(),
        body: text[..end].to_owned(),
    }
}

/// Why a server was not reached, without how this host is wired.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    if let Some(refused) = dial::find(error) {
        return refused.to_string();
    }
    let text = if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "the connection failed"
    } else {
        "the connection broke"
    };
    text.to_owned()
}
