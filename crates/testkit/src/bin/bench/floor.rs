//! The floors of the API, each in a process of its own like the server's: our HTTP stack (accept loop, limits,
//! hyper, axum) answering the same bytes without looking at what it was sent; and the same stack when it reads each
//! body by the contract's types and writes each answer by them; and that one with a simple store behind it. None asks for
//! a key.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use contract::client_event::{ClientEvent, SendEvents};
use contract::content::Block;
use contract::event::{Body, Event, SentEvents};
use contract::ids::{EventId, SessionId};
use contract::parse::parse;
use contract::session::{CreateSession, Session, SessionTag, Status};
use contract::time::Micros;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::Wrong;
use crate::keeping::{Keeping, Row};

/// What a floor does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// Answers.
    Answers,
    /// Reads it, then writes its answer.
    Reads,
    /// Reads it, keeps it, then writes its answer.
    Keeps,
}

/// What is answered: as the real server answered it.
#[derive(Debug)]
struct Canned {
    create: Bytes,
    send: Bytes,
    /// The agent of the session that is answered.
    agent: Box<RawValue>,
    /// Whether requests are read.
    reads: bool,
    keeping: Option<Keeping>,
}

/// A running floor; it ends when this is dropped.
pub(crate) struct Floor {
    _child: Child,
    pub(crate) address: SocketAddr,
}

/// Starts one that gives these answers.
pub(crate) async fn start(does: Does, create: &Value, send: &Value) -> Result<Floor, Wrong> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("floor")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let (reads, keeps) = (does != Does::Answers, does == Does::Keeps);
    let canned = json!({"create": create, "send": send, "reads": reads, "keeps": keeps});
    // Closing its input by dropping the pipe tells it that this was all.
    child
        .stdin
        .take()
        .ok_or("no pipe")?
        .write_all(canned.to_string().as_bytes())
        .await?;
    let stdout = child.stdout.take().ok_or("no pipe")?;
    let line = BufReader::new(stdout).lines().next_line().await?;
    let address = line.ok_or("the floor did not start")?.parse()?;
    Ok(Floor {
        _child: child,
        address,
    })
}

/// The process itself.
pub(crate) async fn serve() -> Result<(), Wrong> {
    // Nothing else runs yet: reading may block.
    let canned = std::io::read_to_string(std::io::stdin())?;
    let canned = serde_json::from_str::<Value>(&canned)?;
    let home = tempfile::tempdir()?;
    let keeping = canned["keeps"] == true;
    let keeping = keeping.then(|| Keeping::start(&home)).transpose()?;
    let bytes = |name: &str| Bytes::from(canned[name].to_string());
    let canned = Arc::new(Canned {
        create: bytes("create"),
        send: bytes("send"),
        agent: to_raw_value(&canned["create"]["agent"])?,
        reads: canned["reads"] == true,
        keeping,
    });
    let router: Router = Router::new().fallback(answer).with_state(canned);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    gateway::serve(
        listener,
        router,
        CancellationToken::new(),
        gateway::limits::Limits::default(),
    )
    .await;
    Ok(())
}

async fn answer(State(canned): State<Arc<Canned>>, uri: Uri, body: Bytes) -> Response {
    let sends = uri.path().ends_with("/events");
    let answered = answered(&canned, sends, &body).await;
    // The server's own headers, so that the same bytes go over the wire.
    let headers = [
        (CONTENT_TYPE.as_str(), "application/json"),
        ("request-id", "req_1111111111111111111111"),
    ];
    match answered {
        Ok(body) => (headers, body).into_response(),
        Err(refused) => (StatusCode::BAD_REQUEST, refused.to_string()).into_response(),
    }
}

async fn answered(canned: &Canned, sends: bool, body: &Bytes) -> Result<Bytes, Wrong> {
    if !canned.reads {
        return Ok(if sends { &canned.send } else { &canned.create }.clone());
    }
    let answer = match sends {
        true => sent(body)?,
        false => created(&canned.agent, body)?,
    };
    if let Some(keeping) = &canned.keeping {
        let row = match sends {
            true => Row::Message(body.to_vec()),
            false => Row::Session,
        };
        keeping.keep(row).await?;
    }
    Ok(answer)
}

/// An instant of about now, and bits of an id that was made then.
const AT: Micros = Micros(1_795_000_000_000_000);
const BITS: u128 = 1_795_000_000_000 << 80 | 0x1234_5678_9abc_def0_1234;

/// The answer to a session's creation, with an agent that is written already.
fn created(agent: &RawValue, body: &[u8]) -> Result<Bytes, Wrong> {
    let request = parse::<CreateSession>(body)?;
    request.check()?;
    let session = Session {
        id: SessionId::from_bits(BITS),
        kind: SessionTag::Session,
        status: Status::Idle,
        title: request.title,
        metadata: request.metadata,
        agent,
        environment_id: request.environment_id,
        vault_ids: request.vault_ids,
        resources: Vec::new(),
        outcome_evaluations: Vec::new(),
        budget: None,
        stats: contract::session::SessionStats::default(),
        usage: contract::event::SessionUsage::default(),
        created_at: AT,
        updated_at: AT,
        archived_at: None,
        deployment_id: None,
    };
    Ok(serde_json::to_vec(&session)?.into())
}

/// The answer to messages.
fn sent(body: &[u8]) -> Result<Bytes, Wrong> {
    let request = parse::<SendEvents>(body)?;
    request.check()?;
    let events = request.events.into_iter().map(|event| match event {
        ClientEvent::UserMessage(message) => Ok(Event {
            id: EventId::from_bits(BITS),
            processed_at: None,
            body: Body::UserMessage {
                content: message.content.into_iter().map(Block::from).collect(),
            },
        }),
        other => Err(format!("a floor takes messages only, not {}", other.kind())),
    });
    let events = events.collect::<Result<Vec<_>, _>>()?;
    Ok(serde_json::to_vec(&SentEvents { data: &events })?.into())
}
