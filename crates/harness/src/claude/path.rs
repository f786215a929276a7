//! The model path: where the loop in the sandbox asks its model. A socket in the sandbox's own network, held outside,
//! which speaks just enough HTTP to take one request of Anthropic Messages at a time and to give it its answer. It
//! reaches no model itself and holds no key: what is asked goes to the run, and what the run says goes back.
//!
//! Nothing here serves while no run does: connections wait in the kernel.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody as BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model::Words;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::accepted::accepted;
use crate::bodies::{self, Hold, Refused, Share};
use crate::door::kind;
use crate::limits::{FOREIGN_AGAIN, FOREIGN_CONNECTIONS, FOREIGN_PING};

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The listening end.
pub(crate) struct ModelPath {
    listener: Arc<TcpListener>,
    share: Share,
    at: SocketAddr,
    token: Arc<str>,
}

/// A request of the loop, and where its answer goes.
pub(crate) struct Asked {
    pub(crate) words: Words,
    /// The room of these words, for as long as they are in memory.
    pub(crate) hold: Hold,
    /// An event stream, whole. Dropped, the loop sees its connection end.
    pub(crate) answer: oneshot::Sender<String>,
}

/// The path while a run serves it. Dropped, every connection ends.
pub(crate) struct Serving {
    asked: mpsc::Receiver<Asked>,
    _tasks: JoinSet<()>,
}

impl ModelPath {
    /// Takes the listener over, with a credential that is good for nothing but this socket.
    ///
    /// # Errors
    /// No address, or no randomness.
    pub(crate) fn new(listener: TcpListener) -> std::io::Result<Self> {
        let mut token = [0_u8; 24];
        aws_lc_rs::rand::fill(&mut token).map_err(|_| std::io::ErrorKind::Other)?;
        let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::again(listener, &format!("stand-in-{token}"))
    }

    /// Takes the listener over for a loop that has this credential already.
    ///
    /// # Errors
    /// No address.
    pub(crate) fn again(listener: TcpListener, token: &str) -> std::io::Result<Self> {
        Ok(Self {
            at: listener.local_addr()?,
            listener: Arc::new(listener),
            share: Share::default(),
            token: token.into(),
        })
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.at.port()
    }

    /// The base URL, as the loop sees it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// What the loop takes for its key.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Serves until the answer is dropped.
    pub(crate) fn serve(&self) -> Serving {
        let (asks, asked) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        let door = Door {
            token: Arc::clone(&self.token),
            share: self.share.clone(),
            asks,
        };
        tasks.spawn(accept(Arc::clone(&self.listener), door));
        Serving {
            asked,
            _tasks: tasks,
        }
    }
}

impl Serving {
    /// The next request. Cancel safe: yes.
    pub(crate) async fn asked(&mut self) -> Option<Asked> {
        self.asked.recv().await
    }
}

async fn accept(listener: Arc<TcpListener>, door: Door) {
    accepted(&listener, FOREIGN_CONNECTIONS, move |stream| {
        let door = door.clone();
        async move {
            let answer = service_fn(|request| {
                let door = door.clone();
                async move { Ok::<_, Infallible>(door.answer(request).await) }
            });
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            // How it ended matters to nobody: what was asked and not answered is asked again.
            let _ = served.await;
        }
    })
    .await;
}

#[derive(Clone)]
struct Door {
    token: Arc<str>,
    share: Share,
    asks: mpsc::Sender<Asked>,
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        match (&head.method, head.uri.path()) {
            // It looks whether there is anybody before it asks.
            (&Method::HEAD | &Method::GET, "/" | "/api/hello") => {
                return plain(StatusCode::OK, &json!({}));
            }
            (&Method::POST, "/v1/messages") => {}
            _ => return problem(StatusCode::NOT_FOUND, "not_found_error", "not here"),
        }
        if !self.knows(&head.headers) {
            let why = "this key opens nothing here";
            return problem(StatusCode::UNAUTHORIZED, "authentication_error", why);
        }
        // The run takes one when it is the model's turn, and no sooner; until then the next one is not even read.
        let Ok(place) = self.asks.reserve().await else {
            let why = "nobody is there";
            return problem(StatusCode::SERVICE_UNAVAILABLE, "api_error", why);
        };
        let (body, hold) = match bodies::read(body, &self.share).await {
            Ok(read) => read,
            Err(why) => return refused(why),
        };
        if body.get("stream") != Some(&Value::Bool(true)) {
            let why = "the body must have \"stream\": true";
            return problem(StatusCode::BAD_REQUEST, "invalid_request_error", why);
        }
        let betas = head.headers.get("anthropic-beta");
        let betas = betas
            .and_then(|betas| betas.to_str().ok())
            .map(str::to_owned);
        let (answer, answered) = oneshot::channel();
        let words = Words {
            body,
            betas,
            effort: None,
        };
        place.send(Asked {
            words,
            hold,
            answer,
        });
        streamed(answered)
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let key = headers.get("x-api-key").map(http::HeaderValue::as_bytes);
        key.is_some_and(|key| verify_slices_are_equal(key, self.token.as_bytes()).is_ok())
    }
}

/// The answer when it has come; until then, signs of life.
fn streamed(answered: oneshot::Receiver<String>) -> Answer {
    let pieces = stream::unfold(Some(answered), |answered| async move {
        let mut answered = answered?;
        tokio::select! {
            biased;
            answer = &mut answered => {
                let answer = answer.ok()?;
                Some((Bytes::from(answer), None))
            }
            () = tokio::time::sleep(FOREIGN_PING) => {
                let ping = Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n");
                Some((ping, Some(answered)))
            }
        }
    });
    let frames = futures_util::StreamExt::map(pieces, |piece| {
        Ok::<_, Infallible>(http_body::Frame::data(piece))
    });
    let mut response = Response::new(StreamBody::new(Box::pin(frames)).boxed_unsync());
    let kind = http::HeaderValue::from_static("text/event-stream");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}

/// In the words of the dialect, with when to come again where that helps.
fn refused(why: Refused) -> Answer {
    let status = StatusCode::from_u16(why.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut answer = problem(status, kind(why.status()), &why.to_string());
    if status == StatusCode::TOO_MANY_REQUESTS {
        let seconds = http::HeaderValue::from(FOREIGN_AGAIN.as_secs());
        answer
            .headers_mut()
            .insert(http::header::RETRY_AFTER, seconds);
    }
    answer
}

fn problem(status: StatusCode, kind: &str, message: &str) -> Answer {
    let error = json!({"type": kind, "message": message});
    plain(status, &json!({"type": "error", "error": error}))
}

fn plain(status: StatusCode, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}
