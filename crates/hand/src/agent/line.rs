//! Owns the lines to the servers that look after this sandbox, one after another. It reads no frame.
//!
//! A server that comes later gets a line of its own. The former one is left then: nothing that was meant for
//! one server reaches another, and nothing of a dead one can hold up the next.

use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recv, recvmsg};

use crate::wire::{FromHand, write_frame};

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

    /// Sends whole frames that stand one behind the other.
    pub(crate) fn say(&self, frames: &[u8]) {
        let _writing = self
            .0
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let _ = (&self.0.stream).write_all(frames);
    }

    /// Whether both lead to the same server.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Ends the conversation, also in the middle of a frame.
    pub(crate) fn cut(&self) {
        // It fails only where there is nothing left to cut.
        let _ = self.0.stream.shutdown(Shutdown::Both);
    }
}

/// The lines, in the order in which they come.
pub(crate) struct Lines {
    first: Option<Sender>,
    handover: OwnedFd,
}

impl Lines {
    /// `first`, and then those that the supervisor sends over `handover`.
    pub(crate) fn open(first: OwnedFd, handover: OwnedFd) -> Self {
        let first = Some(Sender::new(UnixStream::from(first)));
        Self { first, handover }
    }

    /// Waits for the next one; `None` when the supervisor has gone.
    pub(crate) fn next(&mut self) -> Option<Sender> {
        let first = self.first.take();
        first.or_else(|| receive(&self.handover).map(|line| Sender::new(UnixStream::from(line))))
    }

    /// What the server at the other end of `sender` says. It ends, also in the middle of a frame, when there is another
    /// line, or no supervisor any more.
    pub(crate) fn incoming<'a>(&'a self, sender: &'a Sender) -> impl Read + 'a {
        Incoming {
            line: &sender.0.stream,
            handover: &self.handover,
        }
    }
}

struct Incoming<'a> {
    line: &'a UnixStream,
    handover: &'a OwnedFd,
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(self.line, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, read)) => return Ok(read),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
            let mut both = [
                PollFd::new(self.line, PollFlags::IN),
                PollFd::new(self.handover, PollFlags::IN),
            ];
            match poll(&mut both, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            if !both[1].revents().is_empty() {
                return Ok(0);
            }
        }
    }
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
