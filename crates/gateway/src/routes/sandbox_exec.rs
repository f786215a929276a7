//! `POST /v1/x/sandboxes/{id}/exec`: programs of a sandbox. Whoever hangs up ends what they started; when the server
//! ends, what it has started goes on, and is asked about by its id (`sandbox_execs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use contract::error::{ApiError, ErrorKind};
use contract::parse::{self, Invalid};
use contract::query;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, future, stream};
use http_body_util::BodyExt as _;
use sandbox::{Command, ExitStatus, Process, Signal, Size, Visit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::sandboxes::named;
use crate::call::Call;
use crate::error::Failure;
use crate::frames::{Frames, Kind, MEDIA_TYPE, frame};
use crate::gateway::Gateway;
use crate::reply::{self, Meta};

/// Bytes of one output that a plain answer holds; the rest is read and dropped.
const KEPT: usize = 1 << 20;
/// Bytes read at once.
const PIECE: usize = 32 * 1024;
/// Output that stands still for so long after its program's end is held open by something that stays behind.
const QUIET: Duration = Duration::from_millis(300);
/// How long a client whose answer is complete may go on talking. A connection that is closed under what it sends
/// is reset, and its client may lose the end of the answer (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// The longest that a program may be asked to be let run, in seconds: a day.
const LONGEST: u64 = 86_400;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SandboxExec")]
pub(crate) struct Exec {
    /// The program and its arguments.
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Absent: the workspace.
    #[serde(default)]
    cwd: Option<String>,
    /// What it reads; a stream's input comes in frames.
    #[serde(default)]
    stdin: Option<String>,
    /// Absent: for ever.
    #[serde(default)]
    timeout_seconds: Option<u64>,
    /// Whether to answer as soon as it runs; it is asked about by its id then, and goes on when whoever asked hangs up.
    #[serde(default)]
    detached: bool,
    /// Only of a stream.
    #[serde(default)]
    #[schemars(with = "Option<TerminalSize>")]
    terminal: Option<Size>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    signal: Signal,
}

/// The size of a terminal, in characters.
#[derive(JsonSchema)]
#[allow(dead_code)] // it describes what the sandbox reads
struct TerminalSize {
    rows: u16,
    columns: u16,
}

/// How a program ended.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxExec")]
pub(crate) struct Ended {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_exec"))]
    kind: &'static str,
    /// What it is asked about by.
    id: String,
    /// When it ended by itself.
    exit_code: Option<i32>,
    /// The number of the signal that ended it.
    signal: Option<i32>,
    timed_out: bool,
    /// Whether it runs on: `exit_code` and `signal` are null then.
    running: bool,
    /// What it said, unless that was streamed; what is no Unicode in it is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    /// Whether there was more than is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
}

impl Ended {
    fn new(id: &str, status: Option<ExitStatus>) -> Self {
        Self {
            kind: "sandbox_exec",
            id: id.to_owned(),
            exit_code: status.and_then(|status| status.code),
            signal: status.and_then(|status| status.signal),
            timed_out: status.is_some_and(|status| status.timed_out),
            running: status.is_none(),
            stdout: None,
            stderr: None,
            truncated: None,
        }
    }
}

impl Exec {
    /// What is to run, under that id; on a terminal it ends with the server, as whatever hangs on a line does.
    fn command(&self, id: &str) -> Result<Command, Invalid> {
        if self.command.is_empty() {
            return Err(Invalid::at("command", "must name a program"));
        }
        if self
            .timeout_seconds
            .is_some_and(|s| !(1..=LONGEST).contains(&s))
        {
            let problem = format!("must be from 1 to {LONGEST}; leave it out for no limit");
            return Err(Invalid::at("timeout_seconds", problem));
        }
        let mut command = Command::new(self.command.iter().cloned());
        command.env = self.env.clone().into_iter().collect();
        if let Some(cwd) = &self.cwd {
            command.cwd.clone_from(cwd);
        }
        command.time_limit = self.timeout_seconds.map(Duration::from_secs);
        command.terminal = self.terminal;
        command.key = self.terminal.is_none().then(|| id.to_owned());
        Ok(command)
    }
}

/// `POST /v1/x/sandboxes/{sandbox_id}/exec`: with JSON the answer comes when the program has ended; with
/// [`MEDIA_TYPE`] input and output are streamed both ways.
pub(crate) async fn exec(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let kind = call.headers.get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes() == MEDIA_TYPE.as_bytes()) {
        return streamed(gateway, call).await;
    }
    let asked = call.json::<Exec>().await?;
    if asked.terminal.is_some() {
        let problem = format!("needs a stream: send {MEDIA_TYPE}");
        return Err(Invalid::at("terminal", problem).into());
    }
    let id = exec_id(&gateway);
    let command = asked.command(&id)?;
    let visit = named(&gateway, &call).await?.visit().await?;
    let mut process = visit.spawn(command).await?;
    let (stdin, text) = (process.stdin.take(), asked.stdin);
    let feed = async move {
        if let (Some(mut stdin), Some(text)) = (stdin, text) {
            // A program need not read what it is given.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
    };
    if asked.detached {
        tokio::select! {
            () = feed => {}
            // One that has ended reads nothing more.
            _ = process.wait() => {}
        }
        process.leave();
        return reply::json(&Ended::new(&id, None));
    }
    let mut talk = Talk::new(id.clone(), process, visit, |_| feed.boxed());
    let (mut stdout, mut stderr, mut truncated) = (Vec::new(), Vec::new(), false);
    let status = loop {
        let (kept, bytes) = match talk.next().await? {
            Step::Stdout(bytes) => (&mut stdout, bytes),
            Step::Stderr(bytes) => (&mut stderr, bytes),
            Step::Ended(status) => break status,
        };
        let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
        truncated |= room < bytes.len();
    };
    let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned());
    reply::json(&Ended {
        stdout: text(&stdout),
        stderr: text(&stderr),
        truncated: Some(truncated),
        ..Ended::new(&id, Some(status))
    })
}

/// The same in frames. What is wrong before the program runs is answered as ever.
async fn streamed(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    let mut client = Client {
        body: call.stream(),
        frames: Frames::default(),
    };
    let start = match client.next().await {
        Some((Kind::Start, start)) => start,
        _ => {
            let problem = "must begin with the frame that says what to run";
            return Err(Invalid::at("body", problem).into());
        }
    };
    let asked: Exec = parse::parse(&start)?;
    if asked.stdin.is_some() {
        return Err(Invalid::at("stdin", "comes in frames of its own").into());
    }
    if asked.detached {
        let problem = "is for JSON: a stream is there to be followed";
        return Err(Invalid::at("detached", problem).into());
    }
    let id = exec_id(&gateway);
    let command = asked.command(&id)?;
    let visit = named(&gateway, &call).await?.visit().await?;
    let mut process = visit.spawn(command).await?;
    let stdin = process.stdin.take();
    let started = frame(
        Kind::Started,
        json!({"type": "sandbox_exec", "id": id})
            .to_string()
            .as_bytes(),
    );
    let talk = Talk::new(id, process, visit, |process| {
        client.feed(stdin, process).boxed()
    });
    let (meta, shutdown) = (call.meta, gateway.shutdown.clone());
    let frames = stream::unfold(Talking::On(Box::new(talk)), move |talking| {
        let shutdown = shutdown.clone();
        async move {
            let mut talk = match talking {
                Talking::On(talk) => talk,
                Talking::Over(feed) => {
                    linger(feed).await;
                    return None;
                }
            };
            let step = tokio::select! {
                step = talk.next() => step.map_err(Failure::from),
                () = shutdown.cancelled() => {
                    talk.process.leave();
                    Err(stopping().into())
                }
            };
            Some(match step {
                Ok(Step::Stdout(bytes)) => (frame(Kind::Stdout, &bytes), Talking::On(talk)),
                Ok(Step::Stderr(bytes)) => (frame(Kind::Stderr, &bytes), Talking::On(talk)),
                Ok(Step::Ended(status)) => {
                    let ended = last(&Ended::new(&talk.id, Some(status)), meta);
                    (ended, Talking::Over(talk.feed.take()))
                }
                Err(failure) => (failed(failure, meta), Talking::Over(talk.feed.take())),
            })
        }
    });
    Ok(endless(
        stream::once(future::ready(started))
            .chain(frames)
            .map(Ok::<_, std::convert::Infallible>),
        MEDIA_TYPE,
    ))
}

/// An exchange in frames.
enum Talking {
    On(Box<Talk>),
    /// All is said; the client has not ended its side yet.
    Over(Option<BoxFuture<'static, ()>>),
}

/// Hears a client out whose answer is complete.
pub(super) async fn linger(feed: Option<BoxFuture<'static, ()>>) {
    if let Some(feed) = feed {
        let _ = tokio::time::timeout(LINGER, feed).await;
    }
}

/// A running program and whoever talks with it.
struct Talk {
    id: String,
    process: Arc<Process>,
    stdout: Reader,
    stderr: Reader,
    /// Brings the client's side in.
    feed: Option<BoxFuture<'static, ()>>,
    visit: Visit,
}

type Reader = Option<Box<dyn AsyncRead + Send + Sync + Unpin>>;

enum Step {
    Stdout(Bytes),
    Stderr(Bytes),
    Ended(ExitStatus),
}

impl Talk {
    fn new(
        id: String,
        mut process: Process,
        visit: Visit,
        feed: impl FnOnce(Arc<Process>) -> BoxFuture<'static, ()>,
    ) -> Self {
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let process = Arc::new(process);
        Self {
            feed: Some(feed(Arc::clone(&process))),
            process,
            stdout,
            stderr,
            id,
            visit,
        }
    }

    /// What comes next. Cancel safe.
    async fn next(&mut self) -> Result<Step, sandbox::Error> {
        loop {
            if self.stdout.is_none() && self.stderr.is_none() {
                let status = self.process.wait().await?;
                // Whoever asked has heard all of it.
                self.visit.taken(&self.id);
                return Ok(Step::Ended(status));
            }
            tokio::select! {
                piece = piece(&mut self.stdout) => match piece {
                    Some(bytes) => return Ok(Step::Stdout(bytes)),
                    None => self.stdout = None,
                },
                piece = piece(&mut self.stderr) => match piece {
                    Some(bytes) => return Ok(Step::Stderr(bytes)),
                    None => self.stderr = None,
                },
                () = done(&mut self.feed) => self.feed = None,
                () = quiet(&self.process) => (self.stdout, self.stderr) = (None, None),
            }
        }
    }
}

/// The client of a stream.
struct Client {
    body: Body,
    frames: Frames,
}

impl Client {
    /// The next frame; `None` when it has hung up, or sends something else.
    async fn next(&mut self) -> Option<(Kind, Bytes)> {
        loop {
            if let Some(frame) = self.frames.take().ok()? {
                return Some(frame);
            }
            let piece = self.body.frame().await?.ok()?;
            if let Ok(bytes) = piece.into_data() {
                self.frames.push(&bytes);
            }
        }
    }

    /// Passes on what it sends until it hangs up: that is the end of the input, and not of the program, which
    /// ends when nobody reads its output.
    async fn feed(
        mut self,
        mut stdin: Option<Box<dyn AsyncWrite + Send + Sync + Unpin>>,
        process: Arc<Process>,
    ) {
        while let Some((kind, payload)) = self.next().await {
            match kind {
                Kind::Stdin => {
                    if let Some(open) = &mut stdin
                        && open.write_all(&payload).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Kind::StdinEnd => stdin = None,
                Kind::Resize => {
                    if let Ok(size) = parse::parse::<Size>(&payload) {
                        process.resize(size);
                    }
                }
                Kind::Signal => {
                    if let Ok(told) = parse::parse::<Told>(&payload) {
                        process.signal(told.signal);
                    }
                }
                Kind::Start
                | Kind::Started
                | Kind::Stdout
                | Kind::Stderr
                | Kind::Exit
                | Kind::Error => return,
            }
        }
    }
}

/// The next bytes; `None` at the end, and never if there is nothing to read from.
pub(super) async fn piece(from: &mut Reader) -> Option<Bytes> {
    let Some(from) = from else {
        return future::pending().await;
    };
    let mut piece = BytesMut::with_capacity(PIECE);
    match from.read_buf(&mut piece).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(piece.freeze()),
    }
}

pub(super) async fn done(feed: &mut Option<BoxFuture<'static, ()>>) {
    match feed {
        Some(feed) => feed.await,
        None => future::pending().await,
    }
}

/// Returns when the program has ended and nothing has come for a while.
async fn quiet(process: &Process) {
    // One that is lost has ended too; whoever asks next hears of it.
    let _ = process.wait().await;
    tokio::time::sleep(QUIET).await;
}

/// A fresh one.
fn exec_id(gateway: &Gateway) -> String {
    format!("exec_{:026x}", gateway.id_bits() >> 24)
}

fn stopping() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the server is stopping").retry_after(1)
}

fn last(ended: &Ended, meta: Meta) -> Bytes {
    match reply::bytes(ended) {
        Ok(json) => frame(Kind::Exit, &json),
        Err(failure) => failed(failure, meta),
    }
}

fn failed(failure: Failure, meta: Meta) -> Bytes {
    let error = failure.answer(meta);
    let envelope = error.envelope(meta.generation, &meta.request);
    frame(Kind::Error, envelope.to_string().as_bytes())
}

/// An answer that ends when it ends; nobody on the way may hold any of it back.
pub(super) fn endless<S>(bytes: S, media: &'static str) -> Response
where
    S: futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
{
    let mut response = Response::new(Body::from_stream(bytes));
    reply::stream_headers(response.headers_mut());
    let kind = HeaderValue::from_static(media);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
