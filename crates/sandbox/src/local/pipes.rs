//! Owns the streams of one process between its caller and the hand's frames. It buffers at most a window.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use hand::limits::{CHUNK_BYTES, WINDOW_CHUNKS};
use hand::wire::{FromHand, Id, Stream, ToHand};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{Semaphore, mpsc, watch};

use super::client::{Broken, Inner};
use crate::limits::STREAM_BYTES;
use crate::process::{ExitStatus, Order, Process};

/// Bytes that are read of an input at first; more when it has as many.
const FIRST_BYTES: usize = 4 << 10;

/// The hand's side: where its frames about one process go.
pub(super) struct Pipes {
    stdout: Option<mpsc::Sender<Vec<u8>>>,
    stderr: Option<mpsc::Sender<Vec<u8>>>,
    /// Chunks that may be sent to its standard input.
    stdin: Arc<Semaphore>,
    exit: watch::Sender<Option<ExitStatus>>,
}

/// Both sides, and the tasks between them.
pub(super) fn open(inner: &Arc<Inner>, id: Id) -> (Pipes, Process) {
    let (stdin_ours, stdin_theirs) = duplex(STREAM_BYTES);
    let stdin = Arc::new(Semaphore::new(WINDOW_CHUNKS));
    inner.tasks.spawn(feed(
        Arc::clone(inner),
        id,
        stdin_theirs,
        Arc::clone(&stdin),
    ));
    let (stdout, stdout_reader) = output(inner, id, Stream::Stdout);
    let (stderr, stderr_reader) = output(inner, id, Stream::Stderr);
    let (exit, exited) = watch::channel(None);
    let killed = Arc::clone(inner);
    let process = Process {
        stdin: Some(Box::new(stdin_ours)),
        stdout: Some(Box::new(stdout_reader)),
        stderr: Some(Box::new(stderr_reader)),
        exit: exited,
        control: Box::new(move |order| command(&killed, id, order)),
        left: Arc::default(),
    };
    let pipes = Pipes {
        stdout: Some(stdout),
        stderr: Some(stderr),
        stdin,
        exit,
    };
    (pipes, process)
}

impl Pipes {
    pub(super) fn take(&mut self, message: &FromHand, body: Vec<u8>) -> Result<(), Broken> {
        match message {
            FromHand::Chunk { stream, .. } => {
                // A hand that has been taken over must not fill our memory with what it may queue.
                if body.len() > CHUNK_BYTES {
                    return Err(Broken);
                }
                // Full means that the hand ignored its window.
                let sender = self.sender(*stream).as_ref().ok_or(Broken)?;
                match sender.try_send(body) {
                    Err(mpsc::error::TrySendError::Full(_)) => Err(Broken),
                    _ => Ok(()),
                }
            }
            FromHand::End { stream, .. } => {
                self.sender(*stream).take();
                Ok(())
            }
            FromHand::StdinAck { .. } => {
                if self.stdin.available_permits() >= WINDOW_CHUNKS {
                    return Err(Broken);
                }
                self.stdin.add_permits(1);
                Ok(())
            }
            FromHand::Exited { .. } if self.exit.borrow().is_some() => Err(Broken),
            FromHand::Exited {
                code,
                signal,
                timed_out,
                ..
            } => {
                self.stdin.close();
                self.exit.send_replace(Some(ExitStatus {
                    code: *code,
                    signal: *signal,
                    timed_out: *timed_out,
                }));
                Ok(())
            }
            _ => Err(Broken),
        }
    }

    pub(super) fn are_done(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none() && self.exit.borrow().is_some()
    }

    fn sender(&mut self, stream: Stream) -> &mut Option<mpsc::Sender<Vec<u8>>> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        // A conversation that ended must not leave the feeding task waiting.
        self.stdin.close();
    }
}

/// Passes an order on. Never waits: with a full queue a task waits for it.
fn command(inner: &Arc<Inner>, id: Id, order: Order) {
    let mut body = Bytes::new();
    let message = match order {
        Order::Kill => ToHand::Kill { id },
        Order::Mark { heard, note } => {
            body = note.into();
            ToHand::Mark { id, heard }
        }
        Order::Signal(signal) => ToHand::Signal { id, signal },
        Order::Resize(size) => ToHand::Resize { id, size },
    };
    if !inner.try_send(&message, &body) {
        let waiting = Arc::clone(inner);
        inner.tasks.spawn(async move {
            // Gone is as good as killed.
            let _ = waiting.send(&message, body).await;
        });
    }
}

fn output(inner: &Arc<Inner>, id: Id, stream: Stream) -> (mpsc::Sender<Vec<u8>>, DuplexStream) {
    let (tx, mut chunks) = mpsc::channel::<Vec<u8>>(WINDOW_CHUNKS);
    let (mut writer, reader) = duplex(STREAM_BYTES);
    let inner_of_task = Arc::clone(inner);
    inner.tasks.spawn(async move {
        let mut wanted = true;
        while let Some(chunk) = chunks.recv().await {
            // Nobody reads any more: the process must not be held up by that.
            wanted = wanted && writer.write_all(&chunk).await.is_ok();
            let ack = ToHand::Ack { id, stream };
            if inner_of_task.send(&ack, Bytes::new()).await.is_err() {
                // What has arrived is still delivered, though nothing new will come.
                chunks.close();
            }
        }
    });
    (tx, reader)
}

async fn feed(inner: Arc<Inner>, id: Id, mut from: DuplexStream, window: Arc<Semaphore>) {
    // Most programs are given nothing, or little.
    let mut chunk = BytesMut::with_capacity(FIRST_BYTES);
    loop {
        if chunk.len() == chunk.capacity() {
            chunk.reserve(CHUNK_BYTES);
        }
        chunk.clear();
        let most = chunk.capacity().min(CHUNK_BYTES);
        let mut room = (&mut chunk).limit(most);
        let read: io::Result<usize> = from.read_buf(&mut room).await;
        let Ok(n) = read else { return };
        // Closed: the process has ended, and so does the pipe.
        let Ok(permit) = window.acquire().await else {
            return;
        };
        permit.forget();
        if n == 0 {
            // The process may have ended first.
            let _ = inner.send(&ToHand::StdinEnd { id }, Bytes::new()).await;
            return;
        }
        let body = Bytes::copy_from_slice(&chunk);
        if inner.send(&ToHand::Stdin { id }, body).await.is_err() {
            return;
        }
    }
}
