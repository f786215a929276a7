//! Owns the conversation with one hand: requests, answers, cancellation. It trusts no frame's content.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hand::wire::{
    FromHand, Id, Output, PREFIX_BYTES, Refusal, Spawn, ToHand, Tool, VERSION, head, lengths,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::held::{Turn, Unstarted};
use super::answer::judged;
use super::pipes::Pipes;
use crate::error::{Doing, Error};
use crate::limits::{CANCEL, PING, PING_INTERVAL, QUEUED_FRAMES, SPAWN};
use crate::process::{Command, Process};
use crate::provider::ToolCall;

mod held;
#[cfg(test)]
mod tests;

#[derive(Clone)]
pub(super) struct Client(pub(super) Arc<Inner>);

pub(super) struct Inner {
    frames: mpsc::Sender<Frame>,
    next: AtomicU64,
    table: Mutex<Table>,
    /// Cancelled when the conversation is over, for whatever reason.
    over: CancellationToken,
    /// Milliseconds that the bash calls under way may take, one after another.
    shell: AtomicU64,
    pub(super) tasks: TaskTracker,
}

pub(super) struct Frame {
    head: Vec<u8>,
    body: Bytes,
}

#[derive(Default)]
struct Table {
    answers: HashMap<Id, oneshot::Sender<Answer>>,
    processes: HashMap<Id, Pipes>,
}

enum Answer {
    Done(Vec<u8>),
    Cancelled,
    Refused(Error),
    Pong,
    Spawned,
}

impl Client {
    /// Exchanges hellos, then reads and writes in tasks of `tasks`.
    pub(super) async fn connect(
        mut stream: UnixStream,
        tasks: &TaskTracker,
    ) -> Result<Self, Error> {
        let doing = || "talk to the hand".to_owned();
        let read = |result: io::Result<(FromHand, Vec<u8>)>| result.doing(doing);
        let hello = read(read_frame(&mut stream).await)?;
        if !matches!(hello, (FromHand::Hello { version: VERSION }, _)) {
            return Err(io::Error::from(io::ErrorKind::InvalidData)).doing(doing);
        }
        let greeting = head(&ToHand::Hello { version: VERSION }, 0).doing(doing)?;
        stream.write_all(&greeting).await.doing(doing)?;
        let (reader, writer) = stream.into_split();
        let (frames, queue) = mpsc::channel(QUEUED_FRAMES);
        let client = Self(Arc::new(Inner {
            frames,
            next: AtomicU64::new(1),
            table: Mutex::default(),
            over: CancellationToken::new(),
            shell: AtomicU64::new(0),
            tasks: tasks.clone(),
        }));
        let over = client.0.over.clone();
        tasks.spawn(async move {
            over.run_until_cancelled(write_all(writer, queue)).await;
            over.cancel();
        });
        let inner = Arc::clone(&client.0);
        tasks.spawn(async move {
            inner
                .over
                .run_until_cancelled(read_all(reader, &inner))
                .await;
            inner.end();
        });
        Ok(client)
    }

    pub(super) fn close(&self) {
        self.0.end();
    }

    pub(super) fn is_open(&self) -> bool {
        !self.0.over.is_cancelled()
    }

    /// Cancelled when the conversation is over, for whatever reason.
    pub(super) async fn ended(&self) {
        self.0.over.cancelled().await;
    }

    /// Whatever the hand does, it returns: at the latest when the call's own limit, those of the calls
    /// that have their turn before it, and [`TOOL_GRACE`] are over. Then nothing the hand says counts.
    pub(super) async fn tool(
        &self,
        call: ToolCall,
        cancel: CancellationToken,
    ) -> Result<Output, Error> {
        let turn = Turn::new(&self.0, &call);
        let limit = turn.limit();
        match timeout(limit, self.converse(call, cancel)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                tracing::warn!(?limit, "a hand left a call unanswered");
                Err(self.0.broken())
            }
        }
    }

    async fn converse(&self, call: ToolCall, cancel: CancellationToken) -> Result<Output, Error> {
        let input = serde_json::to_vec(&call.input).map_err(io::Error::from);
        let input = input.doing(|| "write a tool's input".to_owned())?;
        let (id, tool) = (self.0.id(), call.name);
        let mut request = Request::new(&self.0, id);
        let message = ToHand::Call { id, tool };
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::Cancelled),
            sent = request.send(&message, input.into()) => sent?,
        }
        tokio::select! {
            answer = &mut request.answer => {
                let answer = request.answered(answer)?;
                return self.0.judged(tool, answer, Asked::ToRun);
            }
            () = cancel.cancelled() => {}
            // Long calls are normal; a hand that does not answer is not.
            () = self.silence() => return Err(self.0.broken()),
        }
        let ended = timeout(CANCEL, async {
            let sent = self.0.send(&ToHand::Cancel { id }, Bytes::new()).await;
            sent.map_err(|_| Error::Lost)?;
            let answer = (&mut request.answer).await;
            request.answered(answer)
        });
        match ended.await {
            Ok(answer) => self.0.judged(tool, answer?, Asked::ToEnd),
            Err(_) => Err(Error::Cancelled),
        }
    }

    /// Returns when the hand does not answer that it lives.
    async fn silence(&self) {
        loop {
            sleep(PING_INTERVAL).await;
            if self.ping().await.is_err() {
                return;
            }
        }
    }

    pub(super) async fn ping(&self) -> Result<(), Error> {
        let id = self.0.id();
        let mut request = Request::new(&self.0, id);
        let answered = timeout(PING, async {
            request.send(&ToHand::Ping { id }, Bytes::new()).await?;
            let answer = (&mut request.answer).await;
            request.answered(answer)
        });
        match answered.await {
            Ok(answer) => match answer? {
                Answer::Pong => Ok(()),
                _ => Err(self.0.broken()),
            },
            Err(_) => Err(Error::Lost),
        }
    }

    pub(super) async fn spawn(&self, command: Command) -> Result<Process, Error> {
        let Command { argv, env, cwd } = command;
        let spawn = Spawn { argv, env, cwd };
        let spawn = serde_json::to_vec(&spawn).map_err(io::Error::from);
        let spawn = spawn.doing(|| "write a command".to_owned())?;
        let id = self.0.id();
        // Before the request, so that no chunk can come too early.
        let (unstarted, process) = Unstarted::open(&self.0, id)?;
        let mut request = Request::new(&self.0, id);
        let answered = timeout(SPAWN, async {
            request.send(&ToHand::Spawn { id }, spawn.into()).await?;
            let answer = (&mut request.answer).await;
            request.answered(answer)
        });
        match answered.await {
            Ok(answer) => match answer? {
                Answer::Spawned => {
                    unstarted.started();
                    Ok(process)
                }
                Answer::Refused(refused) => Err(refused),
                _ => Err(self.0.broken()),
            },
            Err(_) => Err(self.0.broken()),
        }
    }
}

/// What the hand was asked last about a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    ToRun,
    ToEnd,
}

/// One request under way. Dropped before its answer, it asks the hand to cancel.
struct Request<'a> {
    inner: &'a Arc<Inner>,
    id: Id,
    answer: oneshot::Receiver<Answer>,
    waiting: bool,
}

impl<'a> Request<'a> {
    fn new(inner: &'a Arc<Inner>, id: Id) -> Self {
        let (tx, answer) = oneshot::channel();
        inner.lock().answers.insert(id, tx);
        Self {
            inner,
            id,
            answer,
            waiting: true,
        }
    }

    /// An error means that nothing was sent.
    async fn send(&mut self, message: &ToHand, body: Bytes) -> Result<(), Error> {
        let sent = self.inner.send(message, body).await;
        // Closed between the two: the answer would never come.
        if sent.is_ok() && self.inner.over.is_cancelled() {
            self.inner.end();
        }
        self.waiting = sent.is_ok();
        sent
    }

    fn answered(
        &mut self,
        answer: Result<Answer, oneshot::error::RecvError>,
    ) -> Result<Answer, Error> {
        self.waiting = false;
        answer.map_err(|_| Error::Lost)
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.inner.lock().answers.remove(&self.id);
        if self.waiting
            && let Ok(head) = head(&ToHand::Cancel { id: self.id }, 0)
        {
            // Full: the hand is far behind, and the result is thrown away when it comes.
            let _ = self.inner.frames.try_send(Frame {
                head,
                body: Bytes::new(),
            });
        }
    }
}

impl Inner {
    fn id(&self) -> Id {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame; waits while the queue is full. Cancel safe: yes, it is queued or not.
    pub(super) async fn send(&self, message: &ToHand, body: Bytes) -> Result<(), Error> {
        let head = head(message, body.len())
            .map_err(|_| Error::invalid(format!("over {} bytes", hand::limits::BODY_BYTES)))?;
        if self.over.is_cancelled() {
            return Err(Error::Gone);
        }
        tokio::select! {
            sent = self.frames.send(Frame { head, body }) => sent.map_err(|_| Error::Gone),
            () = self.over.cancelled() => Err(Error::Gone),
        }
    }

    /// Queues a frame if there is room.
    pub(super) fn try_send(&self, message: &ToHand) -> bool {
        head(message, 0).is_ok_and(|head| {
            self.frames
                .try_send(Frame {
                    head,
                    body: Bytes::new(),
                })
                .is_ok()
        })
    }

    fn forget_process(&self, id: Id) {
        self.lock().processes.remove(&id);
    }

    /// The hand broke the protocol: nothing it says can be used any more.
    fn broken(&self) -> Error {
        tracing::warn!("a hand broke the protocol");
        self.end();
        Error::Lost
    }

    /// Drops every waiter's other half: they see [`Error::Lost`].
    fn end(&self) {
        self.over.cancel();
        let table = std::mem::take(&mut *self.lock());
        drop(table);
    }

    /// What the answer to a tool call means. One that no honest hand gives ends the conversation.
    fn judged(&self, tool: Tool, answer: Answer, asked: Asked) -> Result<Output, Error> {
        match answer {
            Answer::Done(body) => judged(tool, &body).ok_or_else(|| self.broken()),
            Answer::Cancelled if asked == Asked::ToEnd => Err(Error::Cancelled),
            Answer::Refused(refused) => Err(refused),
            Answer::Cancelled | Answer::Pong | Answer::Spawned => Err(self.broken()),
        }
    }

    /// Whether this side has ever used the id.
    fn knows(&self, id: Id) -> bool {
        (1..self.next.load(Ordering::Relaxed)).contains(&id)
    }

    fn take(&self, message: FromHand, body: Vec<u8>) -> Result<(), Broken> {
        let (id, answer) = match message {
            FromHand::Hello { .. } => return Err(Broken),
            FromHand::Done { id } => (id, Answer::Done(body)),
            FromHand::Cancelled { id } => (id, Answer::Cancelled),
            FromHand::Refused { id, why, problem } => {
                self.forget_process(id);
                let refused = match why {
                    Refusal::Busy => Error::Busy { problem },
                    Refusal::Invalid => Error::Invalid { problem },
                };
                (id, Answer::Refused(refused))
            }
            FromHand::Pong { id } => (id, Answer::Pong),
            FromHand::Spawned { id } => (id, Answer::Spawned),
            FromHand::Chunk { .. }
            | FromHand::End { .. }
            | FromHand::StdinAck { .. }
            | FromHand::Exited { .. } => return self.take_for_process(message, body),
        };
        if !self.knows(id) {
            return Err(Broken);
        }
        let waiter = self.lock().answers.remove(&id);
        if let Some(waiter) = waiter {
            // The caller may just have gone.
            let _ = waiter.send(answer);
        }
        Ok(())
    }

    fn take_for_process(&self, message: FromHand, body: Vec<u8>) -> Result<(), Broken> {
        let (FromHand::Chunk { id, .. }
        | FromHand::End { id, .. }
        | FromHand::StdinAck { id }
        | FromHand::Exited { id, .. }) = message
        else {
            return Err(Broken);
        };
        let mut table = self.lock();
        let Some(pipes) = table.processes.get_mut(&id) else {
            // One that was given up, or none at all.
            return if self.knows(id) { Ok(()) } else { Err(Broken) };
        };
        pipes.take(&message, body)?;
        if pipes.are_done() {
            table.processes.remove(&id);
        }
        Ok(())
    }
}

/// The hand sent what the protocol does not allow.
pub(super) struct Broken;

async fn write_all(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Frame>) {
    while let Some(Frame { head, body }) = queue.recv().await {
        let written = async {
            writer.write_all(&head).await?;
            writer.write_all(&body).await
        };
        if written.await.is_err() {
            return;
        }
    }
}

async fn read_all(mut reader: OwnedReadHalf, inner: &Inner) {
    while let Ok((message, body)) = read_frame(&mut reader).await {
        if inner.take(message, body).is_err() {
            inner.broken();
            return;
        }
    }
}

/// Not cancel safe; its callers end the conversation when they drop it.
async fn read_frame(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<(FromHand, Vec<u8>)> {
    let mut prefix = [0; PREFIX_BYTES];
    from.read_exact(&mut prefix).await?;
    let (header_len, body_len) = lengths(prefix)?;
    let mut header = vec![0; header_len];
    from.read_exact(&mut header).await?;
    let mut body = vec![0; body_len];
    from.read_exact(&mut body).await?;
    Ok((serde_json::from_slice(&header)?, body))
}
