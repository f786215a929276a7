//! The program that is PID 1: reads requests, runs each on a thread of its own, reaps everything.
//! It outlives its server and ends with its supervisor, and everything inside ends with it.

mod ansi;
mod asks;
mod calls;
mod clock;
mod files;
mod line;
mod notes;
mod output;
mod piped;
mod process;
mod reaper;
mod shell;
mod terminal;
mod tools;
mod transfer;
mod tree;
mod watch;
mod workers;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sys::Standard;

use crate::wire::{FromHand, ToHand, VERSION, read_frame};
use asks::Asks;
use calls::{Calls, Name};
use clock::Clock;
use line::Lines;
pub(crate) use line::Sender;
use notes::{KEPT, Notes};
use process::Processes;
use reaper::Reaper;
use transfer::Transfers;

/// The role `hand`. Returns when the supervisor has gone.
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
    // The set-up put /dev/null at the third.
    let null = io::stderr();
    let first = sys::take_standard(Standard::Input, null.as_fd())?;
    let handover = sys::take_standard(Standard::Output, null.as_fd())?;
    let reaper = Reaper::start()?;
    let (clock, notes) = (Clock::default(), Arc::new(Notes::open(Path::new(KEPT))));
    let calls = Calls::new(reaper.clone(), &clock, Arc::clone(&notes));
    let lines = Lines::open(first, handover)?;
    workers::reserve()?;
    while let Some(sender) = lines.next() {
        let transfers = Transfers::new(sender.clone());
        let asks = Asks::new(
            sender.clone(),
            calls.clone(),
            clock.clone(),
            notes.clone(),
            transfers.clone(),
        );
        let server = Server {
            calls: calls.clone(),
            asks,
            processes: Processes::new(sender.clone(), reaper.clone(), clock.clone()),
            transfers,
            sender,
        };
        // Whoever breaks the protocol loses its line and nothing else: the next server gets another.
        let _ = server.converse();
        server.leave();
    }
    Ok(())
}

/// What belongs to one conversation.
struct Server {
    sender: Sender,
    calls: Calls,
    asks: Asks,
    processes: Processes,
    transfers: Transfers,
}

impl Server {
    /// Does what the server says until it hangs up or breaks the protocol.
    fn converse(&self) -> io::Result<()> {
        let mut incoming = self.sender.incoming();
        self.sender.send(&FromHand::Hello { version: VERSION }, &[]);
        match read_frame::<ToHand>(&mut incoming)? {
            Some((ToHand::Hello { version: VERSION }, _)) => {}
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        while let Some((message, body)) = read_frame::<ToHand>(&mut incoming)? {
            if matches!(message, ToHand::Hello { .. }) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.take(message, body);
        }
        Ok(())
    }

    fn take(&self, message: ToHand, body: Vec<u8>) {
        let Self {
            sender,
            calls,
            asks,
            processes,
            transfers,
        } = self;
        match message {
            // Refused before.
            ToHand::Hello { .. } => {}
            ToHand::Call { id, tool, key } => calls.start(sender, Name { id, key }, tool, body),
            ToHand::Resume { id, key } => calls.resume(sender, id, &key),
            ToHand::Taken { key } => calls.taken(&key),
            ToHand::Ping { id } => sender.send(&FromHand::Pong { id }, &[]),
            ToHand::Cancel { id } => calls.cancel(sender, id),
            ToHand::Ask { id } => asks.start(id, &body),
            ToHand::Spawn { id } => processes.start(id, &body),
            ToHand::Open { id } => transfers.start(id, &body),
            ToHand::Signal { id, signal } => processes.signal(id, signal),
            ToHand::Resize { id, size } => processes.resize(id, size),
            // One or the other knows the id, or it is over.
            ToHand::Stdin { id } if processes.has(id) => processes.stdin(id, body),
            ToHand::Stdin { id } => transfers.stdin(id, body),
            ToHand::StdinEnd { id } if processes.has(id) => processes.stdin_end(id),
            ToHand::StdinEnd { id } => transfers.stdin_end(id),
            ToHand::Ack { id, stream } if processes.has(id) => processes.ack(id, stream),
            ToHand::Ack { id, stream } => transfers.ack(id, stream),
            ToHand::Kill { id } if processes.has(id) => processes.kill(id),
            ToHand::Kill { id } => transfers.kill(id),
        }
    }

    /// The line is no more: what only this server wanted ends with it. What has a key goes on.
    fn leave(&self) {
        self.sender.cut();
        self.calls.leave(&self.sender);
        self.processes.kill_all();
        self.transfers.kill_all();
    }
}
