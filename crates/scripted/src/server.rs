//! The HTTP side: routes, one exchange from request to response, start and shutdown. It owns its tasks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State as Shared};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::anthropic_check::{Refusal, invalid};
use crate::limits::{BACKLOG, BODY_BYTES};
use crate::prefix::{Prompt, Stats};
use crate::pump::{self, Answer, Frame};
use crate::script::{Step, Turn, results};
use crate::state::{Planned, Recorded, State};
use crate::{anthropic, anthropic_check, openai_chat, openai_chat_check};
use crate::{openai_responses, openai_responses_check};

/// Longest wait for connections to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// The server before it runs.
#[derive(Debug)]
pub struct Scripted;

/// A running server. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    state: Arc<State>,
}

impl Scripted {
    /// Starts on `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(addr: SocketAddr) -> std::io::Result<Running> {
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let listener = socket.listen(BACKLOG)?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State::default());
        let app = router(Arc::clone(&state));
        let stop = state.stop.clone();
        state.tasks.spawn(async move {
            let drained = stop.clone();
            // Answers are small and wait for nothing more.
            let listener = listener.tap_io(|stream| {
                if let Err(error) = stream.set_nodelay(true) {
                    eprintln!("scripted: TCP_NODELAY: {error}");
                }
            });
            let serve = axum::serve(
                listener,
                app.into_make_service_with_connect_info::<SocketAddr>(),
            )
            .with_graceful_shutdown(stop.cancelled_owned());
            let limit = async {
                drained.cancelled().await;
                tokio::time::sleep(DRAIN).await;
            };
            tokio::select! {
                _ended = serve => {}
                () = limit => {}
            }
        });
        Ok(Running { addr, state })
    }

    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start_local() -> std::io::Result<Running> {
        Scripted::start((Ipv4Addr::LOCALHOST, 0).into()).await
    }
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL for Anthropic clients; OpenAI ones (both) append `/v1`. An unspecified address is named by
    /// its loopback.
    #[must_use]
    pub fn base_url(&self) -> String {
        let ip = match self.addr.ip() {
            IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, self.addr.port()))
    }

    /// The requests so far, oldest first; a bounded log.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.requests()
    }

    /// Tokens and prefix breaks so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// Opens the gate `name` for good.
    pub fn release(&self, name: &str) {
        self.state.release(name);
    }

    /// Stops: ends streams and waits, then waits at most five seconds for connections. Idempotent.
    /// Cancel safe: yes; the server stops in any case.
    pub async fn shutdown(&self) {
        self.state.stop.cancel();
        self.state.tasks.close();
        self.state.tasks.wait().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.state.stop.cancel();
    }
}

fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/v1/messages", post(messages))
        .route("/chat/completions", post(chat))
        .route("/v1/chat/completions", post(chat))
        .route("/responses", post(responses))
        .route("/v1/responses", post(responses))
        .route("/_scripted/requests", get(requests))
        .route("/_scripted/stats", get(stats))
        .route("/_scripted/release/{name}", post(release))
        .route("/_scripted/script", post(play))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(state)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Anthropic,
    Chat,
    Responses,
}

async fn messages(
    Shared(state): Shared<Arc<State>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let index = state.record(peer, "/v1/messages", &headers, &body);
    exchange(&state, Dialect::Anthropic, index, &headers, &body).await
}

async fn chat(
    Shared(state): Shared<Arc<State>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let index = state.record(peer, "/chat/completions", &headers, &body);
    exchange(&state, Dialect::Chat, index, &headers, &body).await
}

async fn responses(
    Shared(state): Shared<Arc<State>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let index = state.record(peer, "/responses", &headers, &body);
    exchange(&state, Dialect::Responses, index, &headers, &body).await
}

async fn requests(Shared(state): Shared<Arc<State>>) -> Response {
    pump::json(200, None, &json!(state.requests()))
}

async fn stats(Shared(state): Shared<Arc<State>>) -> Response {
    pump::json(200, None, &json!(state.stats()))
}

async fn release(Shared(state): Shared<Arc<State>>, Path(name): Path<String>) -> Response {
    state.release(&name);
    pump::json(200, None, &json!({"released": name}))
}

async fn play(Shared(state): Shared<Arc<State>>, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(steps) => {
            state.play(steps);
            pump::json(200, None, &json!({}))
        }
        Err(error) => {
            let words = format!("the body is not an array of steps: {error}");
            let envelope = anthropic::error("invalid_request_error", &words);
            pump::json(400, None, &envelope)
        }
    }
}

async fn not_found(request: Request) -> Response {
    let words = format!("Not found: {} {}", request.method(), request.uri().path());
    pump::json(404, None, &anthropic::error("not_found_error", &words))
}

async fn exchange(
    state: &Arc<State>,
    dialect: Dialect,
    index: u64,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Response {
    match admit(state, dialect, headers, bytes) {
        Ok(admitted) => answer(state, dialect, index, admitted).await,
        Err(refusal) => refused(dialect, &refusal),
    }
}

fn refused(dialect: Dialect, refusal: &Refusal) -> Response {
    let envelope = match dialect {
        Dialect::Anthropic => anthropic::error(refusal.kind, &refusal.message),
        Dialect::Chat | Dialect::Responses => {
            openai_chat::error(refusal.status, Some(refusal.kind), &refusal.message)
        }
    };
    pump::json(refusal.status, None, &envelope)
}

/// A request that passed the checks.
struct Admitted {
    key: String,
    body: Value,
    turns: Vec<Turn>,
    prompt: Prompt,
    planned: Planned,
}

fn admit(
    state: &State,
    dialect: Dialect,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Result<Admitted, Refusal> {
    let key = match dialect {
        Dialect::Anthropic => anthropic_check::headers(headers)?,
        Dialect::Chat | Dialect::Responses => openai_chat_check::headers(headers)?,
    };
    let body: Value = serde_json::from_slice(bytes)
        .map_err(|e| invalid(format!("the body is not valid JSON: {e}")))?;
    let (turns, prompt) = match dialect {
        Dialect::Anthropic => {
            anthropic_check::body(&body)?;
            let turns = anthropic::turns(&body);
            let prompt = anthropic::prompt(bytes, &turns)?;
            (turns, prompt)
        }
        Dialect::Chat => {
            openai_chat_check::body(&body)?;
            (
                openai_chat::turns(&body),
                openai_chat::prompt(bytes, &body)?,
            )
        }
        Dialect::Responses => {
            openai_responses_check::body(&body)?;
            (
                openai_responses::turns(&body),
                openai_responses::prompt(bytes, &body)?,
            )
        }
    };
    let size = crate::prefix::tokens_of(bytes.len());
    let planned = state
        .plan(&format!("{dialect:?} {key}"), &turns, size)
        .map_err(invalid)?;
    Ok(Admitted {
        key,
        body,
        turns,
        prompt,
        planned,
    })
}

async fn answer(state: &Arc<State>, dialect: Dialect, index: u64, admitted: Admitted) -> Response {
    let Admitted {
        key,
        body,
        turns,
        prompt,
        planned: Planned { gates, step },
    } = admitted;
    for gate in &gates {
        // The handler is dropped when the client goes, so nobody waits for the dead.
        state.pass(gate).await;
    }
    if step.hang {
        state.stop.cancelled().await;
        return refused(
            dialect,
            &Refusal {
                status: 503,
                kind: "api_error",
                message: "shut down".to_owned(),
            },
        );
    }
    if let Some(status) = step.error {
        return failed(dialect, status, step.retry_after);
    }
    if step.too_long {
        return too_long(dialect);
    }
    if step.garbage {
        let bytes =
            "<html>502 from a proxy</html>\n\ndata: <html>not an event</html>\n\n".to_owned();
        return pump::stream(
            state,
            &step,
            vec![Frame {
                bytes,
                piece: false,
            }],
        );
    }
    let model = body
        .get("model")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let answer = Answer::of(
        &step,
        model,
        prompt.hash() ^ index.rotate_left(32),
        &results(&turns),
    );
    let tokens = state.count(index, &key, prompt);
    let streamed = body.get("stream") == Some(&true.into());
    match (dialect, streamed) {
        (Dialect::Anthropic, false) => pump::json(200, None, &anthropic::whole(&answer, tokens)),
        (Dialect::Chat, false) => pump::json(200, None, &openai_chat::whole(&answer, tokens)),
        (Dialect::Responses, false) => {
            let encrypt = openai_responses_check::wants_encrypted(&body);
            pump::json(
                200,
                None,
                &openai_responses::whole(&answer, tokens, encrypt),
            )
        }
        (dialect, true) => {
            let frames = stream_frames(dialect, &step, &answer, tokens, &body);
            pump::stream(state, &step, frames)
        }
    }
}

fn failed(dialect: Dialect, status: u16, retry_after: Option<u64>) -> Response {
    let words = format!("The script answers {status}.");
    let envelope = match dialect {
        Dialect::Anthropic => anthropic::error(anthropic::error_kind(status), &words),
        Dialect::Chat | Dialect::Responses => openai_chat::error(status, None, &words),
    };
    pump::json(status, retry_after, &envelope)
}

/// The request does not fit, in the dialect's own words.
fn too_long(dialect: Dialect) -> Response {
    let envelope = match dialect {
        Dialect::Anthropic => anthropic::error("invalid_request_error", anthropic::TOO_LONG),
        Dialect::Chat => {
            openai_chat::error(400, Some("context_length_exceeded"), openai_chat::TOO_LONG)
        }
        Dialect::Responses => openai_chat::error(
            400,
            Some("context_length_exceeded"),
            openai_responses::TOO_LONG,
        ),
    };
    pump::json(400, None, &envelope)
}

fn stream_frames(
    dialect: Dialect,
    step: &Step,
    answer: &Answer,
    tokens: crate::prefix::Tokens,
    body: &Value,
) -> Vec<Frame> {
    let usage = body.pointer("/stream_options/include_usage") == Some(&true.into());
    let encrypt = openai_responses_check::wants_encrypted(body);
    match (dialect, &step.error_event) {
        (Dialect::Anthropic, None) => anthropic::frames(answer, tokens),
        (Dialect::Anthropic, Some(kind)) => anthropic::failing(answer, tokens, kind),
        (Dialect::Chat, None) => openai_chat::frames(answer, tokens, usage),
        (Dialect::Chat, Some(kind)) => openai_chat::failing(answer, kind),
        (Dialect::Responses, None) => openai_responses::frames(answer, tokens, encrypt),
        (Dialect::Responses, Some(kind)) => openai_responses::failing(answer, kind),
    }
}
