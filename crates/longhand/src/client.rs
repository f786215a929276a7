//! The API as the commands speak it: over HTTP to `--url`, over the control socket of the server that runs
//! here, or, if none runs, to the same handlers in this process under the data directory's lock. It never
//! retries a write, and no key that it holds is ever printed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Body;
use bytes::Bytes;
use contract::secret::Secret;
use futures_util::stream;
use http_body_util::BodyExt as _;
use reqwest::Method;
use serde_json::Value;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use crate::cli::Reach;
use crate::config::Config;
use crate::data_dir::{DataDir, Lock};
use crate::serve;
use crate::stream::Stream;

const VERSION: &str = "2026-10-21";
const BETA: &str = "managed-agents-2026-04-01";
/// How long a server may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may take to answer; a backup copies the whole database first.
const ANSWER: Duration = Duration::from_secs(600);

/// What the server said no to, with what to try next.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", request.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default())]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    message: String,
    request: Option<String>,
    /// What to try next, if we know.
    pub hint: Option<String>,
}

/// A way to the API.
pub struct Client {
    how: How,
    workspace: Option<String>,
}

enum How {
    Http {
        client: reqwest::Client,
        base: String,
        key: Option<Secret>,
        /// For the text of an error.
        server: String,
    },
    Here {
        offline: serve::Offline,
        _lock: Lock,
    },
}

/// An answer whose bytes come as they come.
pub enum Exchange {
    /// From a server.
    Http(reqwest::Response),
    /// From this process.
    Here(Body),
}

impl Exchange {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or the server cut the answer.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self {
            Self::Http(response) => response.chunk().await.context("the answer was cut"),
            Self::Here(body) => loop {
                let Some(frame) = body.frame().await else {
                    return Ok(None);
                };
                if let Ok(bytes) = frame.context("the answer was cut")?.into_data() {
                    return Ok(Some(bytes));
                }
            },
        }
    }
}

impl Client {
    /// Finds the server that the command line means.
    ///
    /// # Errors
    /// The data directory or its database cannot be opened, or `--url` came without a key.
    pub async fn open(
        reach: &Reach,
        config: &Config,
        data_dir: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let how = match &reach.url {
            Some(url) => remote(url, reach)?,
            None => local(config, DataDir::open(data_dir)?).await?,
        };
        Ok(Self {
            how,
            workspace: reach.workspace.clone(),
        })
    }

    /// A client of the server at `url`.
    ///
    /// # Errors
    /// The TLS roots of this system cannot be loaded.
    pub fn remote(url: &str, key: Secret) -> anyhow::Result<Self> {
        Ok(Self {
            how: http(url, Some(key), None)?,
            workspace: None,
        })
    }

    /// Whether a server runs behind it: without one, what is sent waits for the next start.
    #[must_use]
    pub const fn is_served(&self) -> bool {
        matches!(self.how, How::Http { .. })
    }

    /// `GET`.
    ///
    /// # Errors
    /// [`Refused`], or the server cannot be reached.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// `POST`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.call(Method::POST, path, body).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::DELETE, path, None).await
    }

    /// `GET` of bytes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn download(&self, path: &str) -> anyhow::Result<Exchange> {
        self.begin(Method::GET, path, None).await
    }

    /// `POST` of what comes out of `queue`, for as long as it does; the answer may come meanwhile.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn exchange(
        &self,
        path: &str,
        media: &'static str,
        queue: mpsc::Receiver<Bytes>,
    ) -> anyhow::Result<Exchange> {
        self.begin(Method::POST, path, Some((media, queue))).await
    }

    async fn begin(
        &self,
        method: Method,
        path: &str,
        sent: Option<(&'static str, mpsc::Receiver<Bytes>)>,
    ) -> anyhow::Result<Exchange> {
        let (media, queue) = sent.unzip();
        let pieces = queue.map(|queue| {
            stream::unfold(queue, async |mut queue: mpsc::Receiver<Bytes>| {
                let piece = queue.recv().await?;
                Some((Ok::<_, std::convert::Infallible>(piece), queue))
            })
        });
        let (status, mut exchange) = match &self.how {
            How::Http { client, server, .. } => {
                let mut request = self.request(client, method, path);
                if let (Some(media), Some(pieces)) = (media, pieces) {
                    request = request.header("content-type", media);
                    request = request.body(reqwest::Body::wrap_stream(pieces));
                }
                let response = request.send().await.with_context(|| unreachable(server))?;
                (response.status().as_u16(), Exchange::Http(response))
            }
            How::Here { offline, .. } => {
                let mut request = axum::http::Request::builder().method(method).uri(path);
                for (name, value) in self.headers() {
                    request = request.header(name, value);
                }
                if let Some(media) = media {
                    request = request.header("content-type", media);
                }
                let body = pieces.map_or_else(Body::empty, Body::from_stream);
                let response = offline.router.clone().oneshot(request.body(body)?).await?;
                (
                    response.status().as_u16(),
                    Exchange::Here(response.into_body()),
                )
            }
        };
        if (200..300).contains(&status) {
            return Ok(exchange);
        }
        let mut answer = Vec::new();
        while let Some(piece) = exchange.next().await? {
            answer.extend_from_slice(&piece);
        }
        Err(refused(status, path, &answer).into())
    }

    /// The items of a list, at most `limit` (all if none), page after page. `path` has a query already.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list(&self, path: &str, limit: Option<usize>) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut page = self.get(path).await?;
        loop {
            if let Some(data) = page["data"].as_array_mut() {
                items.append(data);
            }
            if let Some(limit) = limit.filter(|limit| items.len() >= *limit) {
                items.truncate(limit);
                return Ok(items);
            }
            let Some(next) = page["next_page"].as_str() else {
                return Ok(items);
            };
            page = self.get(&format!("{path}&page={next}")).await?;
        }
    }

    /// Opens a session's stream with previews, after `after` if that is given.
    ///
    /// # Errors
    /// As [`Client::get`]; no server runs.
    pub async fn stream(&self, session: &str, after: Option<&str>) -> anyhow::Result<Stream> {
        let path = format!(
            "/v1/sessions/{session}/events/stream?event_deltas%5B%5D=agent.message&event_deltas%5B%5D=agent.thinking"
        );
        self.stream_of(&path, after).await
    }

    /// Opens a stream of server-sent events, after the one with that id if it is given.
    ///
    /// # Errors
    /// As [`Client::get`]; no server runs.
    pub async fn stream_of(&self, path: &str, after: Option<&str>) -> anyhow::Result<Stream> {
        let How::Http { client, server, .. } = &self.how else {
            bail!("no server runs, so nothing happens; start one with `longhand serve`");
        };
        let mut request = self.request(client, Method::GET, path);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = request.send().await.with_context(|| unreachable(server))?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(Stream::new(response));
        }
        Err(refused(status, path, &response.bytes().await?).into())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let (status, answer) = match &self.how {
            How::Http { client, server, .. } => {
                let mut request = self.request(client, method, path).timeout(ANSWER);
                if let Some(body) = body {
                    request = request.json(body);
                }
                let response = request.send().await.with_context(|| unreachable(server))?;
                let status = response.status().as_u16();
                (status, response.bytes().await?.to_vec())
            }
            How::Here { offline, .. } => self.in_process(offline, &method, path, body).await?,
        };
        if !(200..300).contains(&status) {
            return Err(refused(status, path, &answer).into());
        }
        serde_json::from_slice(&answer).context("the answer is not JSON")
    }

    fn request(
        &self,
        client: &reqwest::Client,
        method: Method,
        path: &str,
    ) -> reqwest::RequestBuilder {
        let How::Http { base, key, .. } = &self.how else {
            return client.request(method, path);
        };
        let mut request = client.request(method, format!("{base}{path}"));
        for (name, value) in self.headers() {
            request = request.header(name, value);
        }
        match key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let workspace = self.workspace.as_deref();
        [("anthropic-version", VERSION), ("anthropic-beta", BETA)]
            .into_iter()
            .chain(workspace.map(|id| ("anthropic-workspace-id", id)))
    }

    async fn in_process(
        &self,
        offline: &serve::Offline,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Vec<u8>)> {
        let mut request = axum::http::Request::builder().method(method).uri(path);
        for (name, value) in self.headers() {
            request = request.header(name, value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = offline.router.clone().oneshot(request.body(body)?).await?;
        let status = response.status().as_u16();
        let answer = response.into_body().collect().await?.to_bytes().to_vec();
        Ok((status, answer))
    }

    /// Closes it; what was written in this process is flushed.
    pub async fn close(self) {
        if let How::Here { offline, .. } = self.how {
            offline.close().await;
        }
    }
}

fn remote(url: &str, reach: &Reach) -> anyhow::Result<How> {
    let Some(key) = &reach.api_key else {
        bail!("--url needs a key of that server: set LONGHAND_API_KEY, or give --api-key");
    };
    http(url, Some(Secret::new(key.trim().to_owned())), None)
}

fn http(url: &str, key: Option<Secret>, socket: Option<PathBuf>) -> anyhow::Result<How> {
    let mut client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT);
    let server = socket
        .as_ref()
        .map_or_else(|| url.to_owned(), |socket| socket.display().to_string());
    if let Some(socket) = socket {
        client = client.unix_socket(socket);
    }
    if !url.starts_with("https:") {
        // A host without any roots, such as a bare container, can speak to itself all the same.
        client = client.tls_certs_only(std::iter::empty::<reqwest::Certificate>());
    }
    Ok(How::Http {
        client: client
            .build()
            .context("the TLS roots of this system cannot be loaded")?,
        base: url.trim_end_matches('/').to_owned(),
        key,
        server,
    })
}

async fn local(config: &Config, data_dir: DataDir) -> anyhow::Result<How> {
    let Some(lock) = data_dir.try_lock()? else {
        return http("http://control", None, Some(data_dir.join("control.sock")));
    };
    // Whoever meant the server of another user sees it here.
    eprintln!(
        "No server runs on {}; working on the directory itself.",
        data_dir.path().display()
    );
    let offline = serve::offline(config, &data_dir).await?;
    Ok(How::Here {
        offline,
        _lock: lock,
    })
}

fn unreachable(server: &str) -> String {
    format!("the server does not answer on {server}; is it running (`longhand serve`)?")
}

fn refused(status: u16, path: &str, answer: &[u8]) -> Refused {
    let answer = serde_json::from_slice::<Value>(answer).unwrap_or_default();
    let message = answer["error"]["message"].as_str();
    let message = message.map_or_else(|| format!("the server answered {status}"), str::to_owned);
    Refused {
        hint: hint(status, path),
        request: answer["request_id"].as_str().map(str::to_owned),
        status,
        message,
    }
}

/// What to try next.
fn hint(status: u16, path: &str) -> Option<String> {
    let mut segments = path
        .split(['/', '?'])
        .filter(|word| !["", "v1", "x"].contains(word));
    let noun = segments.next().unwrap_or_default();
    let hint = match status {
        // The message names the field; nothing more is known here.
        400 | 409 => return None,
        401 => {
            "make a key on that server with `longhand keys create`, and set LONGHAND_API_KEY to it"
                .to_owned()
        }
        403 => "`longhand keys list` says whose a key is; /v1/x needs an operator's".to_owned(),
        404 if ["sessions", "agents", "environments", "vaults", "workspaces"].contains(&noun) => {
            format!(
                "`longhand {noun} list` shows those that exist; --workspace looks in another workspace"
            )
        }
        404 if noun == "sandboxes" => {
            "`longhand sandbox ps` shows those that exist; a session's has the session's id"
                .to_owned()
        }
        404 => "is that a Longhand server, and of this version? `longhand --version`".to_owned(),
        429 | 503 | 529 => "try again in a moment".to_owned(),
        _ => "the server's log has the cause under the request's id".to_owned(),
    };
    Some(hint)
}
