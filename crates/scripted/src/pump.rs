//! Turns an answer into a response: a whole one, or frames with pauses between them. It knows no dialect.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::limits::FRAMES;
use crate::script::Step;
use crate::state::State;

/// A call with its id.
#[derive(Clone, Debug)]
pub(crate) struct PlacedCall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) input: Value,
    /// What stands in place of the input, to the letter.
    pub(crate) raw: Option<String>,
}

impl PlacedCall {
    /// The arguments as the model writes them.
    pub(crate) fn arguments(&self) -> String {
        self.raw.clone().unwrap_or_else(|| self.input.to_string())
    }
}

/// What the model says, in no dialect.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) thinking: Option<String>,
    /// The text in its pieces; empty when there is none.
    pub(crate) pieces: Vec<String>,
    pub(crate) calls: Vec<PlacedCall>,
    pub(crate) stop: Option<String>,
}

impl Answer {
    /// The answer of a step. `hash` makes its ids; `results` is what `echo_results` quotes.
    pub(crate) fn of(step: &Step, model: &str, hash: u64, results: &str) -> Answer {
        let mut text = step.text.clone().unwrap_or_default();
        if step.echo_results {
            text.push_str("Results: ");
            text.push_str(results);
        }
        let calls = step
            .calls()
            .into_iter()
            .enumerate()
            .map(|(number, call)| PlacedCall {
                id: format!("toolu_01{hash:016x}{number:02}"),
                name: call.name,
                input: Value::Object(call.input),
                raw: call.arguments,
            });
        let calls: Vec<PlacedCall> = calls.collect();
        if text.is_empty() && calls.is_empty() && step.stop.is_none() {
            text.push_str("Done.");
        }
        Answer {
            id: format!("msg_01{hash:016x}"),
            model: model.to_owned(),
            thinking: step.thinking.clone(),
            pieces: split(&text, step.chunks.unwrap_or(1)),
            calls,
            stop: step.stop.clone(),
        }
    }

    pub(crate) fn text(&self) -> String {
        self.pieces.concat()
    }

    /// Output tokens.
    pub(crate) fn tokens(&self) -> u64 {
        let inputs: usize = self
            .calls
            .iter()
            .map(|c| c.name.len() + c.arguments().len())
            .sum();
        let thinking = self.thinking.as_ref().map_or(0, String::len);
        crate::prefix::tokens_of(self.text().len() + inputs + thinking).max(1)
    }
}

/// `text` in `n` pieces of about the same length, none of them empty.
pub(crate) fn split(text: &str, n: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let size = chars.len().div_ceil(n.max(1)).max(1);
    chars.chunks(size).map(|c| c.iter().collect()).collect()
}

/// One frame of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: String,
    /// Whether it is a piece of the answer's text: pauses and gates go between those.
    pub(crate) piece: bool,
}

/// A JSON response.
pub(crate) fn json(status: u16, retry_after: Option<u64>, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// An event stream of `frames`, with the step's pauses, its gate and its cut.
pub(crate) fn stream(state: &Arc<State>, step: &Step, frames: Vec<Frame>) -> Response {
    let (send, receive) = mpsc::channel::<io::Result<Bytes>>(FRAMES);
    let (owner, step) = (Arc::clone(state), step.clone());
    state.tasks.spawn(async move {
        let stop = owner.stop.clone();
        let _ended = stop
            .run_until_cancelled(write(&owner, &step, frames, send))
            .await;
    });
    let frames = futures_util::stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|frame| (frame, receive))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let kind = header::HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn write(
    state: &State,
    step: &Step,
    frames: Vec<Frame>,
    send: mpsc::Sender<io::Result<Bytes>>,
) {
    let keep = if step.cut {
        frames.len() / 2
    } else {
        frames.len()
    };
    let mut gate = step.wait_mid.clone();
    for frame in frames.into_iter().take(keep) {
        if send.send(Ok(frame.bytes.into())).await.is_err() {
            return;
        }
        if !frame.piece {
            continue;
        }
        if let Some(name) = gate.take() {
            tokio::select! {
                () = state.pass(&name) => {}
                // The client went: nobody waits any more.
                () = send.closed() => return,
            }
        }
        if let Some(pause) = step.delay_ms {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
    if step.cut {
        // An error in the body makes the server drop the connection without a proper end.
        let _gone = send.send(Err(io::Error::other("cut by script"))).await;
    }
}
