//! The program that is PID 1: reads requests, runs each on a thread of its own, reaps everything.
//! It never exits while its socket is open, and everything inside ends with it.

mod ansi;
mod calls;
mod process;
mod reaper;
mod shell;
mod tools;
mod tree;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sys::Standard;

use crate::wire::{FromHand, ToHand, VERSION, read_frame, write_frame};
use calls::Calls;
use process::Processes;
use reaper::Reaper;

/// The way back to the server. A frame that cannot be sent means that the server is gone; the
/// reading side then sees the end and the hand with it.
#[derive(Clone)]
pub(crate) struct Sender(Arc<Mutex<UnixStream>>);

impl Sender {
    pub(crate) fn send(&self, message: &FromHand, body: &[u8]) {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = write_frame(&mut *stream, message, body);
    }
}

/// The role `hand`. Returns when the server closed the socket or broke the protocol.
#[must_use]
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    // First of all: nobody inside may look into this process. execve has reset it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_name(c"hand")?;
    // The set-up put the socket there, and /dev/null at the other two.
    let null = io::stdout();
    let socket = sys::take_standard(Standard::Input, null.as_fd())?;
    let mut stream = UnixStream::from(socket);
    let sender = Sender(Arc::new(Mutex::new(stream.try_clone()?)));
    let reaper = Reaper::start()?;
    let calls = Calls::new(sender.clone(), reaper.clone());
    let processes = Processes::new(sender.clone(), reaper);
    sender.send(&FromHand::Hello { version: VERSION }, &[]);
    match read_frame::<ToHand>(&mut stream)? {
        Some((ToHand::Hello { version: VERSION }, _)) => {}
        _ => return Err(io::ErrorKind::Unsupported.into()),
    }
    while let Some((message, body)) = read_frame::<ToHand>(&mut stream)? {
        match message {
            ToHand::Hello { .. } => return Err(io::ErrorKind::InvalidData.into()),
            ToHand::Call { id, tool } => calls.start(id, tool, body),
            ToHand::Ping { id } => sender.send(&FromHand::Pong { id }, &[]),
            ToHand::Cancel { id } => calls.cancel(id),
            ToHand::Spawn { id } => processes.start(id, &body),
            ToHand::Stdin { id } => processes.stdin(id, body),
            ToHand::StdinEnd { id } => processes.stdin_end(id),
            ToHand::Ack { id, stream } => processes.ack(id, stream),
            ToHand::Kill { id } => processes.kill(id),
        }
    }
    Ok(())
}
