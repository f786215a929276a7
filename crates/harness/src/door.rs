//! The door to the session's model for programs in its sandbox: a socket in the sandbox's own network, held outside, that
//! answers the one path of the provider's dialect for whoever shows the session's stand-in. It holds the key, decides
//! nothing about money ([`Account`] does), and must never let an answer end before what it has used is counted.
//!
//! A request that has begun goes on to its end although its program has gone: what it costs is then counted whole.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody as BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use model::{Client, Dialect, Endpoint, Error, Failure, Passing, Piece, Usage};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accepted::accepted;
use crate::bodies::{self, Hold, Share};
use crate::limits::{DOOR_CONNECTIONS, DOOR_HEAD, DOOR_REQUESTS, FOREIGN_AGAIN};

/// The port of the door on the loopback of each sandbox: below those that the kernel gives to whoever connects.
pub const DOOR_PORT: u16 = 9_797;

/// Pieces of an answer that may wait for a program that reads slowly: as many as its bytes can be, since an event has eight
/// at least.
const PIECES: usize = model::limits::PASSED_BYTES / 8;

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Where what is spent at the door is the session's.
#[async_trait]
pub trait Account: Send + Sync {
    /// Whether that model may be asked now.
    ///
    /// # Errors
    /// Why not, with the status to say it by.
    async fn may_ask(&self, model: &str) -> Result<(), Closed>;

    /// Counts a request that has ended. When it returns, that is durable, or cannot be had.
    async fn count(&self, model: &str, usage: &Usage, took: Duration, is_error: bool);

    /// Cancelled when what is in flight must end: an interrupt, or the end of the turn.
    fn cancelled(&self) -> CancellationToken;
}

/// Why the door is closed to a request.
#[derive(Debug, Clone)]
pub struct Closed {
    /// The status of the answer.
    pub status: u16,
    /// One line.
    pub why: String,
}

/// What is behind a door.
pub struct Behind {
    /// Asks the provider.
    pub client: Client,
    /// The provider.
    pub endpoint: Endpoint,
    /// What opens the door.
    pub stand_in: String,
    /// Who pays.
    pub account: Arc<dyn Account>,
}

/// An open door. Dropped, its connections end at once, and what is in flight goes on to its end.
pub struct Door {
    accepting: JoinSet<()>,
    asking: TaskTracker,
}

impl Door {
    /// Opens it on that listener.
    #[must_use]
    pub fn open(listener: TcpListener, behind: Behind) -> Self {
        let asking = TaskTracker::new();
        let keeper = Keeper {
            behind: Arc::new(behind),
            room: Arc::new(Semaphore::new(DOOR_REQUESTS)),
            share: Share::default(),
            asking: asking.clone(),
        };
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, keeper));
        Self { accepting, asking }
    }

    /// Waits until all that is in flight has ended and is counted; nobody is let in any more. Its [`Account`] has to
    /// cancel what is not to be waited for. Cancel safe: it is closed then.
    pub async fn close(mut self) {
        // Waits, so that the next one finds the port free.
        self.accepting.shutdown().await;
        self.asking.close();
        self.asking.wait().await;
    }
}

async fn accept(listener: TcpListener, keeper: Keeper) {
    accepted(&listener, DOOR_CONNECTIONS, move |stream| {
        let keeper = keeper.clone();
        async move {
            let answer = service_fn(|request| {
                let keeper = keeper.clone();
                async move { Ok::<_, Infallible>(keeper.answer(request).await) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(DOOR_HEAD);
            // How it ended matters to nobody.
            let _ = http.serve_connection(TokioIo::new(stream), answer).await;
        }
    })
    .await;
}

#[derive(Clone)]
struct Keeper {
    behind: Arc<Behind>,
    room: Arc<Semaphore>,
    share: Share,
    asking: TaskTracker,
}

impl Keeper {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        match self.begun(request).await {
            Ok(answer) => answer,
            Err(closed) => {
                let again = (closed.status == 429).then_some(FOREIGN_AGAIN);
                self.problem(&closed, again)
            }
        }
    }

    async fn begun(&self, request: Request<Incoming>) -> Result<Answer, Closed> {
        let (head, body) = request.into_parts();
        let dialect = self.behind.endpoint.dialect;
        // Whoever has no key learns nothing, not even which path there is.
        if !self.knows(&head.headers) {
            return Err(closed(401, "this key opens nothing here"));
        }
        if head.uri.authority().is_some() || head.uri.path() != path(dialect) {
            let why = format!("only {} is here", path(dialect));
            return Err(closed(404, why));
        }
        if head.method != Method::POST {
            return Err(closed(405, "only POST"));
        }
        let cancel = self.behind.account.cancelled();
        let room = Arc::clone(&self.room).acquire_owned();
        let admitted = async { (room.await, bodies::read(body, &self.share).await) };
        let (room, read) = match cancel.run_until_cancelled(admitted).await {
            Some((Ok(room), read)) => (room, read),
            _ => return Err(failed(&Error::Cancelled)),
        };
        let (body, hold) = read.map_err(|it| closed(it.status(), it.to_string()))?;
        let betas = head.headers.get("anthropic-beta");
        let betas = betas.and_then(|it| it.to_str().ok()).map(str::to_owned);
        let passing = Passing::read(dialect, body, betas);
        let passing = passing.map_err(|refused| closed(400, refused.to_string()))?;
        self.behind.account.may_ask(passing.model()).await?;
        Ok(self.passed(passing, (room, hold)).await)
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let bearer = bearer.and_then(|it| it.strip_prefix(b"Bearer "));
        let key = headers.get("x-api-key").map(HeaderValue::as_bytes);
        let known = self.behind.stand_in.as_bytes();
        let shown = key.into_iter().chain(bearer);
        shown.fold(false, |is_known, shown| {
            is_known | verify_slices_are_equal(shown, known).is_ok()
        })
    }

    /// Asks in a task of its own, which outlives whoever asked.
    async fn passed(&self, passing: Passing, room: (OwnedSemaphorePermit, Hold)) -> Answer {
        let streams = passing.streams();
        let (pieces, mut heard) = mpsc::channel(PIECES);
        let (end, ended) = oneshot::channel();
        self.asking
            .spawn(ask(Arc::clone(&self.behind), room, passing, pieces, end));
        let first = heard.recv().await;
        match first {
            Some(Piece::Event(text)) if streams => self.streamed(text, heard, ended),
            first => match (first, ended.await) {
                (Some(Piece::Whole(body)), Ok(Ok(()))) => {
                    answer(StatusCode::OK, "application/json", Bytes::from(body))
                }
                (_, Ok(Err(error))) => self.problem(&failed(&error), error.retry_after()),
                _ => self.problem(&closed(502, "the model gave no answer"), None),
            },
        }
    }

    /// An answer that goes back as it comes. An event waits for the next one, and the last until all is counted.
    fn streamed(
        &self,
        first: String,
        heard: mpsc::Receiver<Piece>,
        ended: oneshot::Receiver<Result<(), Error>>,
    ) -> Answer {
        let dialect = self.behind.endpoint.dialect;
        let pieces = stream::unfold(Some((first, heard, ended)), move |going| async move {
            let (held, mut heard, ended) = going?;
            if let Some(Piece::Event(next)) = heard.recv().await {
                return Some((held, Some((next, heard, ended))));
            }
            let last = match ended.await {
                Ok(Ok(())) => held,
                Ok(Err(error)) => held + &cut(dialect, &error.to_string()),
                Err(_) => held + &cut(dialect, "the answer was cut"),
            };
            Some((last, None))
        });
        let frames = futures_util::StreamExt::map(pieces, |piece| {
            Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(piece)))
        });
        let mut response = Response::new(StreamBody::new(Box::pin(frames)).boxed_unsync());
        let kind = HeaderValue::from_static("text/event-stream");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    /// An error in the words of the dialect.
    fn problem(&self, closed: &Closed, retry_after: Option<Duration>) -> Answer {
        let error = error_body(
            self.behind.endpoint.dialect,
            kind(closed.status),
            &closed.why,
        );
        let body = Bytes::from(error.to_string());
        let status = StatusCode::from_u16(closed.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut answer = answer(status, "application/json", body);
        if let Some(wait) = retry_after {
            let seconds = HeaderValue::from(wait.as_secs().max(1));
            answer.headers_mut().insert(RETRY_AFTER, seconds);
        }
        answer
    }
}

/// One request to its end, and its bill. What it says is in memory until it is answered.
async fn ask(
    behind: Arc<Behind>,
    (room, hold): (OwnedSemaphorePermit, Hold),
    passing: Passing,
    pieces: mpsc::Sender<Piece>,
    end: oneshot::Sender<Result<(), Error>>,
) {
    let cancel = behind.account.cancelled();
    let model = passing.model().to_owned();
    let begun = Instant::now();
    let mut hold = Some(hold);
    // There is room for all; nobody may be listening any more.
    let mut hand_on = |piece| {
        hold = None;
        drop(pieces.try_send(piece));
    };
    let asked = behind
        .client
        .pass(&behind.endpoint, passing, &cancel, &mut hand_on);
    let (usage, ended) = match asked.await {
        Ok(usage) => (usage, Ok(())),
        Err(Failure {
            error,
            partial_usage,
        }) => (partial_usage, Err(error)),
    };
    // A failure that cost nothing is its program's own matter.
    if ended.is_ok() || usage != Usage::default() {
        let took = begun.elapsed();
        behind
            .account
            .count(&model, &usage, took, ended.is_err())
            .await;
    }
    // Whoever hears of the end finds the room.
    drop((room, hold));
    let _ = end.send(ended);
    drop(pieces);
}

fn failed(error: &Error) -> Closed {
    closed(error.status(), error.to_string())
}

fn closed(status: u16, why: impl Into<String>) -> Closed {
    let why = why.into();
    Closed { status, why }
}

/// The one path that is answered, as its clients write it behind the base URL of [`variables`].
const fn path(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::AnthropicMessages => "/v1/messages",
        Dialect::OpenAiChat => "/v1/chat/completions",
        Dialect::OpenAiResponses => "/v1/responses",
    }
}

/// The variables by which clients of that dialect find the door, with their values.
#[must_use]
pub fn variables(dialect: Dialect, stand_in: &str) -> [(String, String); 2] {
    let base = format!("http://127.0.0.1:{DOOR_PORT}");
    let (prefix, base) = match dialect {
        Dialect::AnthropicMessages => ("ANTHROPIC", base),
        Dialect::OpenAiChat | Dialect::OpenAiResponses => ("OPENAI", format!("{base}/v1")),
    };
    [
        (format!("{prefix}_BASE_URL"), base),
        (format!("{prefix}_API_KEY"), stand_in.to_owned()),
    ]
}

/// The name of the kind of error that has this status.
pub(crate) const fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn error_body(dialect: Dialect, kind: &str, why: &str) -> Value {
    match dialect {
        Dialect::AnthropicMessages => {
            json!({"type": "error", "error": {"type": kind, "message": why}})
        }
        Dialect::OpenAiChat | Dialect::OpenAiResponses => {
            json!({"error": {"message": why, "type": kind, "param": null, "code": null}})
        }
    }
}

/// The end of a stream that has none.
fn cut(dialect: Dialect, why: &str) -> String {
    let error = error_body(dialect, "api_error", why);
    match dialect {
        Dialect::OpenAiChat => format!("data: {error}\n\n"),
        Dialect::AnthropicMessages | Dialect::OpenAiResponses => {
            format!("event: error\ndata: {error}\n\n")
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
