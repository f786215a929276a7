//! Owns the lines to the servers that look after this sandbox, one after another. It reads no frame.
//!
//! A server that comes later gets a line of its own. The former one is cut then: nothing that was meant for
//! one server reaches another, and nothing of a dead one can hold up the next.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::wire::{FromHand, write_frame};

/// Stack of the thread that waits for the next line.
const STACK: usize = 64 * 1024;

/// The way back to one server. What cannot be sent is dropped: that server is gone, and the next one asks.
#[derive(Clone)]
pub(crate) struct Sender(Arc<Line>);

struct Line {
    stream: UnixStream,
    /// Held over a whole frame.
    writing: Mutex<()>,
}

impl Sender {
    pub(crate) fn new(stream: UnixStream) -> Self {
        let writing = Mutex::default();
        Self(Arc::new(Line { stream, writing }))
    }

    pub(crate) fn send(&self, message: &FromHand, body: &[u8]) {
        let _writing = self
            .0
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let _ = write_frame(&mut &self.0.stream, message, body);
    }

    /// Whether both lead to the same server.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Where what it says is read.
    pub(crate) fn incoming(&self) -> &UnixStream {
        &self.0.stream
    }

    /// Ends the conversation, also in the middle of a frame.
    pub(crate) fn cut(&self) {
        // It fails only where there is nothing left to cut.
        let _ = self.0.stream.shutdown(Shutdown::Both);
    }
}

/// The lines, in the order in which they come.
pub(crate) struct Lines(Receiver<Sender>);

impl Lines {
    /// `first`, and then those that the supervisor sends over `handover`.
    pub(crate) fn open(first: OwnedFd, handover: OwnedFd) -> io::Result<Self> {
        let (tx, lines) = sync_channel(1);
        let first = Sender::new(UnixStream::from(first));
        // There is room for one.
        let _ = tx.send(first.clone());
        thread::Builder::new()
            .name("lines".into())
            .stack_size(STACK)
            .spawn(move || pass_on(&handover, first, &tx))?;
        Ok(Self(lines))
    }

    /// Waits for the next one; `None` when the supervisor has gone.
    pub(crate) fn next(&self) -> Option<Sender> {
        self.0.recv().ok()
    }
}

fn pass_on(handover: &OwnedFd, first: Sender, tx: &SyncSender<Sender>) {
    let mut current = first;
    while let Some(line) = receive(handover) {
        current.cut();
        current = Sender::new(UnixStream::from(line));
        if tx.send(current.clone()).is_err() {
            return;
        }
    }
    current.cut();
}

/// The next line; `None` when the other side has gone.
fn receive(handover: &OwnedFd) -> Option<OwnedFd> {
    loop {
        let mut byte = [0];
        let mut parts = [IoSliceMut::new(&mut byte)];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        match recvmsg(handover, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => continue,
            Err(_) => return None,
            Ok(got) if got.bytes == 0 => return None,
            Ok(_) => {}
        }
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(mut rights) = message
                && let Some(line) = rights.next()
            {
                return Some(line);
            }
        }
    }
}
