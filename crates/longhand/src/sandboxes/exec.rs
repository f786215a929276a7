//! A program in a sandbox on this terminal, or in this pipe: bytes in, bytes out, its exit code. It leaves the
//! terminal as it found it, however it ends.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;

use anyhow::{Context, bail};
use bytes::Bytes;
use gateway::frames::{Frames, Kind, MEDIA_TYPE, frame};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::{follow, path};
use crate::Exited;
use crate::cli::Program;
use crate::client::{Client, Exchange};

/// Frames on their way to the server; then this terminal waits.
const QUEUED: usize = 16;
/// Bytes read at once.
const PIECE: usize = 32 * 1024;
/// The exit code of what ran too long, as timeout(1) has it.
const TIMED_OUT: u8 = 124;
/// A program that a signal ended: this and its number, as shells have it.
const SIGNALLED: i64 = 128;

/// Runs it until it ends or this process is told to.
///
/// # Errors
/// [`Exited`] unless it ended well; what the server answered, or that it could not be reached.
pub(super) async fn run(client: &Client, id: &str, program: &Program) -> anyhow::Result<()> {
    let (input, output) = (std::io::stdin(), std::io::stdout());
    if program.tty && !(isatty(&input) && isatty(&output)) {
        bail!("this is no terminal, so the program cannot have one; leave -t away, or use `exec`");
    }
    // Before its size is looked at for the first time: then no change of it is missed.
    let changes = program.tty.then(|| signal(SignalKind::window_change()));
    let changes = changes.transpose()?;
    let (frames, queue) = mpsc::channel(QUEUED);
    frames.try_send(frame(Kind::Start, start(program)?.to_string().as_bytes()))?;
    let exec = path(id, "/exec")?;
    let mut exchange = client.exchange(&exec, MEDIA_TYPE, queue).await?;
    let raw = program.tty.then(Raw::enter).transpose()?;
    if program.interactive {
        read_input(frames.clone())?;
    } else {
        // Whatever waits for input sees its end.
        frames.send(frame(Kind::StdinEnd, b"")).await?;
    }
    let sizes = changes.map(|changes| follow_size(changes, frames.clone()));
    let mut seen = Seen::default();
    let ended = match sizes {
        Some(sizes) => tokio::select! {
            ended = show(&mut exchange, &mut seen) => ended,
            failed = sizes => failed.map(|never: std::convert::Infallible| match never {}),
        },
        None => show(&mut exchange, &mut seen).await,
    };
    drop((raw, frames, exchange));
    let ended = match ended {
        Err(cut) if cut.is::<Cut>() && !program.tty && !seen.exec.is_empty() => {
            eprintln!(
                "{cut}; {} goes on in {id}, and is taken up again",
                seen.exec
            );
            follow::to_the_end(client, id, &seen).await?
        }
        other => other?,
    };
    ended_as(&ended)
}

/// What of a program is on this terminal.
#[derive(Default)]
pub(super) struct Seen {
    /// Its id, once the server has said it.
    pub(super) exec: String,
    /// Bytes of its standard output.
    pub(super) stdout: u64,
    /// And of its standard error.
    pub(super) stderr: u64,
}

/// The server has gone, and said nothing of how the program ended.
#[derive(Debug, thiserror::Error)]
#[error("the connection was cut")]
struct Cut;

/// This command ends as the program did.
pub(super) fn ended_as(ended: &Value) -> anyhow::Result<()> {
    match (
        ended["timed_out"].as_bool(),
        ended["exit_code"].as_i64(),
        ended["signal"].as_i64(),
    ) {
        (Some(true), ..) => Err(Exited(TIMED_OUT).into()),
        (_, Some(0), _) => Ok(()),
        (_, Some(code), _) => Err(Exited(u8::try_from(code).unwrap_or(1)).into()),
        (_, None, Some(signal)) => {
            Err(Exited(u8::try_from(SIGNALLED + signal).unwrap_or(1)).into())
        }
        (_, None, None) => bail!("the server does not say how the program ended"),
    }
}

fn start(program: &Program) -> anyhow::Result<Value> {
    let mut start = json!({ "command": program.command });
    let mut env = serde_json::Map::new();
    for variable in &program.env {
        let (name, value) = variable
            .split_once('=')
            .with_context(|| format!("--env {variable:?}: write NAME=VALUE"))?;
        env.insert(name.to_owned(), json!(value));
    }
    if program.tty {
        let size = tcgetwinsize(std::io::stdout())?;
        start["terminal"] = json!({"rows": size.ws_row, "columns": size.ws_col});
        let term = std::env::var_os("TERM").map(|term| term.to_string_lossy().into_owned());
        let term = term.unwrap_or_else(|| "xterm".to_owned());
        env.entry("TERM").or_insert_with(|| json!(term));
    }
    start["env"] = env.into();
    if let Some(cwd) = &program.cwd {
        start["cwd"] = json!(cwd.to_string_lossy());
    }
    if let Some(seconds) = program.timeout {
        start["timeout_seconds"] = json!(seconds);
    }
    Ok(start)
}

/// Shows what comes until the program has ended; how it did.
async fn show(exchange: &mut Exchange, seen: &mut Seen) -> anyhow::Result<Value> {
    let mut frames = Frames::default();
    while let Some(piece) = exchange.next().await.map_err(|_| Cut)? {
        frames.push(&piece);
        while let Some((kind, payload)) = frames.take()? {
            match kind {
                Kind::Started => {
                    let started: Value = serde_json::from_slice(&payload)?;
                    seen.exec = started["id"].as_str().unwrap_or_default().to_owned();
                }
                Kind::Stdout => {
                    print(std::io::stdout(), &payload)?;
                    seen.stdout += payload.len() as u64;
                }
                Kind::Stderr => {
                    print(std::io::stderr(), &payload)?;
                    seen.stderr += payload.len() as u64;
                }
                Kind::Exit => return serde_json::from_slice(&payload).context("how it ended"),
                Kind::Error => {
                    let envelope: Value = serde_json::from_slice(&payload).unwrap_or_default();
                    let message = envelope["error"]["message"].as_str();
                    bail!("{}", message.unwrap_or("the server cut the program off"));
                }
                Kind::Start | Kind::Stdin | Kind::StdinEnd | Kind::Resize | Kind::Signal => {}
            }
        }
    }
    Err(Cut.into())
}

pub(super) fn print(mut to: impl std::io::Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// Reads on a thread of its own, which nobody waits for: a read of a terminal cannot be ended.
fn read_input(frames: mpsc::Sender<Bytes>) -> anyhow::Result<()> {
    let read = move || {
        let mut piece = vec![0; PIECE];
        loop {
            let read = std::io::stdin().read(&mut piece).unwrap_or(0);
            let (kind, bytes) = match read {
                0 => (Kind::StdinEnd, &[][..]),
                n => (Kind::Stdin, &piece[..n]),
            };
            if frames.blocking_send(frame(kind, bytes)).is_err() || read == 0 {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("input".to_owned());
    thread.spawn(read).context("no thread for the input")?;
    Ok(())
}

/// Passes on each new size of this terminal.
async fn follow_size(
    mut changes: Signal,
    frames: mpsc::Sender<Bytes>,
) -> anyhow::Result<std::convert::Infallible> {
    loop {
        changes.recv().await;
        let size = tcgetwinsize(std::io::stdout())?;
        let size = json!({"rows": size.ws_row, "columns": size.ws_col});
        // One that has ended needs no size.
        let _ = frames
            .send(frame(Kind::Resize, size.to_string().as_bytes()))
            .await;
    }
}

/// The terminal while each key goes on as it is. Dropped, it is as before.
struct Raw(Termios);

impl Raw {
    fn enter() -> anyhow::Result<Self> {
        let input = std::io::stdin();
        let before = tcgetattr(input.as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(input.as_fd(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = std::io::stdout().flush();
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}
