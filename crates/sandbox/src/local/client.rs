//! Owns the conversation with one hand: requests, answers, cancellation. It trusts no frame's content.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use hand::wire::{FromHand, Id, OLDEST, PREFIX_BYTES, Refusal, ToHand, VERSION, head, lengths};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::held::Shells;
use super::pipes::Pipes;
use crate::error::{Doing, Error};
use crate::limits::{PING, PING_INTERVAL, QUEUED_FRAMES};

mod asks;
mod calls;
mod held;
mod started;
#[cfg(test)]
mod tests;

/// Bytes of a body that is copied behind its head: the hand wakes once for both.
const COPIED: usize = 4 << 10;
/// Bytes that are read ahead of one conversation.
const READ_AHEAD: usize = 4 << 10;

#[derive(Clone)]
pub(super) struct Client(pub(super) Arc<Inner>);

pub(super) struct Inner {
    frames: mpsc::Sender<Frame>,
    /// The first number of this conversation. Those of every other are below or above all of its own.
    first: Id,
    next: AtomicU64,
    table: Mutex<Table>,
    /// Cancelled when the conversation is over, for whatever reason.
    over: CancellationToken,
    /// Whether the sandbox is left to the next server.
    left: Arc<AtomicBool>,
    /// Who waits for which shell.
    shells: Shells,
    /// Of the hand's protocol.
    version: u32,
    /// Whether the hand is paused: then it answers nobody, and no time runs out.
    paused: watch::Sender<bool>,
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
    Unknown,
    Refused(Error),
    Pong,
    Spawned(Vec<u8>),
}

impl Client {
    /// Exchanges hellos, then reads and writes in tasks of `tasks`. The `generation` is above that of every
    /// server that spoke to this hand before.
    pub(super) async fn connect(
        mut stream: UnixStream,
        generation: u32,
        tasks: &TaskTracker,
    ) -> Result<Self, Error> {
        let doing = || "talk to the hand".to_owned();
        let read = |result: io::Result<(FromHand, Vec<u8>)>| result.doing(doing);
        let (hello, _) = read(read_frame(&mut stream).await)?;
        let FromHand::Hello {
            version: version @ OLDEST..=VERSION,
        } = hello
        else {
            return Err(io::Error::from(io::ErrorKind::InvalidData)).doing(doing);
        };
        // In the hand's words: it may be of an older build, and has outlived its server.
        let greeting = head(&ToHand::Hello { version }, 0).doing(doing)?;
        stream.write_all(&greeting).await.doing(doing)?;
        let (reader, writer) = stream.into_split();
        let (frames, queue) = mpsc::channel(QUEUED_FRAMES);
        let first = (u64::from(generation) << 32) | 1;
        let client = Self(Arc::new(Inner {
            frames,
            first,
            next: AtomicU64::new(first),
            table: Mutex::default(),
            over: CancellationToken::new(),
            left: Arc::default(),
            shells: Shells::of(version),
            version,
            paused: watch::channel(false).0,
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

    /// From now on a call that is given up here goes on there.
    pub(super) fn leave(&self) {
        self.0.left.store(true, Ordering::Relaxed);
    }

    /// What the hand speaks.
    pub(super) fn version(&self) -> u32 {
        self.0.version
    }

    /// Where what belongs to the provider's sandboxes runs.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    pub(super) fn is_open(&self) -> bool {
        !self.0.over.is_cancelled()
    }

    /// Cancelled when the conversation is over, for whatever reason.
    pub(super) async fn ended(&self) {
        self.0.over.cancelled().await;
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
        let answered = self.0.within(PING, async {
            request.send(&ToHand::Ping { id }, Bytes::new()).await?;
            let answer = (&mut request.answer).await;
            request.answered(answer)
        });
        match answered.await {
            Some(answer) => match answer? {
                Answer::Pong => Ok(()),
                _ => Err(self.0.broken()),
            },
            None => Err(Error::Lost),
        }
    }

    /// The hand said what no honest one says.
    pub(super) fn break_off(&self) -> Error {
        self.0.broken()
    }

    /// What time limits go by: whether the hand is paused.
    pub(super) fn hold(&self, paused: bool) {
        self.0.paused.send_replace(paused);
    }

    pub(super) fn is_held(&self) -> bool {
        *self.0.paused.borrow()
    }
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
            && !self.inner.is_left()
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
    /// What `work` gives, or `None` after `limit`, in which pauses do not count.
    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut left) = (pin!(work), limit);
        let mut paused = self.paused.subscribe();
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                // Its sender is here: it never closes.
                _ = paused.wait_for(|paused| !paused) => {}
            }
            let begun = Instant::now();
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                _ = paused.wait_for(|paused| *paused) => left = left.saturating_sub(begun.elapsed()),
                () = sleep(left) => return None,
            }
        }
    }

    fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

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
    pub(super) fn try_send(&self, message: &ToHand, body: &Bytes) -> bool {
        let body = body.clone();
        head(message, body.len())
            .is_ok_and(|head| self.frames.try_send(Frame { head, body }).is_ok())
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

    /// Whether this side has ever used the id.
    fn knows(&self, id: Id) -> bool {
        (self.first..self.next.load(Ordering::Relaxed)).contains(&id)
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
                    Refusal::Missing => Error::Missing { problem },
                };
                (id, Answer::Refused(refused))
            }
            FromHand::Unknown { id } => (id, Answer::Unknown),
            FromHand::Pong { id } => (id, Answer::Pong),
            FromHand::Spawned { id } => (id, Answer::Spawned(body)),
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
    while let Some(Frame { mut head, body }) = queue.recv().await {
        let written = async {
            if body.len() <= COPIED {
                head.extend_from_slice(&body);
                return writer.write_all(&head).await;
            }
            writer.write_all(&head).await?;
            writer.write_all(&body).await
        };
        if written.await.is_err() {
            return;
        }
    }
}

async fn read_all(reader: OwnedReadHalf, inner: &Inner) {
    // Prefix and header by one call; a long body goes past it.
    let mut reader = BufReader::with_capacity(READ_AHEAD, reader);
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
    // Not filled with zeros before: that would be half of the work.
    let mut body = Vec::with_capacity(body_len);
    let mut room = (&mut body).limit(body_len);
    while room.has_remaining_mut() {
        if from.read_buf(&mut room).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((serde_json::from_slice(&header)?, body))
}
